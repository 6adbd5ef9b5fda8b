"""Pure functions over columns: what becomes of a number, of several ids together, and of the time."""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Final, Literal, assert_never
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from streamctr.hashing import MISSING_ID, U64, combine, mix

_QUARTER_MS: Final = 900_000
"""Zones change their offset at whole quarters of an hour."""
_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS
_CROSS: Final = np.uint64(0x63726F7373656421)
"""Tells a cross from other hashes of the same columns."""


def clipped(values: NDArray[Any], clip: tuple[float | None, float | None]) -> NDArray[Any]:
    """A raw number column with what lies outside moved to the bounds; a missing number stays missing.

    >>> clipped(np.array([-1.0, 5.0, np.nan]), (0.0, None))
    array([ 0.,  5., nan])
    """
    return values if clip == (None, None) else np.clip(values, *clip)


def transform(values: NDArray[Any], name: Literal["none", "log1p"]) -> NDArray[np.float32]:
    """A raw number column, transformed; a negative number under `log1p` counts as missing (NaN).

    >>> transform(np.array([0.0, -1.0, np.nan]), "log1p")
    array([ 0., nan, nan], dtype=float32)
    """
    match name:
        case "none":
            with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and counts as missing behind
                return values.astype(np.float32)
        case "log1p":
            return np.log1p(np.where(values < 0, np.nan, values)).astype(np.float32)
        case _:
            assert_never(name)


def bucket_texts(bounds: Sequence[float]) -> list[str]:
    """Names of the half-open ranges between ascending bounds, the open ones at both ends included.

    >>> bucket_texts([1.0, 2.5])
    ['<1', '1..2.5', '>=2.5']
    """
    texts = [str(int(bound)) if bound.is_integer() and abs(bound) < 1e15 else repr(bound) for bound in bounds]
    return [f"<{texts[0]}", *(f"{low}..{high}" for low, high in pairwise(texts)), f">={texts[-1]}"]


def bucketised(values: NDArray[Any], bounds: Sequence[float], ids: U64) -> U64:
    """The ids of the ranges that numbers lie in, (N,); `ids` are those of all ranges in order.

    >>> bucketised(np.array([0.9, 1.0, np.nan]), [1.0], np.array([7, 8], np.uint64))
    array([7, 8, 0], dtype=uint64)
    """
    places = np.searchsorted(np.asarray(bounds), values, side="right")
    return np.where(np.isnan(values), np.uint64(MISSING_ID), ids[places])


def crossed(columns: list[U64]) -> U64:
    """One id for each combination of ids, in order; a missing id counts as a value, and none comes out as missing."""
    ids = mix(combine(columns) ^ _CROSS)
    ids[ids == MISSING_ID] = 1
    return ids


def local_ms(time_ms: NDArray[np.int64], zone: ZoneInfo) -> NDArray[np.int64]:
    """Times as a clock in `zone` shows them, in ms since a local 1970-01-01 00:00."""
    quarters, inverse = np.unique(time_ms // _QUARTER_MS, return_inverse=True)
    offsets = [datetime.fromtimestamp(int(q) * _QUARTER_MS // 1000, UTC).astimezone(zone).utcoffset() for q in quarters]
    seconds = np.array([offset.total_seconds() if offset else 0.0 for offset in offsets])
    return np.asarray(time_ms + (1000 * seconds).astype(np.int64)[inverse])


def time_part(local: NDArray[np.int64], name: Literal["hour", "weekday"]) -> NDArray[np.int64]:
    """Hour 0 to 23, or weekday 0 (Monday) to 6, of local times in ms.

    >>> time_part(np.array([0, 90_000_000]), "weekday")
    array([3, 4])
    """
    match name:
        case "hour":
            return local % _DAY_MS // _HOUR_MS
        case "weekday":
            return (local // _DAY_MS + 3) % 7  # 1970-01-01 was a Thursday
        case _:
            assert_never(name)
