"""What the parsers of all formats give: the values of each field, as they stand in the messages. Legend: N messages."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

if TYPE_CHECKING:
    from streamctr.decode.spans import Fields

_INT64: Final = range(-(1 << 63), 1 << 63)
_SCALARS: Final[dict[type, Any]] = {str: pa.string(), int: pa.int64(), bool: pa.bool_(), float: pa.float64()}
_NUMBERS: Final = frozenset({pa.int64(), pa.float64()})
_WORDS: Final[dict[type, str]] = {str: "a text", bool: "a boolean", int: "a number", float: "a number", list: "a list"}
_EMPTY: Final = pa.list_(pa.null())
"""The type of a list in which nothing tells what it is a list of."""


@dataclass(frozen=True, slots=True)
class Cells:
    """One field of N messages: Arrow arrays of different types, of which at most one holds a message's value.

    Types: string, int64, float64, bool, timestamp, and lists of string, int64, float64 or bool. What is null in all of
    them is missing.
    """

    arrays: tuple[Any, ...]
    strange: dict[int, str] = field(default_factory=dict)
    """What stands where no array can hold it, in words such as "an object", by message."""

    def take(self, rows: NDArray[np.int64]) -> "Cells":
        """The values of these messages."""
        places = {row: place for place, row in enumerate(rows.tolist())} if self.strange else {}
        strange = {places[row]: what for row, what in self.strange.items() if row in places}
        return Cells(tuple(array.take(rows) for array in self.arrays), strange)


@dataclass(frozen=True, slots=True)
class Parsed:
    """The messages of a block that are well formed, and why the others are not."""

    cells: "dict[str, Cells] | Fields"
    """By the field's path."""
    places: NDArray[np.int64]
    """Of each message, its line or row in the block, from 0; (N,), ascending."""
    refused: dict[int, str]
    """By line or row: why it is no message."""
    text: Callable[[int, int], bytes]
    """The bytes of a line or row, as a letter keeps them: of which, and at most how many."""

    @property
    def messages(self) -> int:
        """How many lines or rows were not blank."""
        return len(self.places) + len(self.refused)


@dataclass(frozen=True, slots=True)
class _Strange:
    """Stands for a value that no array can hold."""

    what: str


def cells_of(values: list[Any]) -> Cells:
    """The cells of one field's values as `orjson` gives them, N."""
    kinds = [_kind(value) for value in values]
    strange = {row: kind for row, kind in enumerate(kinds) if isinstance(kind, str)}
    arrays = []
    for kind in dict.fromkeys(kind for kind in kinds if kind is not None and not isinstance(kind, str)):
        held = [_held(value, kind) if other == kind else None for value, other in zip(values, kinds, strict=True)]
        arrays.append(pa.array(held, pa.list_(pa.string()) if kind == _EMPTY else kind))
    return Cells(tuple(arrays), strange)


def find(message: dict[str, Any], path: tuple[str, ...]) -> Any:
    """The value at a path, None where it is missing, or a stand-in for what cannot be looked into."""
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
