"""What `init` takes a field for: by its values and by its name."""

import numpy as np

from jobs.init.features import find_features
from jobs.init.fields import Field, Lines
from jobs.init.times import late_times, lateness_ms, time_field

NOBODY = np.zeros(100, dtype=bool)


def guessed(name, values, positive=None, flags_tell=False):
    lines = Lines.of({name: value, "other": n} for n, value in enumerate(values))
    positive = np.zeros(len(values), dtype=bool) if positive is None else positive
    (found,) = find_features(lines, positive, {"other"}, flags_tell)
    return found.kind, found.setting


def test_whole_numbers_are_ids_by_name_and_then_by_their_number():
    many = [n * n for n in range(100)]
    assert guessed("video_id", [n % 60 for n in range(100)]) == ("id", "")
    assert guessed("x", [n % 20 for n in range(100)]) == ("id", "")
    assert guessed("x", [n % 21 for n in range(100)]) == ("number", "none")
    assert guessed("days", [n % 3 for n in range(100)]) == ("number", "none")
    assert guessed("price", many) == ("number", "none")
    assert guessed("request_id", many) == ("out", "")


def test_long_tails_from_0_on_get_a_logarithm():
    tail = [1000.0 if n == 0 else 1.0 * (n % 5) for n in range(100)]
    assert guessed("x", tail) == ("number", "log1p")
    assert guessed("x", [number - 1 for number in tail]) == ("number", "none")


def test_texts_that_are_numbers_count_as_such_but_codes_with_a_leading_0_are_ids():
    assert guessed("cost", [f"{n}.5" for n in range(100)]) == ("number", "none")
    assert guessed("plz", [f"0{n % 30}" for n in range(100)]) == ("id", "")


def test_lists_and_texts_that_are_split():
    assert guessed("tags", [["a", "b", "c"][: n % 4] for n in range(100)]) == ("bag", "{most: 6}")
    assert guessed("e", [[0.5 * n, 1.0] for n in range(100)]) == ("vector", "2")
    assert guessed("e", [[0.5] * (1 + n % 2) for n in range(100)]) == ("out", "")
    genres = ["|".join("abcd"[place] for place in range(4) if n >> place & 1) for n in range(100)]
    assert guessed("genres", genres) == ("bag", '{split: "|", most: 8}')


def test_what_stands_only_with_an_outcome_is_one():
    positive = np.arange(100) % 10 == 0
    assert guessed("stay", [int(n % 10 == 0) * n for n in range(100)], positive) == ("outcome", "")
    assert guessed("watch_seconds", [n % 7 + 50.0 * (n % 10 == 0) for n in range(100)], positive) == ("outcome", "")
    assert guessed("seconds", [n % 7 + 0.5 for n in range(100)], positive) == ("number", "none")


def test_another_flag_is_an_outcome_only_beside_flags_that_tell_them():
    flags = [n % 2 for n in range(100)]
    assert guessed("liked", flags, NOBODY, flags_tell=True) == ("outcome", "")
    assert guessed("is_mobile", flags, NOBODY) == ("id", "")


def moments(values):
    return Field("t", values).moments


def test_times_are_told_by_their_size_or_form_between_2000_and_2100():
    assert [moments([value]).form for value in (1_700_000_000, 1_700_000_000.5, 1_700_000_000_000)] == ["s", "s", "ms"]
    assert moments([1_700_000_000_000_000]).form == "us"
    assert moments(["1700000000"]).ms.tolist() == [1_700_000_000_000]
    assert moments(["2023-11-14 22:13:20", None]).ms[0] == 1_700_000_000_000
    assert moments(["2023-11-14T23:13:20+01:00"]).ms[0] == 1_700_000_000_000
    assert (moments(["2023-11-14T22:13:20Z"]).offset, moments(["2023-11-14T22:13:20"]).offset) == (True, False)
    assert [moments([value]) for value in (20_220_425, "2023-11-14", 900_000_000, "soon")] == [None] * 4


def test_the_time_is_called_so_and_stands_in_every_line():
    start = 1_700_000_000
    rows = [{"id": start + 997 * n % 101, "paid_at": start + n if n % 9 == 0 else None, "ts": start + n} for n in
            range(100)]  # fmt: skip
    lines = Lines.of(rows)
    assert time_field(lines) == "ts"
    assert [field.name for field in late_times(lines, "ts")] == ["paid_at"]
    assert time_field(Lines.of({"n": n} for n in range(9))) is None


def test_lateness_holds_the_disorder_and_the_span_of_what_is_in_no_order():
    hours = np.arange(10.0) * 3_600_000
    assert lateness_ms([hours]) == (60_000, 0.0)
    swapped = np.arange(10.0)
    swapped[[3, 4]] = [400_000, 0]  # minutes would be enough; one step back of nine is a slip
    assert lateness_ms([swapped]) == (600_000, 400_000.0)
    assert lateness_ms([hours, hours[[5, 0, 9, 1, 8, 2, 7, 3, 6, 4]]]) == (86_400_000, 8 * 3_600_000.0)
