"""Which lines of a block are surely one JSON object each, so that the block can be read at once.

The columns are read by a parser that merges lines, accepts NaN and knows no depth limit. A line is PLAIN when none of
that can matter: one balanced object and nothing else, no word but true, false and null, ordinary numbers, no escaped
surrogates, no control characters. Everything else is SUSPECT and is shown to the strict parser first.
"""

from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from streamctr.kernel import kernel
from streamctr.ports import LINE_LIMIT_BYTES

U8 = NDArray[np.uint8]
I64 = NDArray[np.int64]

BLANK: Final = 0
PLAIN: Final = 1
SUSPECT: Final = 2

_OTHER, _SKIP, _QUOTE, _NUMBER, _OPEN, _CLOSE = range(6)
_DEPTH_LIMIT: Final = 500
_NUMBER_LIMIT: Final = 200
"""No number of so few characters with an exponent of two digits is beyond a double."""


def _classes() -> U8:
    classes = np.full(256, _OTHER, np.uint8)
    for members, value in ((b" \t\r:,truefalsn", _SKIP), (b'"', _QUOTE), (b"-0123456789", _NUMBER)):
        classes[np.frombuffer(members, np.uint8)] = value
    classes[np.frombuffer(b"{[", np.uint8)] = _OPEN
    classes[np.frombuffer(b"}]", np.uint8)] = _CLOSE
    return classes


_CLASS: Final = _classes()
_IN_NUMBER: Final = np.isin(np.arange(256), np.frombuffer(b"-+.0123456789eE", np.uint8))
_IS_SPACE: Final = np.isin(np.arange(256), np.frombuffer(b" \t\r", np.uint8))


@kernel
def _skip_space(data: U8, at: int, end: int) -> int:
    while at < end and _IS_SPACE[data[at]]:
        at += 1
    return at


@kernel
def _skip_text(data: U8, at: int, end: int) -> int:
    """The place behind the closing quote; -1 for what the strict parser must judge."""
    while at < end:
        byte = data[at]
        if byte == 0x22:
            return at + 1
        if byte < 0x20:
            return -1
        if byte == 0x5C:
            if at + 2 < end and data[at + 1] == 0x75 and data[at + 2] | 0x20 == 0x64:  # \ud...: a surrogate
                return -1
            at += 1
        at += 1
    return -1


@kernel
def _skip_number(data: U8, at: int, end: int) -> int:
    """The place behind the number; -1 where it could be too big for a double."""
    start, exponent = at, end
    while at < end and _IN_NUMBER[data[at]]:
        if data[at] | 0x20 == 0x65:
            exponent = at
        at += 1
    return -1 if at - start > _NUMBER_LIMIT or at - exponent > 3 else at


@kernel
def _step(data: U8, at: int, end: int) -> int:
    """The place behind the token at `at` inside an object; -1 for what is not expected there."""
    kind = _CLASS[data[at]]
    if kind == _QUOTE:
        return _skip_text(data, at + 1, end)
    if kind == _NUMBER:
        return _skip_number(data, at, end)
    return -1 if kind == _OTHER else at + 1


@kernel
def _judge(data: U8, at: int, end: int) -> int:
    at = _skip_space(data, at, end)
    if at == end:
        return BLANK
    if data[at] != 0x7B:
        return SUSPECT
    depth = 0
    while 0 <= at < end:
        kind = _CLASS[data[at]]
        depth += int(kind == _OPEN) - int(kind == _CLOSE)
        if depth == 0:
            return PLAIN if _skip_space(data, at + 1, end) == end else SUSPECT
        if depth > _DEPTH_LIMIT:
            return SUSPECT
        at = _step(data, at, end)
    return SUSPECT


@kernel
def _scan(data: U8, starts: I64, ends: I64, kinds: U8) -> None:
    line = 0
    starts[0] = 0
    for at in range(len(data)):
        if data[at] == 0x0A:
            ends[line] = at
            line += 1
            starts[line] = at + 1
    ends[line] = len(data)
    for line in range(len(starts)):
        if ends[line] - starts[line] > LINE_LIMIT_BYTES:
            kinds[line] = SUSPECT
        else:
            kinds[line] = _judge(data, starts[line], ends[line])


def scan(payload: bytes) -> tuple[I64, I64, U8]:
    """Start and end (without the newline) of each line of a block, and its kind: BLANK, PLAIN or SUSPECT, (L,) each.

    >>> [column.tolist() for column in scan(b'{"a": [1]}\\n \\nNaN')]
    [[0, 11, 13], [10, 12, 16], [1, 0, 2]]
    """
    n_lines = payload.count(b"\n") + 1
    starts, ends, kinds = np.empty(n_lines, np.int64), np.empty(n_lines, np.int64), np.empty(n_lines, np.uint8)
    _scan(np.frombuffer(payload, np.uint8), starts, ends, kinds)
    if not _is_utf8(payload):
        kinds[kinds == PLAIN] = SUSPECT
    return starts, ends, kinds


def _is_utf8(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


class Lines:
    """The lines of a block, and which of them are still taken for good.

    >>> lines = Lines(b'{"a": 1}\\n\\n[2]')
    >>> lines.kept.tolist(), lines.refused
    ([0], {2: 'not a JSON object'})
    """

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._starts, self._ends, kinds = scan(payload)
        self.kept: I64 = np.flatnonzero(kinds != BLANK)
        """Places of lines that are neither blank nor refused, (N,)."""
        self.messages = len(self.kept)
        """How many lines are not blank."""
        self.refused: dict[int, str] = {}
        """Why a line was refused, by its place."""
        self.parse(np.flatnonzero(kinds == SUSPECT))

    def parse(self, places: I64) -> list[dict[str, Any]]:
        """The messages of these lines, strictly; the others are refused."""
        parsed = [(line, self._parse(line)) for line in places.tolist()]
        self.refuse({line: message for line, message in parsed if isinstance(message, str)})
        return [message for _, message in parsed if isinstance(message, dict)]

    def refuse(self, reasons: dict[int, str]) -> None:
        """Give up the lines at these places."""
        self.refused.update(reasons)
        self.kept = self.kept[~np.isin(self.kept, list(reasons))] if reasons else self.kept

    def payload(self) -> bytes:
        """The kept lines; blank ones may stand between them."""
        return b"\n".join(self.text(line) for line in self.kept) if self.refused else self._payload

    def text(self, line: int, limit: int | None = None) -> bytes:
        """The line at that place without its newline, or its first `limit` bytes."""
        start, end = int(self._starts[line]), int(self._ends[line])
        return self._payload[start : end if limit is None else min(end, start + limit)]

    def _parse(self, line: int) -> dict[str, Any] | str:
        if self._ends[line] - self._starts[line] > LINE_LIMIT_BYTES:
            return f"longer than {LINE_LIMIT_BYTES} bytes"
        try:
            message = orjson.loads(self.text(line))
        except orjson.JSONDecodeError as error:
            return f"not JSON: {error.msg}"
        return message if isinstance(message, dict) else "not a JSON object"
