"""Whether numbers are finite, and small enough to be squared. Legend: N numbers, W workers of a loop."""

from typing import Final

import numpy as np
from numba import prange
from numpy.typing import NDArray

from streamctr.cores import MOST_CORES, Turns, side_by_side, turn
from streamctr.kernel import kernel

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]

AT_ONCE: Final = 1 << 14
"""Numbers that a core looks at at a time."""


def finite(array: F32, below: int) -> bool:
    """Whether every number of a contiguous array is finite, and smaller than 2^`below`."""
    largest_W16 = np.zeros((MOST_CORES, 16), np.int32)
    _largest(array.reshape(-1).view(np.int32), largest_W16)
    return is_below(int(largest_W16[:, 0].max()), below)


def is_below(exponent: int, below: int) -> bool:
    """Whether the exponent field of a number is that of one smaller than 2^`below`."""
    return exponent < below + 127 << 23


@side_by_side
def _largest(turns: Turns, bits_N: I32, largest_W16: I32) -> None:
    parts = (len(bits_N) + AT_ONCE - 1) // AT_ONCE
    for worker in prange(turns.workers):
        part = turn(turns, parts)
        while part < parts:
            exponents(bits_N[part * AT_ONCE : (part + 1) * AT_ONCE], largest_W16[worker])
            part = turn(turns, parts)


@kernel
def exponents(bits_N: I32, largest_16: I32) -> None:
    """The largest exponent field of float32 numbers, given as integers, or what stands there; all ones: not finite."""
    largest = largest_16[0]
    for n in range(len(bits_N)):
        largest = max(largest, bits_N[n] & np.int32(0x7F800000))
    largest_16[0] = largest
