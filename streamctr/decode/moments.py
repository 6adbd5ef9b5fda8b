"""Event times: ISO-8601 texts and numbers to milliseconds since the epoch, by column. Legend: N events."""

from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamctr.kernel import kernel

I64 = NDArray[np.int64]

EARLIEST_MS: Final = 946_684_800_000
"""2000-01-01 UTC."""
LATEST_MS: Final = 4_102_444_800_000
"""2100-01-01 UTC; the bound is exclusive."""
NO_TIME: Final = np.iinfo(np.int64).min
"""Stands for a text that is no moment."""

_DAY_MS: Final = 86_400_000
_QUARTER_MS: Final = 900_000
_MONTH_DAYS: Final = np.array([31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])


@kernel
def _digits(data: NDArray[np.uint8], at: int, end: int, count: int) -> int:
    """The number that `count` digits stand for; -1 where they are not there."""
    if at + count > end:
        return -1
    value = 0
    for place in range(at, at + count):
        if data[place] < 0x30 or data[place] > 0x39:
            return -1
        value = value * 10 + int(np.int64(data[place])) - 0x30
    return value


@kernel
def _day(data: NDArray[np.uint8], at: int, end: int) -> int:
    """Days since the epoch of YYYY-MM-DD (Hinnant's days_from_civil); NO_TIME where it is no date."""
    year, month, day = _digits(data, at, end, 4), _digits(data, at + 5, end, 2), _digits(data, at + 8, end, 2)
    if year < 1 or month < 1 or month > 12 or day < 1 or data[at + 4] != 0x2D or data[at + 7] != 0x2D:
        return NO_TIME
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if day > _MONTH_DAYS[month - 1] or (month == 2 and day == 29 and not leap):
        return NO_TIME
    if month <= 2:
        year -= 1
    of_era = year % 400
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return year // 400 * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


@kernel
def _second(data: NDArray[np.uint8], at: int, end: int) -> tuple[int, int]:
    """Milliseconds of `:SS[.fraction]`, which may be absent, -1 where malformed; and the place behind."""
    if at >= end or data[at] != 0x3A:
        return 0, at
    second = _digits(data, at + 1, end, 2)
    if second < 0 or second > 59:
        return -1, at
    at += 3
    if at >= end or (data[at] != 0x2E and data[at] != 0x2C):
        return second * 1000, at
    at += 1
    if _digits(data, at, end, 1) < 0:
        return -1, at
    ms, unit = second * 1000, 100
    while _digits(data, at, end, 1) >= 0:
        ms, unit, at = ms + _digits(data, at, end, 1) * unit, unit // 10, at + 1
    return ms, at


@kernel
def _offset(data: NDArray[np.uint8], at: int, end: int) -> int:
    """Minutes east of UTC of Z, +HH, +HHMM or +HH:MM; NO_TIME where it is none of them."""
    sign = int(np.int64(data[at]))
    if sign | 0x20 == 0x7A:
        return 0 if at + 1 == end else NO_TIME
    if sign != 0x2B and sign != 0x2D:
        return NO_TIME
    hours, minutes = _digits(data, at + 1, end, 2), 0
    if at + 3 < end:
        behind = at + 4 if data[at + 3] == 0x3A else at + 3
        minutes = _digits(data, behind, end, 2) if behind + 2 == end else -1
    if hours < 0 or hours > 23 or minutes < 0 or minutes > 59:
        return NO_TIME
    return (hours * 60 + minutes) * (44 - sign)  # "+" is 43, "-" is 45


@kernel
def moment(data: NDArray[np.uint8], at: int, end: int) -> tuple[int, bool]:
    """Milliseconds of one text, NO_TIME where it is none; and whether it says no offset."""
    if end - at < 16:
        return NO_TIME, False
    day, hour, minute = _day(data, at, end), _digits(data, at + 11, end, 2), _digits(data, at + 14, end, 2)
    between = data[at + 10] | 0x20
    if day == NO_TIME or (between != 0x74 and data[at + 10] != 0x20) or data[at + 13] != 0x3A:
        return NO_TIME, False
    ms, at = _second(data, at + 16, end)
    if hour < 0 or hour > 23 or minute < 0 or minute > 59 or ms < 0:
        return NO_TIME, False
    offset = 0 if at == end else _offset(data, at, end)
    if offset == NO_TIME:
        return NO_TIME, False
    return day * _DAY_MS + (hour * 60 + minute - offset) * 60_000 + ms, at == end


@kernel
def _moments(data: NDArray[np.uint8], ends: NDArray[np.int32], ms: I64, local: NDArray[np.bool_]) -> None:
    for row in range(len(ms)):
        ms[row], local[row] = moment(data, int(ends[row]), int(ends[row + 1]))


def iso_ms(texts: Any, zone: ZoneInfo) -> I64:
    """Milliseconds of `YYYY-MM-DDTHH:MM[:SS[.fraction]][Z or offset]`, (N,); NO_TIME where a text is none or null.

    A space may stand for the T; what is finer than a millisecond is cut off; a text without an offset is read in
    `zone` (the first of two moments where clocks go back).

    >>> iso_ms(pa.array(["2022-04-26T00:00:01.5Z", "2022-04-26 08:00", "2022-02-30T00:00Z"]), ZoneInfo("Asia/Shanghai"))
    array([       1650931201500,        1650931200000, -9223372036854775808])
    """
    texts = texts.fill_null("")
    _, ends, data = texts.buffers()
    ms, local = np.empty(len(texts), np.int64), np.empty(len(texts), np.bool_)
    places = np.frombuffer(ends, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    _moments(np.frombuffer(data or b"", np.uint8), places, ms, local)
    local &= (ms > EARLIEST_MS - _DAY_MS) & (ms < LATEST_MS + _DAY_MS)
    if local.any():
        ms[local] -= _zone_ms(ms[local], zone)
    return ms


def _zone_ms(local_ms: I64, zone: ZoneInfo) -> I64:
    """How far each local time is ahead of UTC, looked up once for every quarter of an hour."""
    quarters, which = np.unique(local_ms // _QUARTER_MS, return_inverse=True)
    starts = [datetime(1970, 1, 1, tzinfo=zone) + timedelta(minutes=15 * int(quarter)) for quarter in quarters]
    ahead = [round((start.utcoffset() or timedelta()).total_seconds() * 1000) for start in starts]
    return np.array(ahead, np.int64)[which]


def number_ms(numbers: Any, unit: str) -> I64:
    """Milliseconds of numbers in ms, s (rounded) or us (cut down), (N,); NO_TIME where null.

    What is out of bounds is moved next to them.
    """
    if unit == "ms" and pa.types.is_int64(numbers.type):
        ms = numbers.fill_null(0).to_numpy()
    else:
        values = np.nan_to_num(numbers.cast(pa.float64(), safe=False).fill_null(0).to_numpy())
        with np.errstate(over="ignore"):  # what becomes infinite is out of bounds
            ms = {"ms": values, "s": np.rint(values * 1000), "us": np.floor(values) // 1000}[unit]
    within = np.clip(ms, EARLIEST_MS - 1, LATEST_MS).astype(np.int64)
    return np.where(_null(numbers), NO_TIME, within)


def stamp_ms(stamps: Any, zone: ZoneInfo) -> I64:
    """Milliseconds of Arrow timestamps, cut down, (N,); those without a zone are read in `zone`; NO_TIME where null.

    What is out of bounds is moved next to them.
    """
    ticks = stamps.cast(pa.int64()).fill_null(0).to_numpy()
    per_s = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}[stamps.type.unit]
    if per_s == 1:
        ticks, per_s = np.clip(ticks, -LATEST_MS, LATEST_MS) * 1000, 1000
    ms = np.clip(ticks // (per_s // 1000), EARLIEST_MS - _DAY_MS, LATEST_MS + _DAY_MS)
    if stamps.type.tz is None:
        ms = ms - _zone_ms(ms, zone)
    return np.where(_null(stamps), NO_TIME, ms)


def _null(column: Any) -> NDArray[np.bool_]:
    return np.asarray(column.is_null().to_numpy(zero_copy_only=False))
