"""Messages as lines: one message a line, whatever it holds, so that none is joined, parted or passed over."""

from collections.abc import Sequence
from typing import Final, NamedTuple, TypeGuard

import numpy as np

_NEWLINE: Final = ord("\n")
_BLANK: Final = b" \t\r\n"


class Lines(NamedTuple):
    """Of N messages."""

    payload: bytes
    reasons: dict[int, str]
    """By line, from 0: why it is no message."""


def lines_of(values: Sequence[bytes | None], limit_bytes: int) -> Lines:
    r"""The values of one partition's messages; a longer one than the limit is cut and refused.

    >>> lines_of([b'{"id": 7}', b"", b'{"id": 8}'], 100)
    Lines(payload=b'{"id": 7}\n""\n{"id": 8}', reasons={1: 'is empty'})
    """
    if _have_all(values) and _fit(values, limit_bytes):
        payload = b"\n".join(values)
        # three times as fast as `count`
        if np.count_nonzero(np.frombuffer(payload, np.uint8) == _NEWLINE) == len(values) - 1:
            return Lines(payload, {})
    lines, reasons = [], {}
    for line, value in enumerate(values):
        text, reason = line_of(value, limit_bytes)
        lines.append(text)
        if reason:
            reasons[line] = reason
    return Lines(b"\n".join(lines), reasons)


def line_of(value: bytes | None, limit_bytes: int) -> tuple[bytes, str]:
    r"""A message as one line, and why it is refused, where it is.

    Line breaks become carriage returns: space in JSON too, and forbidden inside its texts too.

    >>> line_of(b'{\n  "id": 7\n}', 100), line_of(None, 100)
    ((b'{\r  "id": 7\r}', ''), (b'null', 'has no value (a tombstone)'))
    """
    if value is None:
        return b"null", "has no value (a tombstone)"
    if len(value) > limit_bytes:
        # no JSON ends in dots: a long message whose beginning is a good one stays malformed
        return value[:limit_bytes].replace(b"\n", b"\r") + b"...", f"longer than {limit_bytes} bytes"
    if not value.strip(_BLANK):
        return b'""', "is empty"
    return (value.replace(b"\n", b"\r") if b"\n" in value else value), ""


def _have_all(values: Sequence[bytes | None]) -> TypeGuard[Sequence[bytes]]:
    """Whether no tombstone is among them."""
    return None not in values


def _fit(values: Sequence[bytes], limit_bytes: int) -> bool:
    """Whether none is too long, and none blank; `strip` knows more kinds of space, so a few that are not look so."""
    return max(map(len, values), default=0) <= limit_bytes and all(map(bytes.strip, values))
