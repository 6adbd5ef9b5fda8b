"""The fields of a message: which values are good, read by column from the whole block or message by message.

Both ways must accept the same and give the same columns; the rule is:

- a message: a line with one JSON object (RFC 8259, UTF-8), no number in it beyond a double, nested below 1024
- the key: text or integer; a user or id: text, integer or boolean; null and absent are missing
- the time: ISO-8601 text, an integer in ms, or any number in s
- a number: any JSON number; null and absent are missing
- an integer of a key, id or time lies within 64 bits (signed); of two values under one name the last counts

Legend: N messages.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.json
from numpy.typing import NDArray

_TYPES: Final[dict[type, Any]] = {str: pa.string(), int: pa.int64(), bool: pa.bool_(), float: pa.float64()}
_KINDS: Final[dict[type, str]] = {
    str: "a text",
    bool: "a boolean",
    int: "an integer beyond 64 bits",
    float: "a number with a fraction, an exponent or more than 64 bits",
    list: "a list",
    dict: "an object",
}
_INT64: Final = range(-(1 << 63), 1 << 63)


@dataclass(frozen=True, slots=True)
class Fields:
    """What is read of the messages of one stage; only roots have a user, ids and numbers."""

    key: str
    time: str
    seconds: bool
    """Whether a time that is a number is in s."""
    texts: tuple[str, ...]
    """The user and the ids, each name once."""
    numbers: tuple[str, ...]

    def types(self) -> dict[str, list[Any]]:
        """The Arrow types that are good for each field in all its roles, the likeliest first."""
        time = [pa.string(), pa.int64(), *([pa.float64()] if self.seconds else [])]
        roles = [(self.key, [pa.string(), pa.int64()]), (self.time, time)]
        roles += [(name, [pa.string(), pa.int64(), pa.bool_()]) for name in self.texts]
        roles += [(name, [pa.float64(), pa.int64()]) for name in self.numbers]
        good: dict[str, list[Any]] = {}
        for name, types in roles:
            good[name] = [kind for kind in good.get(name, types) if kind in types]
        return good


@dataclass(slots=True)
class Columns:
    """Messages as columns: texts are Arrow texts, integers or booleans, numbers doubles with NaN for missing."""

    key: Any
    times: list[Any]
    """Texts, numbers or both; what is null in one may stand in the other."""
    texts: dict[str, Any]
    numbers: dict[str, NDArray[np.float64]]
    reasons: dict[int, str]
    """Why a message is malformed, by its place; all others have good values, null for missing."""

    def take(self, places: NDArray[np.int64]) -> "Columns":
        """The messages at these places."""
        texts = {name: column.take(places) for name, column in self.texts.items()}
        numbers = {name: column[places] for name, column in self.numbers.items()}
        return Columns(self.key.take(places), [column.take(places) for column in self.times], texts, numbers, {})


def choose_schema(sample: list[Any], fields: Fields, seen: dict[str, Any]) -> Any | None:
    """The Arrow schema that fits the first messages of a block; None where none can fit.

    `seen` remembers the types of fields that these messages leave out. It steers only how fast a block is read.
    """
    chosen = []
    for name, good in fields.types().items():
        for message in sample:
            seen[name] = _TYPES.get(type(message.get(name)), seen.get(name))
        kind = seen.get(name)
        if kind in (None, pa.int64(), pa.float64()) and pa.float64() in good:
            kind = pa.float64()
        elif kind is None and good:
            kind = good[0]
        if kind not in good:
            return None
        chosen.append((name, kind))
    return pa.schema(chosen)


def read_block(payload: bytes, schema: Any, fields: Fields) -> Columns | None:
    """Columns of lines that are PLAIN or passed the strict parser; None where a value is not of its field's type."""
    options = {
        "read_options": pyarrow.json.ReadOptions(use_threads=False, block_size=len(payload) + 1),
        "parse_options": pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
    }
    try:
        table = pyarrow.json.read_json(pa.py_buffer(payload), **options)
    except pa.ArrowInvalid:
        return None
    column = {name: table.column(name).combine_chunks() for name in schema.names}
    return Columns(
        key=column[fields.key],
        times=[column[fields.time]],
        texts={name: column[name] for name in fields.texts},
        numbers={name: _doubles(column[name]) for name in fields.numbers},
        reasons={},
    )


def read_messages(messages: list[dict[str, Any]], fields: Fields) -> Columns:
    """Columns of parsed messages, one value after the other: the slow way, for blocks of mixed types."""
    reasons: dict[int, str] = {}

    def read(name: str, role: str, convert: Callable[[Any], Any]) -> list[Any]:
        values: list[Any] = [message.get(name) for message in messages]
        for row, value in enumerate(values):
            values[row] = None if value is None else convert(value)
            if value is not None and values[row] is None:
                reasons.setdefault(row, f'{role} "{name}" is {_KINDS[type(value)]}')
        return values

    key = pa.array(read(fields.key, "key", _key), pa.string())
    times = read(fields.time, "time", _second if fields.seconds else _millisecond)
    texts = [value if isinstance(value, str) else None for value in times]
    instants = [None if isinstance(value, str) else value for value in times]
    return Columns(
        key=key,
        times=[pa.array(texts, pa.string()), pa.array(instants, pa.float64() if fields.seconds else pa.int64())],
        texts={name: pa.array(read(name, "id", _identity), pa.string()) for name in fields.texts},
        numbers={name: _doubles(pa.array(read(name, "number", _number), pa.float64())) for name in fields.numbers},
        reasons=reasons,
    )


def _doubles(column: Any) -> NDArray[np.float64]:
    """NaN where null; -0 is 0, as the integer that it may have been written as."""
    return np.asarray(column.cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy() + 0.0)


def _millisecond(value: Any) -> str | int | None:
    return value if isinstance(value, str) or (type(value) is int and value in _INT64) else None


def _second(value: Any) -> str | float | None:
    return value if isinstance(value, str) else _number(value)


def _number(value: Any) -> float | None:
    return float(value) if type(value) in (int, float) else None


def _key(value: Any) -> str | None:
    known = _millisecond(value)
    return None if known is None else str(known)


def _identity(value: Any) -> str | None:
    return str(value).lower() if isinstance(value, bool) else _key(value)
