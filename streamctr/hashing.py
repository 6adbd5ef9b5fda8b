"""Stable 64-bit identity: xxh3_64 of the bytes of an id's canonical text, mixed with splitmix64.

The same on every machine, Python version and library version. Ids stay 64 bits wide everywhere; how an id becomes a
table row is the table's business alone.
"""

from typing import Final

import numpy as np
import xxhash
from numpy.typing import NDArray

from streamctr.kernel import kernel

U8 = NDArray[np.uint8]
U64 = NDArray[np.uint64]

MISSING_ID: Final = 0
"""The id of an absent value: an id of its own, which no text hashes to (see `hash_text`)."""

GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_M1: Final = np.uint64(0xBF58476D1CE4E5B9)
_M2: Final = np.uint64(0x94D049BB133111EB)
_S30: Final = np.uint64(30)
_S27: Final = np.uint64(27)
_S31: Final = np.uint64(31)

SPAN_LIMIT: Final = 240
"""Longer texts are hashed in another way, which is left to the library (see `hash_span`)."""
_P1: Final = np.uint64(0x9E3779B185EBCA87)
_P2: Final = np.uint64(0xC2B2AE3D27D4EB4F)
_P3: Final = np.uint64(0x165667B19E3779F9)
_X1: Final = np.uint64(0x165667919E3779F9)
_X2: Final = np.uint64(0x9FB21C651E98DF25)
_LOW: Final = np.uint64(0xFFFFFFFF)
_ODD: Final = np.uint64(0x00FF00FF00FF00FF)
_ODD_PAIRS: Final = np.uint64(0x0000FFFF0000FFFF)
_S8, _S15, _S16, _S24, _S28, _S29 = (np.uint64(bits) for bits in (8, 15, 16, 24, 28, 29))
_S32, _S33, _S35, _S37, _S40, _S49 = (np.uint64(bits) for bits in (32, 33, 35, 37, 40, 49))
_SECRET_BYTES: Final = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221b8084674f743248e"
    "e03590e6813a264c3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8a8fa763fe39c343ff9dcbbc7c70b4f1d8a"
    "51e04bcdb45931c89f7ec9d9787364eac5ac8334d3ebc3c581a0fffa1363eb170ddd51b7f0da49d316552629d4689e2b16be587d47a1fc8f"
    "f8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
)
_SECRET: Final = np.array([int.from_bytes(_SECRET_BYTES[at : at + 8], "little") for at in range(185)], np.uint64)
"""The secret of xxh3: the 8 bytes from each place on as a number."""


def hash_text(text: str) -> int:
    """The 64-bit id of one canonical text; never `MISSING_ID`.

    >>> hash_text("123")
    4632645163541105818
    """
    return xxhash.xxh3_64_intdigest(text.encode()) or 1


def hash_texts(texts: list[str]) -> U64:
    """`hash_text` of each: call it on the distinct values of a block, not on its rows."""
    return hash_bytes([text.encode() for text in texts])


def hash_bytes(texts: list[bytes]) -> U64:
    """`hash_texts` of texts that are UTF-8 already."""
    hashes = np.fromiter(map(xxhash.xxh3_64_intdigest, texts), np.uint64, len(texts))
    hashes[hashes == MISSING_ID] = 1
    return hashes


def mix(values: U64) -> U64:
    """splitmix64's finaliser over a column: a bijection that spreads every bit (Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        mixed = values + GOLDEN
        mixed = (mixed ^ (mixed >> _S30)) * _M1
        mixed = (mixed ^ (mixed >> _S27)) * _M2
    return mixed ^ (mixed >> _S31)


@kernel
def mix_one(value: np.uint64) -> np.uint64:
    """`mix` of one value, for use inside kernels.

    Compiled, every step wraps at 64 bits and the masks cost nothing; as plain Python, integers grow and the masks wrap
    them, without the warnings that numpy's scalars would give.
    """
    mixed = (int(value) + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return np.uint64(mixed ^ (mixed >> 31))


@kernel
def _combine(total_N: U64, columns_NC: U64) -> None:
    for row in range(len(total_N)):
        total = total_N[row]
        for column in range(columns_NC.shape[1]):
            total = mix_one(total ^ columns_NC[row, column])
        total_N[row] = total


def combine(columns: list[U64]) -> U64:
    """One hash of several columns, (N,) or (N, C) each, in order: how a row of values is told from another."""
    total = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        _combine(total, np.ascontiguousarray(column if column.ndim == 2 else column[:, np.newaxis]))
    return total


@kernel
def product(a: np.uint64, b: np.uint64) -> tuple[np.uint64, np.uint64]:
    """The upper and the lower 64 bits of the product, inside kernels."""
    a_low, a_high, b_low, b_high = a & _LOW, a >> _S32, b & _LOW, b >> _S32
    low = a_low * b_low
    middle = a_high * b_low + (low >> _S32)
    across = a_low * b_high + (middle & _LOW)
    return a_high * b_high + (middle >> _S32) + (across >> _S32), (across << _S32) | (low & _LOW)


@kernel
def _fold(a: np.uint64, b: np.uint64) -> np.uint64:
    """The halves of the product, combined."""
    high, low = product(a, b)
    return high ^ low


@kernel
def _spread(value: np.uint64) -> np.uint64:
    value = (value ^ (value >> _S37)) * _X1
    return value ^ (value >> _S32)


@kernel
def _mix_16(words: U64, at: int, secret: int) -> np.uint64:
    """16 bytes with 16 of the secret."""
    return _fold(words[at] ^ _SECRET[secret], words[at + 8] ^ _SECRET[secret + 8])


@kernel
def _hash_to_8(data: U8, words: U64, at: int, size: int) -> np.uint64:
    if size >= 4:
        value = (words[at + size - 4] & _LOW) | (words[at] << _S32)
        value ^= _SECRET[8] ^ _SECRET[16]
        value ^= ((value << _S49) | (value >> _S15)) ^ ((value << _S24) | (value >> _S40))
        value *= _X2
        value = (value ^ ((value >> _S35) + np.uint64(size))) * _X2
        return np.uint64(value ^ (value >> _S28))
    if size == 0:
        value = _SECRET[56] ^ _SECRET[64]
    else:
        value = np.uint64(data[at]) << _S16 | np.uint64(data[at + (size >> 1)]) << _S24
        value |= np.uint64(data[at + size - 1]) | np.uint64(size) << _S8
        value ^= (_SECRET[0] ^ _SECRET[4]) & _LOW
    value = (value ^ (value >> _S33)) * _P2
    value = (value ^ (value >> _S29)) * _P3
    return np.uint64(value ^ (value >> _S32))


@kernel
def _hash_to_16(words: U64, at: int, size: int) -> np.uint64:
    low = words[at] ^ _SECRET[24] ^ _SECRET[32]
    high = words[at + size - 8] ^ _SECRET[40] ^ _SECRET[48]
    swapped = ((low & _ODD) << _S8) | ((low >> _S8) & _ODD)
    swapped = ((swapped & _ODD_PAIRS) << _S16) | ((swapped >> _S16) & _ODD_PAIRS)
    swapped = (swapped << _S32) | (swapped >> _S32)
    return _spread(np.uint64(size) + swapped + high + _fold(low, high))


@kernel
def _hash_to_240(words: U64, at: int, size: int) -> np.uint64:
    total = np.uint64(size) * _P1
    if size <= 128:
        for part in range((size - 1) // 32, -1, -1):
            total += _mix_16(words, at + 16 * part, 32 * part)
            total += _mix_16(words, at + size - 16 * (part + 1), 32 * part + 16)
        return _spread(total)
    for part in range(8):
        total += _mix_16(words, at + 16 * part, 16 * part)
    total = _spread(total)
    for part in range(8, size // 16):
        total += _mix_16(words, at + 16 * part, 16 * (part - 8) + 3)
    return _spread(total + _mix_16(words, at + size - 16, 119))


@kernel
def hash_span(data: U8, words: U64, at: int, size: int) -> np.uint64:
    """`hash_text` of the `size` bytes at `at`, at most `SPAN_LIMIT`, inside kernels.

    Args:
        data: bytes, with 8 more than are hashed.
        words: the 8 bytes from each place on as a little-endian number.
        at: where they begin.
        size: how many they are.
    """
    if size <= 8:
        found = _hash_to_8(data, words, at, size)
    elif size <= 16:
        found = _hash_to_16(words, at, size)
    else:
        found = _hash_to_240(words, at, size)
    return found if found != 0 else np.uint64(1)
