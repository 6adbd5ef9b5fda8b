"""Facts about a field of the sampled lines, from which the guesses follow. Legend: N lines."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from jobs.init.words import TIMES, tokens

Kind = Literal["empty", "list", "other", "flag", "whole", "decimal", "text"]

_WHOLE: Final = re.compile(r"-?(0|[1-9]\d*)")
_DECIMAL: Final = re.compile(r"-?\d+(\.\d*)?([eE][+-]?\d+)?|-?\.\d+")
_ISO: Final = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d")
_EARLIEST_S: Final = 946_684_800
_LATEST_S: Final = 4_102_444_800
_PER_SECOND: Final = {"s": 1, "ms": 1_000, "us": 1_000_000}


@dataclass(frozen=True)
class Moments:
    """A field read as times."""

    ms: NDArray[np.float64]
    """NaN where it is missing."""
    form: Literal["text", "s", "ms", "us"]
    offset: bool
    """Whether every text says its offset from UTC."""


@dataclass(frozen=True)
class Field:
    """One field of N lines; None stands for a missing value."""

    name: str
    values: Sequence[Any]

    @cached_property
    def present(self) -> list[Any]:
        """Values that are not missing."""
        return [value for value in self.values if value is not None]

    @property
    def share(self) -> float:
        """Of the lines, those that have it."""
        return len(self.present) / max(1, len(self.values))

    @cached_property
    def texts(self) -> list[str | None]:
        """Values as an id is written; None for missing ones, and for lists."""
        return [None if value is None or isinstance(value, list | dict) else text_of(value) for value in self.values]

    @cached_property
    def distinct(self) -> frozenset[str]:
        """The different texts."""
        return frozenset(text for text in self.texts if text is not None)

    @cached_property
    def kind(self) -> Kind:
        """What the present values are, all of them."""
        kinds = {_kind_of(value) for value in self.present}
        if not kinds:
            return "empty"
        if len(kinds) > 1:
            return "decimal" if kinds == {"whole", "decimal"} else "other" if kinds & {"list", "other"} else "text"
        kind = kinds.pop()
        is_flag = kind in ("flag", "whole", "text") and self.distinct <= {"0", "1", "true", "false"}
        return "flag" if is_flag and len(self.distinct) > 1 else "text" if kind == "flag" else kind

    @cached_property
    def numbers(self) -> NDArray[np.float64]:
        """Values of a field of whole or decimal numbers; NaN where missing, all NaN for others."""
        if self.kind not in ("whole", "decimal"):
            return np.full(len(self.values), np.nan)
        return np.array([np.nan if value is None else float(value) for value in self.values])

    @cached_property
    def is_set(self) -> NDArray[np.bool_]:
        """Which lines have a value that is not nothing: not missing, 0, false, nor empty."""
        return np.array([value not in (None, 0, "0", "0.0", "false", "", []) for value in self.values], dtype=bool)

    @cached_property
    def moments(self) -> Moments | None:
        """The field as times, if each present value is one between 2000 and 2100."""
        if self.kind in ("empty", "list", "other", "flag"):
            return None
        return _texts_as_times(self) if self.kind == "text" else _numbers_as_times(self)

    @property
    def called_a_time(self) -> bool:
        """Whether a word of its name says that it is a time."""
        return bool(TIMES & set(tokens(self.name)))

    def only(self, mask: NDArray[np.bool_]) -> "Field":
        """The same field of some of the lines."""
        return Field(self.name, [value for value, kept in zip(self.values, mask, strict=True) if kept])


@dataclass(frozen=True)
class Lines:
    """N lines by field, in the order in which fields first came."""

    count: int
    fields: dict[str, Field]

    @classmethod
    def of(cls, rows: Iterable[dict[str, Any]]) -> "Lines":
        """Columns of flat rows; an empty text is missing."""
        kept = list(rows)
        names = dict.fromkeys(name for row in kept for name in row)
        return cls(len(kept), {name: Field(name, [_value(row.get(name)) for row in kept]) for name in names})

    def only(self, mask: NDArray[np.bool_]) -> "Lines":
        """Some of the lines, and the fields that these have."""
        fields = (field.only(mask) for field in self.fields.values())
        return Lines(int(mask.sum()), {field.name: field for field in fields if field.present})


def flat(message: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A message with its objects' fields as dotted paths.

    >>> flat({"imp": {"id": 7}, "tags": ["a"]})
    {'imp.id': 7, 'tags': ['a']}
    """
    fields: dict[str, Any] = {}
    for name, value in message.items():
        fields |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return fields


def text_of(value: Any) -> str:
    """A value as an id is written."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _value(value: Any) -> Any:
    return None if value == "" or (isinstance(value, float) and np.isnan(value)) else value


def _kind_of(value: Any) -> Kind:
    if isinstance(value, bool):
        return "flag"
    if isinstance(value, int):
        return "whole"
    if isinstance(value, float | Decimal):
        return "decimal"
    if isinstance(value, str):
        return "whole" if _WHOLE.fullmatch(value) else "decimal" if _number_text(value) else "text"
    return "text" if isinstance(value, datetime) else "list" if isinstance(value, list) else "other"


def _number_text(text: str) -> bool:
    """007 is a code, not a number."""
    return bool(_DECIMAL.fullmatch(text)) and not re.match(r"-?0\d", text)


def _texts_as_times(field: Field) -> Moments | None:
    moments = [_moment(value) for value in field.present]
    if any(moment is None for moment in moments):
        return None
    offset = all(moment.tzinfo is not None for moment in moments if moment)
    read = iter([moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() for moment in moments if moment])
    ms = np.array([np.nan if value is None else next(read) * 1000 for value in field.values])
    return Moments(ms, "text", offset)


def _moment(value: Any) -> datetime | None:
    if isinstance(value, datetime):
        return value
    try:
        return datetime.fromisoformat(value) if _ISO.match(str(value)) else None
    except ValueError:
        return None


def _numbers_as_times(field: Field) -> Moments | None:
    low, high = float(np.nanmin(field.numbers)), float(np.nanmax(field.numbers))
    for form, per_second in _PER_SECOND.items():
        if _EARLIEST_S * per_second <= low <= high < _LATEST_S * per_second:
            if form == "ms" and field.kind == "decimal":
                return None
            return Moments(field.numbers * (1000 / per_second), form, True)  # type: ignore[arg-type]
    return None
