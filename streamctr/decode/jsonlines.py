"""JSON lines to fields: found by one compiled pass, or as the strict parser reads a line that it must judge.

Both must accept the same messages and give the same values:

- a message is a line with one JSON object (RFC 8259, UTF-8), no number in it beyond a double, nested below 1024
- a field is a path of member names with dots between them; null and absent, at any depth, are missing
- of two values under one name the last counts; an integer beyond 64 bits (signed) is a double

Legend: N messages, L lines, W fields.
"""

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from streamctr.decode.cells import Parsed
from streamctr.decode.scan import BLANK, PLAIN, SUSPECT, Found, scan
from streamctr.decode.spans import Fields, unescape
from streamctr.decode.tokens import PARSED, WORD, Bytes, bytes_of
from streamctr.decode.tree import tree_of
from streamctr.ports import LINE_LIMIT_BYTES

I64 = NDArray[np.int64]

_NEWLINE: Final = b"\n"
_ESCAPE: Final = b"\\"


class JsonLines:
    """Reads the same fields of block after block.

    >>> parsed = JsonLines(["a.b"]).parse(b'{"a": {"b": 1}}\\n\\n[2]')
    >>> parsed.cells["a.b"].arrays[0].to_pylist(), parsed.refused
    ([1], {2: 'not a JSON object'})
    """

    def __init__(self, fields: Iterable[str]) -> None:
        names = sorted(fields, key=lambda name: name.split("."))
        self._rows = {name: row for row, name in enumerate(names)}
        self._tree = tree_of(names)

    def parse(self, payload: bytes) -> Parsed:
        """The fields of all well-formed lines."""
        text = bytes_of(payload if payload.endswith(_NEWLINE) else payload + _NEWLINE)
        found = self._scan(payload, text)
        states_L, starts, spans_WN = found.states_L, found.starts_L1, found.spans_WL
        messages, refused = _strictly(payload, starts, np.flatnonzero(states_L == SUSPECT))
        if messages:
            spans_WN[:, list(messages)] = PARSED | np.arange(len(messages)) << 32
        if refused:
            states_L[list(refused)] = BLANK
        places = np.flatnonzero(states_L != BLANK)
        if len(places) < len(states_L):
            spans_WN = spans_WN.take(places, axis=1)
        if _ESCAPE in payload:
            unescape(text.data, spans_WN.reshape(-1))
        cells = Fields(text, spans_WN, self._rows, list(messages.values()))
        return Parsed(cells, places, refused, lambda line, limit: payload[starts[line] : starts[line + 1] - 1][:limit])

    def _scan(self, payload: bytes, text: Bytes) -> Found:
        """What is found; lines with bytes that are no UTF-8 are for the strict parser too."""
        n_lines = int(np.count_nonzero(text.data == _NEWLINE[0])) - WORD
        found = scan(text, n_lines, len(self._rows), self._tree)
        if not payload.isascii() and not _is_utf8(payload):
            for line in np.flatnonzero(found.states_L == PLAIN).tolist():
                if not _is_utf8(payload[found.starts_L1[line] : found.starts_L1[line + 1]]):
                    found.states_L[line] = SUSPECT
        return found


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _strictly(payload: bytes, starts: I64, lines: I64) -> tuple[dict[int, dict[str, Any]], dict[int, str]]:
    """The messages of these lines, and why the others are none."""
    read = {line: _message(payload[starts[line] : starts[line + 1] - 1]) for line in lines.tolist()}
    return (
        {line: message for line, message in read.items() if isinstance(message, dict)},
        {line: reason for line, reason in read.items() if isinstance(reason, str)},
    )


def _message(text: bytes) -> dict[str, Any] | str:
    if len(text) > LINE_LIMIT_BYTES:
        return f"longer than {LINE_LIMIT_BYTES} bytes"
    try:
        message = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return f"not JSON: {error.msg}"
    return message if isinstance(message, dict) else "not a JSON object"
