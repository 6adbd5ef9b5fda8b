"""Whether numbers are finite, and small enough to be squared. Legend: N numbers."""

import numpy as np
from numpy.typing import NDArray

from streamctr.kernel import kernel

I32 = NDArray[np.int32]


def is_below(exponent: int, below: int) -> bool:
    """Whether the exponent field of a number is that of one smaller than 2^`below`."""
    return exponent < below + 127 << 23


@kernel
def exponents(bits_N: I32, largest_16: I32) -> None:
    """The largest exponent field of float32 numbers, given as integers, or what stands there; all ones: not finite."""
    largest = largest_16[0]
    for n in range(len(bits_N)):
        largest = max(largest, bits_N[n] & np.int32(0x7F800000))
    largest_16[0] = largest
