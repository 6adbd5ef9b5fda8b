"""The smallest parts of JSON lines, in place: texts, numbers and words, as RFC 8259 writes them.

What is not sure to be right is left to the strict parser.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamctr.kernel import inlined, kernel

U8 = NDArray[np.uint8]
U64 = NDArray[np.uint64]

MISSING, TEXT, INTEGER, DOUBLE, TRUE, FALSE, ESCAPED, LIST, OBJECT, PARSED = range(10)
"""Kinds of values: absent or null; a text without and with escapes; a whole number within 64 bits, any other number;
and one that the strict parser read."""

WORD: Final = 8
"""Bytes of a word: so many newlines stand behind the last line's."""
_NUMBER_LIMIT: Final = 200
"""No number of so few characters with an exponent of two digits is beyond a double."""
_SURELY_INTEGER: Final = 18
"""So many digits are within 64 bits."""
NEWLINE: Final = 0x0A
QUOTE: Final = 0x22
_ESCAPE: Final = 0x5C
_IS_SPACE: Final = np.isin(np.arange(256), np.frombuffer(b" \t\r", np.uint8))
_IS_TEXT: Final = (np.arange(256) >= 0x20) & ~np.isin(np.arange(256), np.frombuffer(b'"\\', np.uint8))
_IS_DIGIT: Final = np.isin(np.arange(256), np.frombuffer(b"0123456789", np.uint8))
_IS_ESCAPED: Final = np.isin(np.arange(256), np.frombuffer(b'"\\/bfnrt', np.uint8))
_HEX: Final = np.full(256, -1)
_HEX[np.frombuffer(b"0123456789abcdef", np.uint8)] = range(16)
_HEX[np.frombuffer(b"ABCDEF", np.uint8)] = range(10, 16)
_CALLED: Final = np.frombuffer(b"nulltruefalse", np.uint8)


class Bytes(NamedTuple):
    """Bytes, and the words of 8 that begin at each of them, little-endian."""

    data: U8
    words: U64


def bytes_of(text: bytes) -> Bytes:
    """A copy of these bytes, with a word of newlines behind them."""
    data = np.empty(len(text) + WORD, np.uint8)
    data[: len(text)], data[len(text) :] = np.frombuffer(text, np.uint8), NEWLINE
    return Bytes(data, np.ndarray(len(text) + 1, np.uint64, data, strides=(1,)))


@inlined
def pack(kind: int, start: int, size: int) -> int:
    """A span: 4 bits of kind, 28 of size, the place above."""
    return start << 32 | size << 4 | kind


@kernel
def unpack(span: int) -> tuple[int, int, int]:
    """Kind, start and size."""
    return span & 15, span >> 32, (span >> 4) & 0xFFFFFFF


@kernel
def skip_space(data: U8, at: int) -> int:
    """The next place without a blank."""
    while _IS_SPACE[data[at]]:
        at += 1
    return at


@kernel
def hex_4(data: U8, at: int) -> int:
    """The number that four hex digits stand for; negative where they are not there."""
    value = 0
    for place in range(at, at + 4):
        digit = _HEX[data[place]]
        if digit < 0:
            return -1
        value = value << 4 | digit
    return value


@kernel
def _skip_escape(data: U8, at: int) -> int:
    """The place behind the escape at `at`; -1 for a wrong one and a lone surrogate."""
    if _IS_ESCAPED[data[at + 1]]:
        return at + 2
    if data[at + 1] != 0x75:
        return -1
    value = hex_4(data, at + 2)
    if value < 0xD800 or value > 0xDFFF:
        return at + 6 if value >= 0 else -1
    if value > 0xDBFF or data[at + 6] != _ESCAPE or data[at + 7] != 0x75:
        return -1
    low = hex_4(data, at + 8)
    return at + 12 if 0xDC00 <= low <= 0xDFFF else -1


@kernel
def skip_text(data: U8, at: int) -> tuple[int, int]:
    """The closing quote of the text at `at`, -1 where it is none; and whether it is TEXT or ESCAPED."""
    kind = TEXT
    while True:
        while _IS_TEXT[data[at]]:
            at += 1
        if data[at] == QUOTE:
            return at, kind
        if data[at] != _ESCAPE:
            return -1, kind
        at, kind = _skip_escape(data, at), ESCAPED
        if at < 0:
            return -1, kind


@inlined
def _skip_digits(data: U8, at: int) -> int:
    while _IS_DIGIT[data[at]]:
        at += 1
    return at


@kernel
def _is_beyond(data: U8, at: int, end: int, negative: bool) -> bool:
    """Whether 19 or more digits stand for a number beyond 64 bits."""
    if end - at > 19:
        return True
    value = np.uint64(0)
    for place in range(at, end):
        value = value * np.uint64(10) + np.uint64(data[place] - 0x30)
    return bool(value > np.uint64(0x7FFFFFFFFFFFFFFF) + np.uint64(negative))


@inlined
def skip_number(data: U8, at: int) -> tuple[int, int]:
    """The place behind the number at `at`, -1 for what the strict parser must judge; INTEGER or DOUBLE."""
    start, kind = at, INTEGER
    at += int(data[at] == 0x2D)
    digits, at = at, _skip_digits(data, at)
    if at == digits or (at > digits + 1 and data[digits] == 0x30):
        return -1, kind
    if at - digits > _SURELY_INTEGER and _is_beyond(data, digits, at, digits > start):
        kind = DOUBLE
    if data[at] == 0x2E:
        digits, at, kind = at + 1, _skip_digits(data, at + 1), DOUBLE
    empty = at == digits
    if data[at] | 0x20 == 0x65:
        at += 2 if data[at + 1] == 0x2B or data[at + 1] == 0x2D else 1
        digits, at, kind = at, _skip_digits(data, at), DOUBLE
        empty |= at == digits or at - digits > 2
    return (-1 if empty or at - start > _NUMBER_LIMIT else at), kind


@kernel
def _skip_word(data: U8, at: int) -> tuple[int, int]:
    """The place behind null, true or false, -1 for another word; MISSING, TRUE or FALSE."""
    kind, first, size = MISSING, 0, 4
    if data[at] == 0x74:
        kind, first = TRUE, 4
    elif data[at] == 0x66:
        kind, first, size = FALSE, 8, 5
    for place in range(size):
        if data[at + place] != _CALLED[first + place]:
            return -1, kind
    return at + size, kind


@inlined
def read_scalar(data: U8, at: int) -> tuple[int, int]:
    """The place behind the text, number or word at `at`, and its span; -1 for what the strict parser must judge."""
    byte = data[at]
    if byte == QUOTE:
        end, kind = skip_text(data, at + 1)
        return (-1 if end < 0 else end + 1), pack(kind, at + 1, end - at - 1)
    if byte == 0x2D or _IS_DIGIT[byte]:
        end, kind = skip_number(data, at)
        if kind == INTEGER and end == at + 2 and byte == 0x2D and data[at + 1] == 0x30:
            return end, pack(kind, at + 1, 1)  # -0 is 0
    else:
        end, kind = _skip_word(data, at)
    return end, (0 if kind == MISSING else pack(kind, at, end - at))
