"""What a field's value is good for, whatever the format that it came in."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from streamctr.decode.cells import Cells
from streamctr.decode.moments import NO_TIME
from streamctr.decode.values import bag, flags, ids, numbers, texts, times, vector
from streamctr.hashing import hash_text, mix
from streamctr.schema import BagConfig, TimeConfig

NOW_MS = 1_650_812_741_436


def cells(*values, kind=None):
    return Cells((pa.array(values, kind),))


def integer_id(value):
    return int(mix(np.array([value]).view(np.uint64))[0])


def test_an_integer_id_is_one_however_it_is_written():
    written = Cells((pa.array(["7", "007", "-7", "-0", None]), pa.array([None, None, None, None, 7])))
    column = ids(written, 5, integer=True)
    assert column.values.tolist() == [integer_id(value) for value in (7, 7, -7, 0, 7)]
    assert not column.faults
    assert not column.missing.any()


def test_integers_reach_to_the_ends_of_64_bits_and_no_further():
    column = ids(cells("9223372036854775807", "-9223372036854775808", "9223372036854775808", "0" * 30 + "5"), 4, True)
    assert column.values.tolist() == [integer_id(2**63 - 1), integer_id(-(2**63)), 0, integer_id(5)]
    assert column.faults == {2: 'is "9223372036854775808", not a whole number'}


@pytest.mark.parametrize("text", ["", " 7", "7 ", "+7", "7.0", "0x7", "1_000", "٧", "7\n"])
def test_other_texts_are_no_integers(text):
    assert list(ids(cells(text), 1, integer=True).faults) == [0]


def test_the_integer_that_would_be_hashed_to_missing_is_not():
    # splitmix64's finaliser is a bijection that takes -GOLDEN to 0
    value = np.array([0 - 0x9E3779B97F4A7C15 & (2**64 - 1)], np.uint64).view(np.int64)
    assert mix(value.view(np.uint64)).tolist() == [0]
    assert ids(cells(int(value[0])), 1, integer=True).values.tolist() == [1]


@pytest.mark.parametrize("value", [1.0, True, [1]])
def test_what_is_no_whole_number_is_no_integer_id(value):
    assert ids(cells(value), 1, integer=True).faults[0].endswith(", not a whole number")


def test_text_ids_of_several_types_are_their_canonical_texts():
    mixed = Cells((pa.array(["a", None, None]), pa.array([None, 7, None]), pa.array([None, None, True])))
    column = ids(mixed, 3)
    assert column.values.tolist() == [hash_text(text) for text in ("a", "7", "true")]
    assert column.named() == {hash_text(text): text for text in ("a", "7", "true")}
    assert texts(mixed, 3)[0].to_pylist() == ["a", "7", "true"]


def test_what_no_array_holds_is_a_fault_and_not_missing():
    column = ids(Cells((pa.array(["a", None, None]),), {1: "an object"}), 3)
    assert column.faults == {1: "is an object"}
    assert column.missing.tolist() == [False, False, True]


NOON_S = 1_772_366_400
"""2026-03-01T12:00:00Z."""


@pytest.mark.parametrize(("unit", "per_s"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_a_timestamp_as_an_id_is_its_text_to_the_millisecond_with_a_z_where_its_type_has_a_zone(unit, per_s):
    ticks = [NOON_S * per_s, None]
    for zone, text in ((None, "2026-03-01T12:00:00.000"), ("Asia/Shanghai", "2026-03-01T12:00:00.000Z")):
        stamps = cells(*ticks, kind=pa.timestamp(unit, zone))
        assert texts(stamps, 2)[0].to_pylist() == [text, None]
        column = ids(stamps, 2)
        assert (column.values.tolist(), column.missing.tolist()) == ([hash_text(text), 0], [False, True])
        assert (column.named(), column.faults) == ({hash_text(text): text}, {})


def test_a_timestamp_of_nanoseconds_is_an_id_cut_to_the_millisecond_and_nothing_else():
    stamps = cells(NOON_S * 10**9 + 1_999_999, kind=pa.timestamp("ns"))
    assert texts(stamps, 1)[0].to_pylist() == ["2026-03-01T12:00:00.001"]
    shown = 'is "2026-03-01T12:00:00.001", not '
    assert ids(stamps, 1, integer=True).faults == {0: shown + "a whole number"}
    assert flags(stamps, 1).faults == {0: shown + "0, 1, true or false"}
    assert numbers(stamps, 1).faults == {0: "is a timestamp"}
    assert vector(stamps, 1, 2).faults == {0: "is not a list of 2 numbers"}


def test_timestamps_beyond_all_calendars_are_ids_too():
    for unit, tick in (("s", 2**62), ("ns", -(2**63) + 1), ("us", 2**63 - 1)):
        assert not ids(Cells((pa.array([tick]).cast(pa.timestamp(unit)),)), 1).faults


def test_a_bag_keeps_the_first_ids_in_order_and_drops_nulls():
    column = bag(cells(["a", None, "b", "c"], [], None, [""]), 4, BagConfig(most=2))
    assert column.values.tolist() == [[hash_text("a"), hash_text("b")], [0, 0], [0, 0], [hash_text(""), 0]]
    assert column.missing.tolist() == [False, True, True, False]


def test_a_text_is_split_where_the_bag_says_and_stripped():
    expected = [hash_text("a b"), hash_text("c"), 0]
    assert bag(cells(" a b |c| |"), 1, BagConfig(split="|", most=3)).values.tolist() == [expected]
    assert bag(cells("a,b "), 1, BagConfig(split="", most=1)).values.tolist() == [[hash_text("a,b")]]


def test_a_single_id_is_a_bag_of_one_and_items_may_be_declared_integers():
    assert bag(cells(7, None), 2, BagConfig(most=1)).values.tolist() == [[hash_text("7")], [0]]
    assert bag(cells("07, 8"), 1, BagConfig(most=2), integer=True).values.tolist() == [[integer_id(7), integer_id(8)]]


def test_an_item_that_is_no_id_is_a_fault_of_its_message_also_behind_the_last_that_counts():
    column = bag(cells(["1", "2"], ["1", "x"]), 2, BagConfig(most=1), integer=True)
    assert column.faults == {1: 'has an item that is "x", not a whole number'}
    assert column.values.tolist() == [[integer_id(1)], [0]]


def test_numbers_may_be_texts_and_booleans():
    mixed = Cells((pa.array(["3.5", "1e-3", "-.5", "+2.", None, None]), pa.array([*[None] * 4, True, None])))
    column = numbers(mixed, 6)
    assert column.values.tolist()[:5] == [3.5, 0.001, -0.5, 2.0, 1.0]
    assert column.missing.tolist() == [False] * 5 + [True]
    assert not column.faults


@pytest.mark.parametrize("text", ["", " 1", "1 ", "nan", "inf", "1e400", "1_0", "0x1", "1,5", "1e", "."])
def test_other_texts_are_no_numbers(text):
    assert numbers(cells(text), 1).faults == {0: f'is "{text}", not a number'}


def test_a_number_that_is_not_finite_is_none():
    column = numbers(cells(float("inf"), 1.0), 2)
    assert column.faults == {0: "is inf, not a finite number"}
    assert np.isnan(column.values).tolist() == [True, False]


def test_a_long_value_is_shortened_in_its_fault():
    assert numbers(cells("x" * 41), 1).faults == {0: f'is "{"x" * 40}...", not a number'}


@pytest.mark.parametrize("text", ["[0.5, 2]", "0.5 2", "0.5,2", " [ 0.5 ,  2 ] "])
def test_a_vector_may_be_a_text(text):
    assert vector(cells(text), 1, 2).values.tolist() == [[0.5, 2.0]]


def test_a_vector_of_another_size_or_with_a_hole_is_a_fault_and_a_missing_one_is_nan():
    column = vector(cells([1.0], [1.0, None], None, [], [1.0, 2.0]), 5, 2)
    assert column.faults == {0: "has 1 number, not 2", 1: "has an item that is missing", 3: "has 0 numbers, not 2"}
    assert column.missing.tolist() == [False, False, True, False, False]
    assert np.isnan(column.values[:4]).all()
    assert column.values[4].tolist() == [1.0, 2.0]


def test_a_number_or_a_list_of_booleans_is_no_vector():
    wanted = {0: "is not a list of 2 numbers"}
    assert vector(cells([True], []), 2, 2).faults == wanted | {1: "has 0 numbers, not 2"}
    assert vector(cells(7), 1, 2).faults == vector(cells([True, False]), 1, 2).faults == wanted


@pytest.mark.parametrize(
    ("unit", "value", "ms"),
    [
        ("ms", NOW_MS, NOW_MS),
        ("ms", str(NOW_MS), NOW_MS),
        ("s", 1_650_812_741.4356, NOW_MS),
        ("s", "1650812741.4356", NOW_MS),
        ("us", NOW_MS * 1000 + 999, NOW_MS),
        ("us", float(NOW_MS * 1000 + 999), NOW_MS),
        ("us", f"{NOW_MS}999", NOW_MS),
        ("s", "2022-04-24T15:05:41.436Z", NOW_MS),
    ],
)
def test_a_time_is_a_number_in_its_unit_or_a_text(unit, value, ms):
    column = times(cells(value, None), 2, TimeConfig(field="t", unit=unit))
    assert column.values.tolist() == [ms, NO_TIME]
    assert column.missing.tolist() == [False, True]


@pytest.mark.parametrize("value", [True, [1], float(NOW_MS), f"{NOW_MS}.5", "1e12", " 1650812741436", "nan"])
def test_other_values_are_no_times_in_ms(value):
    assert list(times(cells(value), 1, TimeConfig(field="t")).faults) == [0]


def test_a_time_in_the_wrong_unit_is_outside_the_bounds():
    for unit, value in (("ms", NOW_MS // 1000), ("s", NOW_MS), ("us", str(NOW_MS)), ("s", "9" * 300)):
        column = times(cells(value), 1, TimeConfig(field="t", unit=unit))
        assert column.faults == {
            0: f"is outside 2000 to 2100 (a number counts as {unit}); set time.unit, or write ISO-8601"
        }


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_a_timestamp_with_a_zone_is_an_instant_and_one_without_is_read_in_the_zone(unit):
    config = TimeConfig(field="t", zone="Asia/Shanghai")
    moment = datetime(2022, 4, 26, 8)
    there = times(cells(moment, None, kind=pa.timestamp(unit)), 2, config)
    instant = times(cells(moment.replace(tzinfo=UTC), kind=pa.timestamp(unit, "Europe/Berlin")), 1, config)
    assert there.values.tolist() == [1_650_931_200_000, NO_TIME]
    assert instant.values.tolist() == [1_650_931_200_000 + 8 * 3_600_000]


def test_what_a_timestamp_says_below_a_millisecond_is_cut_off():
    stamps = Cells((pa.array([1_650_931_200_000_999]).cast(pa.timestamp("us", "UTC")),))
    assert times(stamps, 1, TimeConfig(field="t")).values.tolist() == [1_650_931_200_000]


def test_a_timestamp_far_off_is_outside_the_bounds():
    far = times(Cells((pa.array([2**60, -(2**60)]).cast(pa.timestamp("s")),)), 2, TimeConfig(field="t"))
    assert list(far.faults) == [0, 1]


def test_flags_are_0_1_true_and_false_also_as_texts():
    mixed = Cells((pa.array(["0", "1", "true", "false", None, None]), pa.array([None] * 4 + [1, None])))
    column = flags(mixed, 6)
    assert column.values.tolist() == [False, True, True, False, True, False]
    assert column.missing.tolist() == [False] * 5 + [True]
    assert flags(cells(True, False), 2).values.tolist() == [True, False]


@pytest.mark.parametrize(("value", "text"), [("yes", '"yes"'), ("", '""'), (2, "2"), (1.0, "1.0"), ([1], "[1]")])
def test_other_values_are_no_flags(value, text):
    assert flags(cells(value), 1).faults == {0: f"is {text}, not 0, 1, true or false"}
