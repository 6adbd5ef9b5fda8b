"""Pure functions over columns: number transforms and parts of the time."""

from datetime import UTC, datetime
from typing import Any, Final, Literal, assert_never
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

_QUARTER_MS: Final = 900_000
"""Zones change their offset at whole quarters of an hour."""
_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS


def transform(values: NDArray[Any], name: Literal["none", "log1p"]) -> NDArray[np.float32]:
    """A raw number column, transformed; a negative number under `log1p` counts as missing (NaN).

    >>> transform(np.array([0.0, -1.0, np.nan]), "log1p")
    array([ 0., nan, nan], dtype=float32)
    """
    match name:
        case "none":
            return values.astype(np.float32)
        case "log1p":
            return np.log1p(np.where(values < 0, np.nan, values)).astype(np.float32)
        case _:
            assert_never(name)


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
