"""Transforms and parts of the time, by hand."""

from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np

from streamctr.features.transforms import local_ms, time_part, transform
from streamctr.names import Names


def parts(text, zone):
    """Hour and weekday in `zone` of an ISO moment."""
    time_ms = np.array([round(datetime.fromisoformat(text).timestamp() * 1000)])
    local = local_ms(time_ms, ZoneInfo(zone))
    return int(time_part(local, "hour")[0]), int(time_part(local, "weekday")[0])


def test_hour_and_weekday_are_those_of_a_clock_in_the_zone():
    assert parts("2022-04-25T16:30:00Z", "UTC") == (16, 0)
    assert parts("2022-04-25T16:30:00Z", "Asia/Shanghai") == (0, 1)
    assert parts("2022-04-25T18:45:00Z", "Asia/Kathmandu") == (0, 1)  # UTC+5:45


def test_the_hour_that_a_zone_skips_is_skipped():
    assert parts("2022-03-27T00:59:59Z", "Europe/Berlin") == (1, 6)
    assert parts("2022-03-27T01:00:00Z", "Europe/Berlin") == (3, 6)


def test_a_negative_number_is_missing_under_log1p_and_kept_without():
    raw = np.array([np.e - 1, -0.5, np.nan])
    np.testing.assert_allclose(transform(raw, "log1p"), [1.0, np.nan, np.nan], rtol=1e-6)
    np.testing.assert_allclose(transform(raw, "none"), [np.e - 1, -0.5, np.nan], rtol=1e-6)


def test_names_keep_the_first_values_released_and_forget_the_rest():
    names = Names(("tab",), limit=2)
    names.offer("tab", {1: "one", 2: "two", 3: "three"})
    names.claim("tab", np.array([3, 3, 1, 2], np.uint64))
    assert [names.text("tab", value) for value in (3, 1, 2)] == ["three", "one", "#0000000000000002"]
    assert not names.wants("tab")
    assert b"two" not in names.state()["names"].tobytes()


def test_names_keep_texts_of_members_until_their_cross_has_its_values():
    names = Names(("a*b", "a"), limit=1, parts={"a*b": ("a", "b"), "a*c": ("a", "c")})
    assert [names.wants(field) for field in ("a*b", "a", "b", "c")] == [True, True, True, False]
    names.offer("a", {1: "one", 2: "two"})
    names.claim("a", np.array([1], np.uint64))
    assert names.wants("a")  # its own value is known, that of the cross is not
    assert [names.offered("a", value) for value in (2, 1, 0, 3)] == ["two", "one", "missing", "#0000000000000003"]
    names.offer("a*b", {9: "two x three"})
    names.claim("a*b", np.array([9], np.uint64))
    assert not names.wants("a")
    assert b"two" not in names.state()["names"].tobytes().replace(b"two x three", b"")


def test_an_empty_text_is_a_name_like_any_other():
    names = Names(("a*b",), parts={"a*b": ("a", "b")})
    names.offer("a", {1: ""})
    assert names.offered("a", 1) == ""
