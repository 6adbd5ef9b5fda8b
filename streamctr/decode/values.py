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
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from streamctr.decode.cells import Cells
from streamctr.decode.faults import (
    Bools,
    Faults,
    kind_words,
    not_a,
    refused,
    remedy,
    rows_of,
    sizes,
    valid,
)
from streamctr.decode.faults import (
    stamp_texts as stamp_texts,
)
from streamctr.decode.moments import EARLIEST_MS, LATEST_MS, NO_TIME, iso_ms, number_ms, stamp_ms
from streamctr.decode.scalars import NONE, REST, read_bags, read_ids, read_numbers, read_times, read_vectors
from streamctr.decode.spans import Spans
from streamctr.decode.tokens import bytes_of
from streamctr.hashing import MISSING_ID, U64, hash_bytes, mix
from streamctr.schema import BagConfig, TimeConfig

Field = Cells | Spans
"""One field of N messages: arrays, or places in the bytes of JSON lines."""

_SCRATCH: Final = bytes(4096)
_DECIMAL: Final = r"^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$"
_WHOLE: Final = r"^[+-]?[0-9]+$"
_SHORT_INTEGER: Final = r"^-?[0-9]{1,18}$"
"""Surely within 64 bits."""
_INT64: Final = range(-(1 << 63), 1 << 63)
_OUTSIDE: Final = "is outside 2000 to 2100 (a number counts as {unit}); set time.unit, or write ISO-8601"
_FLAGS: Final = pa.array(["0", "false", "1", "true"])


@dataclass(frozen=True, slots=True)
class Column:
    """One field of N messages, read by one rule."""

    values: NDArray[Any]
    """(N,), or (N, C) of a bag or vector."""
    missing: Bools
    """(N,)."""
    faults: Faults
    """Why a value is no good, by message."""
    named: Callable[[], dict[int, str]] = dict
    """Of single ids: the canonical text of each hash."""


def ids(cells: Field, n: int, integer: bool = False) -> Column:
    """Hashes of single ids, (N,) uint64, 0 for missing.

    An id is its canonical text: an integer's is decimal, a boolean's `true` or `false`, a timestamp's as `stamp_texts`
    writes it. Where it is declared an `integer`, it is a whole number however it is written, and "007" is 7.

    >>> column = ids(Cells((pa.array(["7", "007", None]),)), 3, integer=True)
    >>> bool(column.values[0] == column.values[1]), column.missing.tolist()
    (True, [False, False, True])
    """
    if isinstance(cells, Spans):
        return _straight(
            cells,
            np.empty(n, np.uint64),
            lambda values, states: read_ids(cells.text, cells.spans_N, integer, values, states),
            lambda rest, n_rest: ids(rest, n_rest, integer),
            lambda: ids(cells.cells, n, integer).named(),
        )
    distinct: list[tuple[U64, Any]] = []

    def named() -> dict[int, str]:
        pairs = (zip(hashes.tolist(), known.cast(pa.string()).to_pylist(), strict=True) for hashes, known in distinct)
        return {key: text for pair in pairs for key, text in pair}

    def read(array: Any) -> tuple[U64, Faults]:
        canonical, faults = _canonical(array, integer)
        encoded = canonical.dictionary_encode()
        known = encoded.dictionary
        hashes = _mixed(known) if integer else hash_bytes(known.cast(pa.string()).cast(pa.binary()).to_pylist())
        distinct.append((hashes, known))
        places = encoded.indices.fill_null(len(known)).to_numpy()
        return np.append(hashes, np.uint64(MISSING_ID))[places], faults

    column = _merged(cells, np.full(n, MISSING_ID, np.uint64), read)
    return Column(column.values, column.missing, column.faults, named)


def texts(cells: Field, n: int, integer: bool = False) -> tuple[Any, Faults]:
    """The canonical texts of single ids as an Arrow array of N, null for missing; and faults."""
    canonical = [_canonical(array, integer) for array in cells.arrays]
    faults = _strange(cells)
    for _, found in canonical:
        faults |= found
    arrays = [array.cast(pa.string()) for array, _ in canonical]
    return pc.coalesce(*arrays) if arrays else pa.nulls(n, pa.string()), faults


def bag(cells: Field, n: int, config: BagConfig, integer: bool = False) -> Column:
    """Hashes of the first `most` ids of lists, of texts that are split, or of single ids: (N, C) uint64, 0 behind them.

    >>> bag(Cells((pa.array(["a, b,,", None]),)), 2, BagConfig(most=3)).missing.tolist()
    [False, True]
    """
    if isinstance(cells, Spans):
        return _straight(
            cells,
            np.zeros((n, config.most), np.uint64),
            lambda values, states: read_bags(cells.text, cells.spans_N, integer, values, states, bytes_of(_SCRATCH)),
            lambda rest, n_rest: bag(rest, n_rest, config, integer),
        )

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


def numbers(cells: Field, n: int) -> Column:
    """Finite numbers, texts of decimal numbers, and booleans as 0 and 1: (N,) float64, NaN for missing.

    >>> numbers(Cells((pa.array(["1e-3", "nan"]),)), 2).faults
    {1: 'is "nan", not a number'}
    """
    if isinstance(cells, Spans):
        return _straight(
            cells,
            np.empty(n),
            lambda values, states: read_numbers(cells.text, cells.spans_N, values, states),
            numbers,
        )
    return _merged(cells, np.full(n, np.nan), _numbers)


def vector(cells: Field, n: int, size: int) -> Column:
    """Lists of exactly `size` finite numbers, or texts of them such as "[0.1, 0.2]": (N, C) float64, NaN for missing.

    >>> vector(Cells((pa.array([[1.0, 2.0], [1.0]]),)), 2, 2).faults
    {1: 'has 1 number, not 2'}
    """
    if isinstance(cells, Spans):
        return _straight(
            cells,
            np.empty((n, size)),
            lambda values, states: read_vectors(cells.text, cells.spans_N, values, states),
            lambda rest, n_rest: vector(rest, n_rest, size),
        )

    def read(array: Any) -> tuple[NDArray[np.float64], Faults]:
        if pa.types.is_string(array.type):
            array = pc.split_pattern_regex(pc.utf8_trim(array, characters="[] "), r"\s*,\s*|\s+")
        values, none = np.full((n, size), np.nan), f"is not a list of {size} numbers"
        if not pa.types.is_list(array.type):
            return values, refused(array, lambda _: none)
        lengths = pc.list_value_length(array).fill_null(-1).to_numpy()
        faults = {row: sizes(int(lengths[row]), size) for row in rows_of((lengths >= 0) & (lengths != size))}
        if pa.types.is_boolean(array.type.value_type):  # of which an empty list is not one
            return values, faults | dict.fromkeys(rows_of(lengths > 0), none)
        rows = np.flatnonzero(lengths == size)
        items = array.take(rows).flatten()
        found, wrong = _numbers(items)
        values[rows] = found.reshape(-1, size)
        for item in rows_of(np.isnan(found)):
            faults.setdefault(int(rows[item // size]), f"has an item that {wrong.get(item, 'is missing')}")
        values[list(faults)] = np.nan
        return values, faults

    return _merged(cells, np.full((n, size), np.nan), read)


def times(cells: Field, n: int, config: TimeConfig) -> Column:
    """Moments in ms since the epoch, (N,) int64, NO_TIME for missing.

    Texts are ISO-8601 (see `iso_ms`) or numbers; numbers are in `unit`, whole ones where that is ms; what is finer than
    a millisecond is rounded in s and cut off in us. Arrow timestamps without a zone are read in `zone`.

    >>> times(Cells((pa.array(["2022-04-26T00:00Z", "1650931200000"]),)), 2, TimeConfig(field="t")).values.tolist()
    [1650931200000, 1650931200000]
    """
    if isinstance(cells, Spans):
        per_s = {"ms": 1000, "s": 1, "us": 1_000_000}[config.unit]
        return _straight(
            cells,
            np.empty(n, np.int64),
            lambda values, states: read_times(cells.text, cells.spans_N, per_s, values, states),
            lambda rest, n_rest: times(rest, n_rest, config),
        )

    def read(array: Any) -> tuple[NDArray[np.int64], Faults]:
        ms, faults = _moments(array, config)
        outside = (ms != NO_TIME) & ((ms < EARLIEST_MS) | (ms >= LATEST_MS))
        faults |= dict.fromkeys(rows_of(outside), _OUTSIDE.format(unit=config.unit))
        ms[outside] = NO_TIME
        return ms, faults

    return _merged(cells, np.full(n, NO_TIME, np.int64), read)


def flags(cells: Field, n: int) -> Column:
    """Whether a flag is set: 0, 1, true or false, also as text; (N,) bool, False for missing.

    >>> flags(Cells((pa.array(["1", "false", "yes"]),)), 3).faults
    {2: 'is "yes", not 0, 1, true or false'}
    """

    def read(array: Any) -> tuple[Bools, Faults]:
        kind = array.type
        if not (pa.types.is_string(kind) or pa.types.is_int64(kind) or pa.types.is_boolean(kind)):
            return np.zeros(n, np.bool_), refused(array, not_a("0, 1, true or false"))
        known = pc.index_in(array.cast(pa.string()), value_set=_FLAGS).fill_null(-1).to_numpy()
        return known >= 2, refused(array, not_a("0, 1, true or false"), known < 0)

    return _merged(cells, np.zeros(n, np.bool_), read)


def _straight(
    spans: Spans,
    values: NDArray[Any],
    read: Callable[[NDArray[Any], NDArray[np.uint8]], None],
    rule: Callable[[Cells, int], Column],
    named: Callable[[], dict[int, str]] = dict,
) -> Column:
    """One column of values read where they stand; those of the rest by the `rule` for arrays."""
    states = np.empty(len(values), np.uint8)
    read(values, states)
    missing, rest = states == NONE, np.flatnonzero(states == REST)
    if len(rest) == 0:
        return Column(values, missing, {}, named)
    column = rule(spans.take(rest).cells, len(rest))
    values[rest], missing[rest] = column.values, column.missing
    return Column(values, missing, {int(rest[row]): fault for row, fault in column.faults.items()}, named)


def _merged(cells: Field, neutral: NDArray[Any], read: Callable[[Any], tuple[NDArray[Any], Faults]]) -> Column:
    """One column of all arrays of a field; `read` gives neutral values where it finds none."""
    values, missing, faults = neutral, np.ones(len(neutral), np.bool_), _strange(cells)
    missing[list(faults)] = False
    for array in cells.arrays:
        here = valid(array)
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
        return none, refused(array, not_a("a whole number"))
    return none, refused(array, lambda _: f"is {kind_words(kind)}" + remedy(kind))


def _integers(array: Any) -> tuple[Any, Faults]:
    """The whole numbers that texts stand for."""
    short = pc.match_substring_regex(array, _SHORT_INTEGER)
    values = pc.if_else(short, array, None).cast(pa.int64())
    rest = rows_of(pc.invert(short).fill_null(False).to_numpy(zero_copy_only=False))
    others = {row: _integer(array[row].as_py()) for row in rest}
    if any(value is not None for value in others.values()):
        listed = values.to_pylist()
        values = pa.array([others.get(row, value) for row, value in enumerate(listed)], pa.int64())
    faults = {row: not_a("a whole number")(array[row].as_py()) for row, value in others.items() if value is None}
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
        return values, refused(array, not_a("a number"), np.isnan(values))
    if pa.types.is_int64(kind) or pa.types.is_float64(kind) or pa.types.is_boolean(kind):
        values = _doubles(array)
        faults = refused(array, not_a("a finite number"), ~np.isfinite(values))
        values[list(faults)] = np.nan
        return values, faults
    return np.full(len(array), np.nan), refused(array, lambda _: f"is {kind_words(kind)}")


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
        rest = (ms == NO_TIME) & valid(array)
        if rest.any():
            values = _decimals(array, _WHOLE if config.unit == "ms" else _DECIMAL)
            found = rest & ~np.isnan(values)
            ms[found] = number_ms(pa.array(values[found]), config.unit)
        wanted = f"ISO-8601 such as 2022-04-26T00:00:00Z nor a number of {config.unit}"
        return ms, refused(array, not_a(wanted), ms == NO_TIME)
    if pa.types.is_timestamp(kind):
        return stamp_ms(array, ZoneInfo(config.zone)), {}
    if pa.types.is_int64(kind) or (pa.types.is_float64(kind) and config.unit != "ms"):
        return number_ms(array, config.unit), {}
    return np.full(len(array), NO_TIME, np.int64), refused(array, lambda _: f"is {kind_words(kind)}")


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


def _strange(cells: Field) -> Faults:
    return {row: f"is {what}" for row, what in cells.strange.items()}
