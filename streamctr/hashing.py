"""Stable 64-bit identity: xxh3_64 of the bytes of an id's canonical text, mixed with splitmix64.

The same on every machine, Python version and library version. Ids stay 64 bits wide everywhere; how an id becomes a
table row is the table's business alone.
"""

from typing import Final

import numpy as np
import xxhash
from numpy.typing import NDArray

from streamctr.kernel import kernel

U64 = NDArray[np.uint64]

MISSING_ID: Final = 0
"""The id of an absent value: an id of its own, which no text hashes to (see `hash_text`)."""

GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_M1: Final = np.uint64(0xBF58476D1CE4E5B9)
_M2: Final = np.uint64(0x94D049BB133111EB)
_S30: Final = np.uint64(30)
_S27: Final = np.uint64(27)
_S31: Final = np.uint64(31)


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


def combine(columns: list[U64]) -> U64:
    """One hash of several columns, in order: how a row of values is told from another."""
    total = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        total = mix(total ^ column)
    return total
