"""JSON lines to cells: the whole block by column where every value has its field's usual type, else line by line.

Both ways must accept the same messages and give the same values:

- a message is a line with one JSON object (RFC 8259, UTF-8), no number in it beyond a double, nested below 1024
- a field is a path of member names with dots between them; null and absent, at any depth, are missing
- of two values under one name the last counts; an integer beyond 64 bits (signed) is a double

Legend: N messages.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from streamctr.decode.cells import Cells, Parsed
from streamctr.decode.lines import Lines

_SAMPLE: Final = 8
"""Messages from which the types of a block's fields are chosen first."""
_INT64: Final = range(-(1 << 63), 1 << 63)
_SCALARS: Final[dict[type, Any]] = {str: pa.string(), int: pa.int64(), bool: pa.bool_(), float: pa.float64()}
_NUMBERS: Final = frozenset({pa.int64(), pa.float64()})
_WORDS: Final[dict[type, str]] = {str: "a text", bool: "a boolean", int: "a number", float: "a number", list: "a list"}
_EMPTY: Final = pa.list_(pa.null())
"""The type of a list in which nothing tells what it is a list of."""


@dataclass(frozen=True, slots=True)
class _Strange:
    """Stands for a value that no array can hold."""

    what: str


class JsonLines:
    """Reads the same fields of block after block; which types they had before steers only how fast.

    Args:
        fields: paths, and whether one is only ever read as a number, for which 1 and 1.0 are the same.
    """

    def __init__(self, fields: Mapping[str, bool]) -> None:
        self._paths = {name: tuple(name.split(".")) for name in fields}
        self._numeric = fields
        self._seen: dict[str, Any] = {}

    def parse(self, payload: bytes) -> Parsed:
        """The fields of all well-formed lines."""
        lines = Lines(payload)
        sample = lines.parse(lines.kept[:_SAMPLE])
        cells = self._at_once(lines, sample) or self._one_by_one(lines)
        return Parsed(cells, lines.kept, lines.refused, lines.text)

    def _at_once(self, lines: Lines, sample: list[dict[str, Any]]) -> dict[str, Cells] | None:
        """The cells of a whole block; None where it is empty, or one value is not of its field's type."""
        for name, path in self._paths.items():
            self._see(name, (_kind(_find(message, path)) for message in reversed(sample)))
        schema = self._schema()
        if schema is None or len(lines.kept) == 0:
            return None
        table = _read(lines.payload(), schema)
        if table is None or len(table) != len(lines.kept):
            return None
        return {name: Cells((_column(table, path),)) for name, path in self._paths.items()}

    def _one_by_one(self, lines: Lines) -> dict[str, Cells]:
        """The cells of the lines that the strict parser takes; at once where it shows what was wrong."""
        messages = lines.parse(lines.kept)
        at_once = self._at_once(lines, messages)
        if at_once is not None:
            return at_once
        return {name: cells_of([_find(message, path) for message in messages]) for name, path in self._paths.items()}

    def _see(self, name: str, kinds: Iterable[Any]) -> None:
        """Remember the first of the kinds that says something: of a list of nothing, a list's does not."""
        seen = self._seen.get(name)
        for kind in kinds:
            if kind is None or isinstance(kind, str):
                continue
            if kind != _EMPTY or seen is None or not pa.types.is_list(seen):
                self._seen[name] = kind
                return

    def _schema(self) -> Any | None:
        """The Arrow schema for the types seen last; None where the fast parser would not keep to the rule."""
        tree: dict[str, Any] = {}
        for name, path in self._paths.items():
            kind = _fast_type(self._seen.get(name), self._numeric[name])
            branch = tree
            for parent in path[:-1]:
                branch = branch.setdefault(parent, {})
                if not isinstance(branch, dict):
                    return None
            if kind is None or path[-1] in branch:  # or one field stands inside another
                return None
            branch[path[-1]] = kind
        return pa.schema(_members(tree))


def cells_of(values: list[Any]) -> Cells:
    """The cells of one field's values as `orjson` gives them, N."""
    kinds = [_kind(value) for value in values]
    strange = {row: kind for row, kind in enumerate(kinds) if isinstance(kind, str)}
    arrays = []
    for kind in dict.fromkeys(kind for kind in kinds if kind is not None and not isinstance(kind, str)):
        held = [_held(value, kind) if other == kind else None for value, other in zip(values, kinds, strict=True)]
        arrays.append(pa.array(held, pa.list_(pa.string()) if kind == _EMPTY else kind))
    return Cells(tuple(arrays), strange)


def _find(message: dict[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = message
    for depth, name in enumerate(path):
        if value is None:
            return None
        if not isinstance(value, dict):
            return _Strange(f'inside "{".".join(path[:depth])}", which is {_WORDS[type(value)]}, not an object')
        value = value.get(name)
    return value


def _kind(value: Any) -> Any:
    """The Arrow type of a value, None where it is missing, or words for what no array holds."""
    if isinstance(value, _Strange):
        return value.what
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        # a list in it is not looked into: how deep it goes must not matter
        return _list_kind({"a list" if isinstance(item, list) else _kind(item) for item in value} - {None})
    if type(value) is int and value not in _INT64:
        return pa.float64()
    return None if value is None else _SCALARS[type(value)]


def _list_kind(kinds: set[Any]) -> Any:
    if not kinds:
        return _EMPTY
    if not kinds <= set(_SCALARS.values()):
        return "a list of lists or objects"
    if len(kinds) == 1:
        return pa.list_(kinds.pop())
    if kinds == _NUMBERS:
        return pa.list_(pa.float64())
    return "a list of several types" if pa.float64() in kinds else pa.list_(pa.string())


def _held(value: Any, kind: Any) -> Any:
    if pa.types.is_list(kind):
        return [None if item is None else _held(item, kind.value_type) for item in value]
    if pa.types.is_float64(kind):
        return float(value)
    if pa.types.is_string(kind) and not isinstance(value, str):  # in a list with texts: its canonical text
        return str(value).lower()
    return value


def _fast_type(kind: Any, numeric: bool) -> Any | None:
    """How the fast parser is to read a field that had this type; None where it would take 1.0 for 1, or 1 for 1.0."""
    if kind is None:
        return pa.float64() if numeric else pa.string()
    if pa.types.is_list(kind):
        item = _fast_type(None if kind == _EMPTY else kind.value_type, numeric)
        return None if item is None else pa.list_(item)
    if kind in _NUMBERS and numeric:
        return pa.float64()
    return None if pa.types.is_float64(kind) else kind


def _members(tree: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(name, pa.struct(_members(kind)) if isinstance(kind, dict) else kind) for name, kind in tree.items()]


def _read(payload: bytes, schema: Any) -> Any | None:
    """The columns of lines that are PLAIN or passed the strict parser; None where a value is not of its type."""
    options = {
        "read_options": pyarrow.json.ReadOptions(use_threads=False, block_size=len(payload) + 1),
        "parse_options": pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
    }
    try:
        return pyarrow.json.read_json(pa.py_buffer(payload), **options)
    except pa.ArrowInvalid:
        return None


def _column(table: Any, path: tuple[str, ...]) -> Any:
    column = table.column(path[0])
    whole = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()  # which copies even a single one
    return pc.struct_field(whole, path[1:]) if len(path) > 1 else whole
