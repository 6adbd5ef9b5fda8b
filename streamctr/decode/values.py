"""What a field's value is good for: one rule for the messages of all formats, column by column.

A value may be missing, then it has the column's neutral value; or be no good, then a fault says why in words that go
behind the field's name: `is "abc", not a number`. Its neutral value stands in the column then too.

Legend: N messages, C columns of a bag or vector.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from streamctr.decode.cells import Cells
from streamctr.decode.moments import EARLIEST_MS, LATEST_MS, NO_TIME, iso_ms, number_ms, stamp_ms
from streamctr.hashing import MISSING_ID, U64, hash_bytes, mix
from streamctr.schema import BagConfig, TimeConfig

Bools = NDArray[np.bool_]
Faults = dict[int, str]

_SHOWN: Final = 40
"""Characters of a value that a fault shows."""
_DECIMAL: Final = r"^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$"
_WHOLE: Final = r"^[+-]?[0-9]+$"
_SHORT_INTEGER: Final = r"^-?[0-9]{1,18}$"
"""Surely within 64 bits."""
_INT64: Final = range(-(1 << 63), 1 << 63)
_OUTSIDE: Final = "is outside 2000 to 2100 (a number counts as {unit}); set time.unit, or write ISO-8601"
_FLAGS: Final = pa.array(["0", "false", "1", "true"])
_FRACTION: Final = "a number with a fraction, an exponent or more than 64 bits"
_FRACTION_REMEDY: Final = "write it without a fraction or as text, or list it under features.number"


@dataclass(frozen=True, slots=True)
class Column:
    """One field of N messages, read by one rule."""

    values: NDArray[Any]
    """(N,), or (N, C) of a bag or vector."""
    missing: Bools
    """(N,)."""
    faults: Faults
    """Why a value is no good, by message."""
    texts: "tuple[tuple[U64, Any], ...]" = ()
    """Of single ids: distinct hashes, and what they stand for (an Arrow array)."""

    def named(self) -> dict[int, str]:
        """The canonical text of each hash of single ids."""
        pairs = (zip(hashes.tolist(), known.cast(pa.string()).to_pylist(), strict=True) for hashes, known in self.texts)
        return {key: text for pair in pairs for key, text in pair}


def ids(cells: Cells, n: int, integer: bool = False) -> Column:
    """Hashes of single ids, (N,) uint64, 0 for missing.

    An id is its canonical text: an integer's is decimal, a boolean's `true` or `false`, a timestamp's as `stamp_texts`
    writes it. Where it is declared an `integer`, it is a whole number however it is written, and "007" is 7.

    >>> column = ids(Cells((pa.array(["7", "007", None]),)), 3, integer=True)
    >>> bool(column.values[0] == column.values[1]), column.missing.tolist()
    (True, [False, False, True])
    """
    distinct: list[tuple[U64, Any]] = []

    def read(array: Any) -> tuple[U64, Faults]:
        canonical, faults = _canonical(array, integer)
        encoded = canonical.dictionary_encode()
        known = encoded.dictionary
        hashes = _mixed(known) if integer else hash_bytes(known.cast(pa.string()).cast(pa.binary()).to_pylist())
        distinct.append((hashes, known))
        places = encoded.indices.fill_null(len(known)).to_numpy()
        return np.append(hashes, np.uint64(MISSING_ID))[places], faults

    column = _merged(cells, np.full(n, MISSING_ID, np.uint64), read)
    return Column(column.values, column.missing, column.faults, tuple(distinct))


def texts(cells: Cells, n: int, integer: bool = False) -> tuple[Any, Faults]:
    """The canonical texts of single ids as an Arrow array of N, null for missing; and faults."""
    canonical = [_canonical(array, integer) for array in cells.arrays]
    faults = _strange(cells)
    for _, found in canonical:
        faults |= found
    arrays = [array.cast(pa.string()) for array, _ in canonical]
    return pc.coalesce(*arrays) if arrays else pa.nulls(n, pa.string()), faults


def stamp_texts(stamps: Any) -> Any:
    """Arrow timestamps in ISO-8601, cut to the millisecond: in UTC with a Z where their type has a zone.

    >>> noon = pa.array([1_772_366_400_000_000_999, None], pa.timestamp("ns"))
    >>> stamp_texts(noon).to_pylist(), stamp_texts(noon.cast(pa.timestamp("ns", "Asia/Shanghai")))[0].as_py()
    (['2026-03-01T12:00:00.000', None], '2026-03-01T12:00:00.000Z')
    """
    written = stamps.cast(pa.timestamp("ms", stamps.type.tz and "UTC"), safe=False).cast(pa.string())
    return pc.replace_substring_regex(written, r"([0-9]) ", r"\1T", max_replacements=1)


def bag(cells: Cells, n: int, config: BagConfig, integer: bool = False) -> Column:
    """Hashes of the first `most` ids of lists, of texts that are split, or of single ids: (N, C) uint64, 0 behind them.

    >>> bag(Cells((pa.array(["a, b,,", None]),)), 2, BagConfig(most=3)).missing.tolist()
    [False, True]
    """

    def read(array: Any) -> tuple[U64, Faults]:
        if pa.types.is_string(array.type):
            array = _split(array, config.split)
        if not pa.types.is_list(array.type):
            array = _singles(array)
        items = array.flatten()
        rows = np.repeat(np.arange(n), pc.list_value_length(array).fill_null(0).to_numpy())
        found = ids(Cells((items,)), len(items), integer)
        places = np.flatnonzero(found.values != MISSING_ID)
        rank = np.arange(len(places)) - np.searchsorted(rows[places], rows[places])
        values = np.full((n, config.most), MISSING_ID, np.uint64)
        kept = rank < config.most
        values[rows[places[kept]], rank[kept]] = found.values[places[kept]]
        faults = {int(rows[item]): f"has an item that {fault}" for item, fault in reversed(found.faults.items())}
        values[list(faults)] = MISSING_ID
        return values, faults

    column = _merged(cells, np.full((n, config.most), MISSING_ID, np.uint64), read)
    return Column(column.values, column.values[:, 0] == MISSING_ID, column.faults)


def numbers(cells: Cells, n: int) -> Column:
    """Finite numbers, texts of decimal numbers, and booleans as 0 and 1: (N,) float64, NaN for missing.

    >>> numbers(Cells((pa.array(["1e-3", "nan"]),)), 2).faults
    {1: 'is "nan", not a number'}
    """
    return _merged(cells, np.full(n, np.nan), _numbers)


def vector(cells: Cells, n: int, size: int) -> Column:
    """Lists of exactly `size` finite numbers, or texts of them such as "[0.1, 0.2]": (N, C) float64, NaN for missing.

    >>> vector(Cells((pa.array([[1.0, 2.0], [1.0]]),)), 2, 2).faults
    {1: 'has 1 number, not 2'}
    """

    def read(array: Any) -> tuple[NDArray[np.float64], Faults]:
        if pa.types.is_string(array.type):
            array = pc.split_pattern_regex(pc.utf8_trim(array, characters="[] "), r"\s*,\s*|\s+")
        values, none = np.full((n, size), np.nan), f"is not a list of {size} numbers"
        if not pa.types.is_list(array.type):
            return values, _refused(array, lambda _: none)
        lengths = pc.list_value_length(array).fill_null(-1).to_numpy()
        faults = {row: _sizes(int(lengths[row]), size) for row in _rows((lengths >= 0) & (lengths != size))}
        if pa.types.is_boolean(array.type.value_type):  # of which an empty list is not one
            return values, faults | dict.fromkeys(_rows(lengths > 0), none)
        rows = np.flatnonzero(lengths == size)
        items = array.take(rows).flatten()
        found, wrong = _numbers(items)
        values[rows] = found.reshape(-1, size)
        for item in _rows(np.isnan(found)):
            faults.setdefault(int(rows[item // size]), f"has an item that {wrong.get(item, 'is missing')}")
        values[list(faults)] = np.nan
        return values, faults

    return _merged(cells, np.full((n, size), np.nan), read)


def times(cells: Cells, n: int, config: TimeConfig) -> Column:
    """Moments in ms since the epoch, (N,) int64, NO_TIME for missing.

    Texts are ISO-8601 (see `iso_ms`) or numbers; numbers are in `unit`, whole ones where that is ms; what is finer than
    a millisecond is rounded in s and cut off in us. Arrow timestamps without a zone are read in `zone`.

    >>> times(Cells((pa.array(["2022-04-26T00:00Z", "1650931200000"]),)), 2, TimeConfig(field="t")).values.tolist()
    [1650931200000, 1650931200000]
    """

    def read(array: Any) -> tuple[NDArray[np.int64], Faults]:
        ms, faults = _moments(array, config)
        outside = (ms != NO_TIME) & ((ms < EARLIEST_MS) | (ms >= LATEST_MS))
        faults |= dict.fromkeys(_rows(outside), _OUTSIDE.format(unit=config.unit))
        ms[outside] = NO_TIME
        return ms, faults

    return _merged(cells, np.full(n, NO_TIME, np.int64), read)


def flags(cells: Cells, n: int) -> Column:
    """Whether a flag is set: 0, 1, true or false, also as text; (N,) bool, False for missing.

    >>> flags(Cells((pa.array(["1", "false", "yes"]),)), 3).faults
    {2: 'is "yes", not 0, 1, true or false'}
    """

    def read(array: Any) -> tuple[Bools, Faults]:
        kind = array.type
        if not (pa.types.is_string(kind) or pa.types.is_int64(kind) or pa.types.is_boolean(kind)):
            return np.zeros(n, np.bool_), _refused(array, _not_a("0, 1, true or false"))
        known = pc.index_in(array.cast(pa.string()), value_set=_FLAGS).fill_null(-1).to_numpy()
        return known >= 2, _refused(array, _not_a("0, 1, true or false"), known < 0)

    return _merged(cells, np.zeros(n, np.bool_), read)


def shown(value: Any) -> str:
    """A value as a reason shows it: a text in quotes, shortened."""
    if isinstance(value, str):
        return orjson.dumps(value if len(value) <= _SHOWN else value[:_SHOWN] + "...").decode()
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def _merged(cells: Cells, neutral: NDArray[Any], read: Callable[[Any], tuple[NDArray[Any], Faults]]) -> Column:
    """One column of all arrays of a field; `read` gives neutral values where it finds none."""
    values, missing, faults = neutral, np.ones(len(neutral), np.bool_), _strange(cells)
    missing[list(faults)] = False
    for array in cells.arrays:
        here = _valid(array)
        found, wrong = read(array)
        faults |= wrong
        values = found if values is neutral else np.where(here.reshape(-1, *([1] * (values.ndim - 1))), found, values)
        missing &= ~here
    return Column(values, missing, faults)


def _canonical(array: Any, integer: bool) -> tuple[Any, Faults]:
    """Ids as Arrow texts, integers or booleans, each of which says in its own way what its canonical text is."""
    if pa.types.is_timestamp(array.type):
        array = stamp_texts(array)
    kind = array.type
    if pa.types.is_int64(kind):
        return array, {}
    if pa.types.is_string(kind) or pa.types.is_boolean(kind):
        if not integer:
            return array, {}
        if pa.types.is_string(kind):
            return _integers(array)
    none = pa.nulls(len(array), pa.int64() if integer else pa.string())
    if integer:
        return none, _refused(array, _not_a("a whole number"))
    return none, _refused(array, lambda _: f"is {_kind(kind)}" + _remedy(kind))


def _integers(array: Any) -> tuple[Any, Faults]:
    """The whole numbers that texts stand for."""
    short = pc.match_substring_regex(array, _SHORT_INTEGER)
    values = pc.if_else(short, array, None).cast(pa.int64())
    rest = _rows(pc.invert(short).fill_null(False).to_numpy(zero_copy_only=False))
    others = {row: _integer(array[row].as_py()) for row in rest}
    if any(value is not None for value in others.values()):
        listed = values.to_pylist()
        values = pa.array([others.get(row, value) for row, value in enumerate(listed)], pa.int64())
    faults = {row: _not_a("a whole number")(array[row].as_py()) for row, value in others.items() if value is None}
    return values, faults


def _integer(text: str) -> int | None:
    digits = re.fullmatch(r"(-?)0*([0-9]{1,19})", text)
    value = int(digits[1] + digits[2]) if digits else None
    return value if value is not None and value in _INT64 else None


def _mixed(integers: Any) -> U64:
    hashes = mix(integers.to_numpy(zero_copy_only=False).astype(np.int64).view(np.uint64))
    hashes[hashes == MISSING_ID] = 1
    return hashes


def _numbers(array: Any) -> tuple[NDArray[np.float64], Faults]:
    kind = array.type
    if pa.types.is_string(kind):
        values = _decimals(array, _DECIMAL)
        return values, _refused(array, _not_a("a number"), np.isnan(values))
    if pa.types.is_int64(kind) or pa.types.is_float64(kind) or pa.types.is_boolean(kind):
        values = _doubles(array)
        faults = _refused(array, _not_a("a finite number"), ~np.isfinite(values))
        values[list(faults)] = np.nan
        return values, faults
    return np.full(len(array), np.nan), _refused(array, lambda _: f"is {_kind(kind)}")


def _doubles(array: Any) -> NDArray[np.float64]:
    """NaN where null; -0 is 0, as the integer that it may have been written as."""
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.int64())
    return np.asarray(array.cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy() + 0.0)


def _decimals(array: Any, pattern: str) -> NDArray[np.float64]:
    """The numbers of texts of that pattern; NaN where they are not of it, or beyond a double."""
    values = _doubles(pc.if_else(pc.match_substring_regex(array, pattern), array, None))
    values[np.isinf(values)] = np.nan
    return values


def _moments(array: Any, config: TimeConfig) -> tuple[NDArray[np.int64], Faults]:
    """Milliseconds, numbers out of bounds moved next to them; NO_TIME where there is none."""
    kind = array.type
    if pa.types.is_string(kind):
        ms = iso_ms(array, ZoneInfo(config.zone))
        rest = (ms == NO_TIME) & _valid(array)
        if rest.any():
            values = _decimals(array, _WHOLE if config.unit == "ms" else _DECIMAL)
            found = rest & ~np.isnan(values)
            ms[found] = number_ms(pa.array(values[found]), config.unit)
        wanted = f"ISO-8601 such as 2022-04-26T00:00:00Z nor a number of {config.unit}"
        return ms, _refused(array, _not_a(wanted), ms == NO_TIME)
    if pa.types.is_timestamp(kind):
        return stamp_ms(array, ZoneInfo(config.zone)), {}
    if pa.types.is_int64(kind) or (pa.types.is_float64(kind) and config.unit != "ms"):
        return number_ms(array, config.unit), {}
    return np.full(len(array), NO_TIME, np.int64), _refused(array, lambda _: f"is {_kind(kind)}")


def _split(array: Any, mark: str) -> Any:
    """Lists of the stripped items of texts, null for empty ones."""
    lists = pc.split_pattern(array, mark) if mark else _singles(array)
    items = pc.utf8_trim_whitespace(lists.flatten())
    items = pc.if_else(pc.equal(items, ""), None, items)
    lengths = pc.list_value_length(lists).fill_null(0).to_numpy()
    return pa.ListArray.from_arrays(np.append(0, np.cumsum(lengths)).astype(np.int32), items)


def _singles(array: Any) -> Any:
    """A list of one item for each value, null or not."""
    return pa.ListArray.from_arrays(np.arange(len(array) + 1, dtype=np.int32), array)


def _kind(kind: Any) -> str:
    if pa.types.is_float64(kind):
        return _FRACTION
    if pa.types.is_boolean(kind):
        return "a boolean"
    return "a list" if pa.types.is_list(kind) else "a timestamp"


def _remedy(kind: Any) -> str:
    return f": {_FRACTION_REMEDY}" if pa.types.is_float64(kind) else ""


def _not_a(wanted: str) -> Callable[[Any], str]:
    return lambda value: f"is {shown(value)}, not {wanted}"


def _sizes(length: int, size: int) -> str:
    return f"has {length} number{'' if length == 1 else 's'}, not {size}"


def _valid(array: Any) -> Bools:
    return np.asarray(array.is_valid().to_numpy(zero_copy_only=False))


def _refused(array: Any, words: Callable[[Any], str], where: Bools | None = None) -> Faults:
    """A fault for each value of an array, or of those of the rows `where`."""
    refused = _valid(array) if where is None else where & _valid(array)
    if pa.types.is_timestamp(array.type):  # Python has no nanoseconds
        array = stamp_texts(array)
    return {row: words(array[row].as_py()) for row in _rows(refused)}


def _strange(cells: Cells) -> Faults:
    return {row: f"is {what}" for row, what in cells.strange.items()}


def _rows(mask: Bools) -> list[int]:
    return np.flatnonzero(mask).tolist()
