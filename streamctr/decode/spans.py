"""Values of a field as places in the bytes of JSON lines, and the Arrow arrays of them. Legend: N messages."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from streamctr.decode.cells import Cells, cells_of, find
from streamctr.decode.tokens import (
    DOUBLE,
    ESCAPED,
    FALSE,
    INTEGER,
    LIST,
    OBJECT,
    PARSED,
    TEXT,
    TRUE,
    Bytes,
    hex_4,
    pack,
    unpack,
)
from streamctr.kernel import kernel

U8 = NDArray[np.uint8]
I64 = NDArray[np.int64]

_KIND: Final = 15
_PLAIN_ESCAPES: Final = np.zeros(256, np.uint8)
_PLAIN_ESCAPES[np.frombuffer(b'"\\/bfnrt', np.uint8)] = np.frombuffer(b'"\\/\b\f\n\r\t', np.uint8)


@kernel
def _write_utf8(data: U8, at: int, code: int) -> int:
    """Write a character; the place behind it."""
    if code < 0x80:
        data[at] = code
        return at + 1
    follows = 1 + int(code > 0x7FF) + int(code > 0xFFFF)
    for place in range(at + follows, at, -1):
        data[place] = 0x80 | (code & 0x3F)
        code >>= 6
    data[at] = code | (0xF00 >> (follows + 1) & 0xFF)
    return at + follows + 1


@kernel
def unescape_one(data: U8, at: int, end: int) -> int:
    """Write the text between two places without escapes, where it stands; its new end."""
    to = at
    while at < end:
        if data[at] != 0x5C:
            data[to] = data[at]
            at, to = at + 1, to + 1
        elif data[at + 1] != 0x75:
            data[to] = _PLAIN_ESCAPES[data[at + 1]]
            at, to = at + 2, to + 1
        else:
            code = hex_4(data, at + 2)
            at += 6
            if 0xD800 <= code <= 0xDFFF:  # the first of two
                code = 0x10000 + ((code - 0xD800) << 10) + hex_4(data, at + 2) - 0xDC00
                at += 6
            to = _write_utf8(data, to, code)
    return to


@kernel
def unescape(data: U8, spans_N: I64) -> None:
    """Make escaped texts plain ones, in the bytes and in their spans."""
    for row in range(len(spans_N)):
        kind, start, size = unpack(spans_N[row])
        if kind == ESCAPED:
            spans_N[row] = pack(TEXT, start, unescape_one(data, start, start + size) - start)


@kernel
def read_integer(data: U8, at: int, end: int) -> int:
    """The whole number within 64 bits between two places."""
    negative, value = data[at] == 0x2D, 0
    for place in range(at + int(negative), end):
        value = value * 10 - (int(data[place]) - 0x30)  # below zero, where there is one number more
    return value if negative else -value


@kernel
def _copy_integers(data: U8, spans_N: I64, values_N: I64) -> None:
    for row in range(len(spans_N)):
        kind, start, size = unpack(spans_N[row])
        values_N[row] = read_integer(data, start, start + size) if kind == INTEGER else 0


@kernel
def _copy_texts(data: U8, spans_N: I64, wanted: int, ends_N1: NDArray[np.int32], texts: U8) -> None:
    to = 0
    for row in range(len(spans_N)):
        kind, start, size = unpack(spans_N[row])
        if kind == wanted:
            for place in range(start, start + size):
                texts[to] = data[place]
                to += 1
        ends_N1[row + 1] = to


@dataclass(frozen=True)
class Spans:
    """One field of N messages: like `Cells`, whose arrays are made when they are asked for."""

    text: Bytes
    """Whole lines; escaped texts are no longer as they were."""
    spans_N: I64
    """See `tokens.pack`; of kind PARSED the place is that of the message in `messages`."""
    path: tuple[str, ...]
    messages: list[dict[str, Any]]
    """Those that the strict parser read."""

    def take(self, rows: Any) -> "Spans":
        """The values of these messages."""
        return Spans(self.text, self.spans_N[rows], self.path, self.messages)

    @cached_property
    def kinds(self) -> I64:
        """What each value is."""
        return self.spans_N & _KIND

    @cached_property
    def present(self) -> frozenset[int]:
        """The kinds that there are."""
        return frozenset(np.flatnonzero(np.bincount(self.kinds, minlength=_KIND)).tolist())

    @property
    def arrays(self) -> tuple[Any, ...]:
        """As of `Cells`."""
        return self.cells.arrays

    @property
    def strange(self) -> dict[int, str]:
        """As of `Cells`."""
        return self.cells.strange

    @cached_property
    def cells(self) -> Cells:
        """The same values in Arrow arrays."""
        arrays: list[Any] = []
        if TEXT in self.present:
            arrays.append(self._texts(TEXT))
        if INTEGER in self.present:
            arrays.append(self._integers())
        if DOUBLE in self.present:
            arrays.append(self._texts(DOUBLE).cast(pa.float64()))
        if self.present & {TRUE, FALSE}:
            held = (self.kinds == TRUE) | (self.kinds == FALSE)
            arrays.append(pa.array(self.kinds == TRUE, mask=~held))
        if not self.present & {LIST, OBJECT, PARSED}:
            return Cells(tuple(arrays) or (pa.nulls(len(self.spans_N), pa.string()),))
        others = cells_of(self._others())
        return Cells((*arrays, *others.arrays), others.strange)

    def _integers(self) -> Any:
        values = np.empty(len(self.spans_N), np.int64)
        _copy_integers(self.text.data, self.spans_N, values)
        return pa.array(values, mask=self.kinds != INTEGER)

    def _texts(self, kind: int) -> Any:
        n, held = len(self.spans_N), self.kinds == kind
        size = int(((self.spans_N >> 4) & 0xFFFFFFF)[held].sum())
        ends, texts = np.zeros(n + 1, np.int32), np.empty(size, np.uint8)
        _copy_texts(self.text.data, self.spans_N, kind, ends, texts)
        valid = pa.py_buffer(np.packbits(held, bitorder="little"))
        return pa.StringArray.from_buffers(n, pa.py_buffer(ends), pa.py_buffer(texts), valid)

    def _others(self) -> list[Any]:
        """Lists, objects, and what the strict parser read."""
        values: list[Any] = [None] * len(self.spans_N)
        for row in np.flatnonzero(self.kinds >= LIST).tolist():
            kind, start, size = unpack(int(self.spans_N[row]))
            if kind == PARSED:
                values[row] = find(self.messages[start], self.path)
            else:  # an object's members may be plain texts now, and are not asked for
                values[row] = orjson.loads(self.text.data[start : start + size].tobytes()) if kind == LIST else {}
        return values


class Fields(Mapping[str, Spans]):
    """All wanted fields of N messages, by their paths."""

    def __init__(self, text: Bytes, spans_WN: I64, rows: Mapping[str, int], messages: list[dict[str, Any]]) -> None:
        self.text, self.spans_WN = text, spans_WN
        self._rows, self._messages = rows, messages
        self._made: dict[str, Spans] = {}

    def __getitem__(self, name: str) -> Spans:
        if name not in self._made:
            spans_N = self.spans_WN[self._rows[name]]
            self._made[name] = Spans(self.text, spans_N, tuple(name.split(".")), self._messages)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, messages: I64) -> "Fields":
        """The fields of these messages."""
        return Fields(self.text, self.spans_WN.take(messages, axis=1), self._rows, self._messages)

    def rows_of(self, names: Sequence[str]) -> I64:
        """Where these fields stand in `spans_WN`."""
        return np.array([self._rows[name] for name in names], np.int64)
