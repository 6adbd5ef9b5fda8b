"""Why values are no good, in words. Legend: N messages."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Faults = dict[int, str]

_SHOWN: Final = 40
"""Characters of a value that a fault shows."""
_FRACTION: Final = "a number with a fraction, an exponent or more than 64 bits"
_FRACTION_REMEDY: Final = "write it without a fraction or as text, or list it under features.number"


def shown(value: Any) -> str:
    """A value as a reason shows it: a text in quotes, shortened."""
    if isinstance(value, str):
        return orjson.dumps(value if len(value) <= _SHOWN else value[:_SHOWN] + "...").decode()
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def kind_words(kind: Any) -> str:
    """What a value of an Arrow type is."""
    if pa.types.is_float64(kind):
        return _FRACTION
    if pa.types.is_boolean(kind):
        return "a boolean"
    return "a list" if pa.types.is_list(kind) else "a timestamp"


def remedy(kind: Any) -> str:
    """What to do about one, where there is something."""
    return f": {_FRACTION_REMEDY}" if pa.types.is_float64(kind) else ""


def not_a(wanted: str) -> Callable[[Any], str]:
    """Words for a value that is not what is wanted."""
    return lambda value: f"is {shown(value)}, not {wanted}"


def sizes(length: int, size: int) -> str:
    """Words for a list of the wrong size."""
    return f"has {length} number{'' if length == 1 else 's'}, not {size}"


def valid(array: Any) -> Bools:
    """Which values are not null."""
    return np.asarray(array.is_valid().to_numpy(zero_copy_only=False))


def refused(array: Any, words: Callable[[Any], str], where: Bools | None = None) -> Faults:
    """A fault for each value of an array, or of those of the rows `where`."""
    refused = valid(array) if where is None else where & valid(array)
    if pa.types.is_timestamp(array.type):  # Python has no nanoseconds
        array = stamp_texts(array)
    return {row: words(array[row].as_py()) for row in rows_of(refused)}


def rows_of(mask: Bools) -> list[int]:
    """Where a mask holds."""
    return np.flatnonzero(mask).tolist()


def stamp_texts(stamps: Any) -> Any:
    """Arrow timestamps in ISO-8601, cut to the millisecond: in UTC with a Z where their type has a zone.

    >>> noon = pa.array([1_772_366_400_000_000_999, None], pa.timestamp("ns"))
    >>> stamp_texts(noon).to_pylist(), stamp_texts(noon.cast(pa.timestamp("ns", "Asia/Shanghai")))[0].as_py()
    (['2026-03-01T12:00:00.000', None], '2026-03-01T12:00:00.000Z')
    """
    written = stamps.cast(pa.timestamp("ms", stamps.type.tz and "UTC"), safe=False).cast(pa.string())
    return pc.replace_substring_regex(written, r"([0-9]) ", r"\1T", max_replacements=1)
