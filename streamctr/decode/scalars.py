"""Ids and numbers straight from their places in JSON lines, by the rules of `values` for what is usual.

Each kernel says of every message whether its value is missing (NONE), GOOD, or one of the REST, which `values` reads
from Arrow arrays. Legend: N messages, C columns of a bag or vector.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamctr.decode.decimals import decimal
from streamctr.decode.moments import EARLIEST_MS, LATEST_MS, NO_TIME, moment
from streamctr.decode.spans import read_integer, unescape_one
from streamctr.decode.tokens import (
    DOUBLE,
    ESCAPED,
    FALSE,
    INTEGER,
    LIST,
    MISSING,
    TEXT,
    TRUE,
    Bytes,
    read_scalar,
    skip_space,
    unpack,
)
from streamctr.hashing import SPAN_LIMIT, hash_span, mix_one
from streamctr.kernel import kernel

U8 = NDArray[np.uint8]
U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]
F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]

NONE: Final = 0
GOOD: Final = 1
REST: Final = 2

_TENS: Final = np.array([10.0**exponent for exponent in range(23)])
"""Powers that a double holds exactly."""
_EXACT: Final = 1 << 53
"""A double holds all whole numbers up to here."""
_DIGITS: Final = 18
"""So many fit into 64 bits."""
_COMMA: Final = 0x2C
_NULL: Final = 0x6E


@kernel
def _is_whole(data: U8, at: int, end: int) -> bool:
    """Whether a text is a whole number, surely within 64 bits."""
    at += int(end > at and data[at] == 0x2D)
    if end == at or end - at > _DIGITS:
        return False
    whole = True
    for place in range(at, end):
        whole &= 0x30 <= data[place] <= 0x39
    return whole


@kernel
def _id(text: Bytes, span: int, integer: bool) -> tuple[int, np.uint64]:
    """What `values.ids` says of one value: its state, and the hash."""
    kind, at, size = unpack(span)
    if kind == MISSING:
        return NONE, np.uint64(0)
    if integer:
        if kind == INTEGER or (kind == TEXT and _is_whole(text.data, at, at + size)):
            value = mix_one(np.uint64(read_integer(text.data, at, at + size)))
            return GOOD, (value if value != 0 else np.uint64(1))
        return REST, np.uint64(0)
    if size <= SPAN_LIMIT and kind in (TEXT, INTEGER, TRUE, FALSE):
        return GOOD, hash_span(text.data, text.words, at, size)
    return REST, np.uint64(0)


@kernel
def read_id_table(text: Bytes, spans_WN: I64, fields_F: I64, integers_F: Bools, ids_NF: U64, rest_F: I64) -> None:
    """`values.ids` of several fields at once; how many of each are left to `values`."""
    for row in range(len(ids_NF)):
        for place in range(len(fields_F)):
            state, ids_NF[row, place] = _id(text, spans_WN[fields_F[place], row], integers_F[place])
            rest_F[place] += int(state == REST)


@kernel
def read_ids(text: Bytes, spans_N: I64, integer: bool, ids_N: U64, states_N: U8) -> None:
    """`values.ids`."""
    for row in range(len(spans_N)):
        states_N[row], ids_N[row] = _id(text, spans_N[row], integer)


@kernel
def _exponent(data: U8, at: int, end: int) -> int:
    """The exponent behind an `e`."""
    negative, value = data[at] == 0x2D, 0
    at += int(negative or data[at] == 0x2B)
    for place in range(at, end):
        value = value * 10 + int(data[place]) - 0x30
    return -value if negative else value


@kernel
def _decimal(data: U8, at: int, end: int) -> tuple[int, float]:
    """A number as JSON writes it as the double next to it; or REST."""
    negative = data[at] == 0x2D
    at += int(negative)
    mantissa, digits, exponent, fraction = 0, 0, 0, False
    while at < end and data[at] | 0x20 != 0x65:
        if data[at] == 0x2E:
            fraction = True
        else:
            mantissa = mantissa * 10 + int(data[at]) - 0x30
            digits += int(digits > 0 or mantissa > 0)
            exponent -= int(fraction)
        at += 1
    if at < end:
        exponent += _exponent(data, at + 1, end)
    if digits > _DIGITS:
        return REST, np.nan
    if mantissa <= _EXACT and -22 <= exponent <= 22:  # one rounding, which is the right one (Clinger 1990)
        value = mantissa * _TENS[exponent] if exponent >= 0 else mantissa / _TENS[-exponent]
    else:
        value = decimal(np.uint64(mantissa), exponent)
    return (REST if np.isnan(value) else GOOD), (-value if negative else value) + 0.0  # -0 is 0


@kernel
def _number(text: Bytes, span: int) -> tuple[int, float]:
    """What `values.numbers` says of one value."""
    kind, at, size = unpack(span)
    if kind == MISSING:
        return NONE, np.nan
    if kind == INTEGER:
        return GOOD, float(read_integer(text.data, at, at + size))
    if kind == DOUBLE:
        return _decimal(text.data, at, at + size)
    if kind in (TRUE, FALSE):
        return GOOD, float(int(kind == TRUE))
    return REST, np.nan


@kernel
def read_number_table(text: Bytes, spans_WN: I64, fields_M: I64, numbers_NM: F64, rest_M: I64) -> None:
    """`values.numbers` of several fields at once; how many of each are left to `values`."""
    for row in range(len(numbers_NM)):
        for place in range(len(fields_M)):
            state, numbers_NM[row, place] = _number(text, spans_WN[fields_M[place], row])
            rest_M[place] += int(state == REST)


@kernel
def read_numbers(text: Bytes, spans_N: I64, numbers_N: F64, states_N: U8) -> None:
    """`values.numbers`."""
    for row in range(len(spans_N)):
        states_N[row], numbers_N[row] = _number(text, spans_N[row])


@kernel
def _time(text: Bytes, span: int, per_s: int) -> tuple[int, int]:
    """What `values.times` says of one value; numbers are in parts of a second."""
    kind, at, size = unpack(span)
    if kind == MISSING:
        return NONE, NO_TIME
    ms, local = NO_TIME, False
    if kind == INTEGER and size <= _DIGITS - 3:
        number = read_integer(text.data, at, at + size)
        ms = number * (1000 // per_s) if per_s < 1000 else number // (per_s // 1000)
    elif kind == DOUBLE and per_s == 1:
        state, seconds = _decimal(text.data, at, at + size)
        if state == GOOD and abs(seconds) < LATEST_MS:
            ms = int(np.rint(seconds * 1000))
    elif kind == TEXT:
        ms, local = moment(text.data, at, at + size)
    return (GOOD, ms) if EARLIEST_MS <= ms < LATEST_MS and not local else (REST, NO_TIME)


@kernel
def read_times(text: Bytes, spans_N: I64, per_s: int, ms_N: I64, states_N: U8) -> None:
    """`values.times`."""
    for row in range(len(spans_N)):
        states_N[row], ms_N[row] = _time(text, spans_N[row], per_s)


@kernel
def _item(text: Bytes, at: int) -> tuple[int, int]:
    """The next place in a list behind the item at `at`, and the item's span; -1 for a list or object."""
    at = skip_space(text.data, at)
    if text.data[at] == 0x5B or text.data[at] == 0x7B:
        return -1, 0
    at, span = read_scalar(text.data, at)
    at = skip_space(text.data, at)
    return (at + 1 if text.data[at] == _COMMA else at), span


@kernel
def _escaped_id(text: Bytes, span: int, scratch: Bytes) -> tuple[int, np.uint64]:
    """`_id` of a text with escapes, written without them in `scratch`; a list's bytes must stay as they are."""
    _, at, size = unpack(span)
    if size > len(scratch.data):
        return REST, np.uint64(0)
    for place in range(size):
        scratch.data[place] = text.data[at + place]
    size = unescape_one(scratch.data, 0, size)
    if size > SPAN_LIMIT:
        return REST, np.uint64(0)
    return GOOD, hash_span(scratch.data, scratch.words, 0, size)


@kernel
def _bag(text: Bytes, span: int, integer: bool, ids_C: U64, scratch: Bytes) -> int:
    """What `values.bag` says of one value that is no text; a list's ids go into `ids_C`, which holds zeros."""
    kind, at, size = unpack(span)
    if kind == TEXT:
        return REST
    if kind != LIST:
        state, ids_C[0] = _id(text, span, integer)
        return state
    end, count = at + size - 1, 0
    at = skip_space(text.data, at + 1)
    while at < end:
        at, item = _item(text, at)
        if item & 15 == ESCAPED and not integer:
            state, found = _escaped_id(text, item, scratch)
        else:
            state, found = _id(text, item, integer)
        if at < 0 or state == REST:
            ids_C[:] = 0
            return REST
        if state == GOOD:
            if count < len(ids_C):
                ids_C[count] = found
            count += 1
    return GOOD if count > 0 else NONE


@kernel
def read_bags(text: Bytes, spans_N: I64, integer: bool, ids_NC: U64, states_N: U8, scratch: Bytes) -> None:
    """`values.bag`; the bytes of `scratch` are of no matter."""
    for row in range(len(spans_N)):
        states_N[row] = _bag(text, spans_N[row], integer, ids_NC[row], scratch)


@kernel
def _vector(text: Bytes, span: int, numbers_C: F64) -> int:
    """What `values.vector` says of one value."""
    kind, at, size = unpack(span)
    if kind == MISSING:
        return NONE
    if kind != LIST:
        return REST
    end, count = at + size - 1, 0
    at = skip_space(text.data, at + 1)
    while at < end:
        at, item = _item(text, at)
        of = item & 15
        if at < 0 or count == len(numbers_C) or (of != INTEGER and of != DOUBLE):
            return REST
        state, numbers_C[count] = _number(text, item)
        if state != GOOD:
            return REST
        count += 1
    return GOOD if count == len(numbers_C) else REST


@kernel
def read_vectors(text: Bytes, spans_N: I64, numbers_NC: F64, states_N: U8) -> None:
    """`values.vector`."""
    for row in range(len(spans_N)):
        states_N[row] = _vector(text, spans_N[row], numbers_NC[row])
        if states_N[row] != GOOD:
            numbers_NC[row, :] = np.nan
