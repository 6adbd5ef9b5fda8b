"""Records as lines: one message a line, whatever it holds, so that none is joined, parted or passed over."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

_BLANK: Final = b" \t\r\n"


class Lines(NamedTuple):
    """Of N records."""

    payload: bytes
    reasons: dict[int, str]
    """By line, from 0: why it is no message."""
    numbers: NDArray[np.int64] | None
    """Their offsets, (N,), where these are not consecutive."""


def lines_of(records: Sequence[Any], limit_bytes: int) -> Lines:
    """The values of one partition's records; a longer one than the limit is cut and refused."""
    lines, reasons = [], {}
    for line, record in enumerate(records):
        text, reason = line_of(record.value, limit_bytes)
        lines.append(text)
        if reason:
            reasons[line] = reason
    consecutive = not records or records[-1].offset - records[0].offset + 1 == len(records)
    numbers = None if consecutive else np.array([record.offset for record in records], np.int64)
    return Lines(b"\n".join(lines), reasons, numbers)


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
