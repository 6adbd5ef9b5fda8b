"""Rows of columns to cells: what Parquet and Arrow files can hold becomes what a JSON message can. Legend: N rows."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from streamctr.decode.cells import Cells, Parsed
from streamctr.ports import RawBlock

_INT64_MAX: Final = (1 << 63) - 1
_ITEMS: Final = frozenset({pa.string(), pa.int64(), pa.float64(), pa.bool_()})
"""What lists in cells may hold."""


def parse_rows(block: RawBlock, fields: Sequence[str]) -> Parsed:
    """The wanted fields of a block of rows, all of which are messages.

    A path with dots is a column of that name where there is one, else a field of a struct; a field that there is not
    is null in every row. NaN is null: columns of numbers have often no other way to leave one out.

    >>> rows = pa.RecordBatch.from_pylist([{"id": 7, "imp": {"ad": "red"}}, {"id": 8, "imp": None}])
    >>> block = RawBlock(0, 0, "view.parquet", 1, b"", True, True, "arrow", rows=rows)
    >>> parsed = parse_rows(block, ["id", "imp.ad"])
    >>> parsed.cells["imp.ad"].arrays[0].to_pylist(), parsed.text(0, 100)
    (['red', None], b'{"id":7,"imp":{"ad":"red"}}')
    """
    rows = block.rows
    columns = dict(zip(rows.schema.names, rows.columns, strict=True))
    cells = {field: _find(columns, tuple(field.split(".")), 0) or _missing(len(rows)) for field in fields}

    def text(place: int, limit: int) -> bytes:
        row = {name: _value(column[place]) for name, column in columns.items()}
        return orjson.dumps(row, default=_shown)[:limit]

    return Parsed(cells, np.arange(len(rows)), {}, text)


def _find(columns: Mapping[str, Any], path: tuple[str, ...], depth: int) -> Cells | None:
    """The cells of the field that stands at `path`, `depth` steps of which led to these columns; None for none."""
    column = columns.get(".".join(path[depth:]))
    if column is not None:
        return _cells(column)
    parent = columns.get(path[depth])
    if parent is None:
        return None
    if pa.types.is_struct(parent.type):
        members = [member.name for member in parent.type]
        return _find(dict(zip(members, parent.flatten(), strict=True)), path, depth + 1)
    return _strange(parent, f'inside "{".".join(path[: depth + 1])}", which is {_word(parent.type)}, not an object')


def _cells(array: Any) -> Cells:
    for is_so, read in _READERS:
        if is_so(array.type):
            return read(array)
    return _strange(array, _word(array.type))


def _missing(n: int) -> Cells:
    return Cells((pa.nulls(n, pa.string()),))


def _strange(array: Any, what: str) -> Cells:
    """All values are of a type that no cell holds."""
    return Cells(_missing(len(array)).arrays, dict.fromkeys(_rows(array.is_valid()), what))


def _unsigned(array: Any) -> Cells:
    """Integers, and as a double what is beyond them: as JSON numbers are read."""
    beyond = pc.greater(array, pa.scalar(_INT64_MAX, pa.uint64()))
    integers = pc.if_else(beyond, None, array).cast(pa.int64())
    if not pc.any(beyond).as_py():
        return Cells((integers,))
    return Cells((integers, pc.if_else(beyond, array, None).cast(pa.float64(), safe=False)))


def _doubles(array: Any) -> Cells:
    doubles = array.cast(pa.float64())
    return Cells((pc.if_else(pc.is_nan(doubles), None, doubles),))


def _texts(array: Any) -> Cells:
    """Texts, or bytes that are; nothing but this checks that they are UTF-8."""
    data = array.cast(pa.binary())
    try:
        return Cells((data.cast(pa.string()),))
    except pa.ArrowInvalid:
        texts = [None if value is None else _text(value) for value in data.to_pylist()]
    strange = {row: "bytes that are not UTF-8" for row in _rows(data.is_valid()) if texts[row] is None}
    return Cells((pa.array(texts, pa.string()),), strange)


def _lists(array: Any) -> Cells:
    """Lists of any layout as lists of what cells hold; those that hold anything else are strange."""
    lengths = pc.list_value_length(array).fill_null(0).to_numpy()
    cells = _cells(array.flatten())
    strange, (items, *others) = dict(cells.strange), cells.arrays
    for other in others:
        strange |= _strange(other, "an integer beyond 64 bits").strange
    if items.type not in _ITEMS:
        strange |= _strange(items, _word(items.type)).strange
        items = pa.nulls(len(items), pa.string())
    owners = np.repeat(np.arange(len(array)), lengths)
    refused = {int(owners[item]): f"a list with {what}" for item, what in strange.items()}
    null = np.array(array.is_null().to_numpy(zero_copy_only=False))
    null[list(refused)] = True
    offsets = pa.array(np.append(0, np.cumsum(lengths)), pa.int32())
    return Cells((pa.ListArray.from_arrays(offsets, items, mask=pa.array(null)),), refused)


def _is_text(kind: Any) -> bool:
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(test(kind) for test in tests) or _is_binary(kind)


def _is_binary(kind: Any) -> bool:
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_binary_view)
    return any(test(kind) for test in tests)


def _is_list(kind: Any) -> bool:
    types = pa.types
    tests = (types.is_list, types.is_large_list, types.is_fixed_size_list, types.is_list_view, types.is_large_list_view)
    return any(test(kind) for test in tests)


_READERS: Final[tuple[tuple[Callable[[Any], bool], Callable[[Any], Cells]], ...]] = (
    (pa.types.is_null, lambda array: _missing(len(array))),
    (pa.types.is_dictionary, lambda array: _cells(array.dictionary_decode())),
    (lambda kind: isinstance(kind, pa.BaseExtensionType), lambda array: _cells(array.storage)),
    (lambda kind: pa.types.is_boolean(kind) or pa.types.is_timestamp(kind), lambda array: Cells((array,))),
    (pa.types.is_uint64, _unsigned),
    (pa.types.is_integer, lambda array: Cells((array.cast(pa.int64()),))),
    (pa.types.is_floating, _doubles),
    (pa.types.is_decimal, lambda array: Cells((array.cast(pa.float64()),))),
    (pa.types.is_date, lambda array: Cells((array.cast(pa.timestamp("ms")),))),
    (_is_text, _texts),
    (_is_list, _lists),
)
"""By what a type is known, and how its values become cells."""

_WORDS: Final[tuple[tuple[Callable[[Any], bool], str], ...]] = (
    (lambda kind: pa.types.is_struct(kind) or pa.types.is_map(kind), "an object"),
    (_is_text, "a text"),
    (_is_list, "a list"),
    (lambda kind: pa.types.is_timestamp(kind) or pa.types.is_date(kind), "a timestamp"),
    (pa.types.is_boolean, "a boolean"),
    (lambda kind: pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind), "a number"),
)


def _word(kind: Any) -> str:
    """What a value of this type is, as a reason calls it."""
    return next((word for is_so, word in _WORDS if is_so(kind)), f"a value of the type {kind}")


def _rows(mask: Any) -> list[int]:
    return np.flatnonzero(mask.to_numpy(zero_copy_only=False)).tolist()


def _text(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def _value(scalar: Any) -> Any:
    """A value as Python has it; where Python has none, such as for nanoseconds, as Arrow writes it."""
    try:
        return scalar.as_py()
    except (ValueError, OverflowError):
        pass
    try:
        return scalar.cast(pa.string()).as_py()
    except (ValueError, pa.ArrowException):
        return f"a value of the type {scalar.type}"


def _shown(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
