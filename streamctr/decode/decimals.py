"""The double next to a decimal number, inside kernels (Lemire 2021, "Number parsing at a gigabyte per second")."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamctr.hashing import product
from streamctr.kernel import kernel

U64 = NDArray[np.uint64]

_LEAST: Final = -60
_MOST: Final = 40
"""Powers of ten that are looked up; numbers of other sizes are rare."""
_TOP: Final = np.uint64(1 << 63)
_ONE: Final = np.uint64(1)
_DOUBTFUL: Final = np.uint64(0x1FF)
"""Bits below those that count: all set, the lower half of the power may change the rest."""
_ALL: Final = np.uint64(0xFFFFFFFFFFFFFFFF)


def _power(exponent: int) -> int:
    """The first 128 bits of a power of five, of a negative one rounded up (section 5.1)."""
    value: int = 5 ** abs(exponent)
    if exponent < 0:
        value = (1 << (2 * value.bit_length() + 128)) // value + 1
    shift = value.bit_length() - 128
    return value >> shift if shift >= 0 else value << -shift


_POWERS: Final = np.array([divmod(_power(exponent), 1 << 64) for exponent in range(_LEAST, _MOST + 1)], np.uint64)
_TWOS: Final = np.array([2.0**exponent for exponent in range(-300, 301)])


@kernel
def decimal(mantissa: np.uint64, exponent: int) -> float:
    """The double next to `mantissa` times ten to the `exponent`; NaN where that is not sure here."""
    if mantissa == 0:
        return 0.0
    if exponent < _LEAST or exponent > _MOST:
        return np.nan
    shifts = 0
    while mantissa < _TOP:
        mantissa, shifts = mantissa << _ONE, shifts + 1
    high, low = product(mantissa, _POWERS[exponent - _LEAST, 0])
    if high & _DOUBTFUL == _DOUBTFUL:
        more, _ = product(mantissa, _POWERS[exponent - _LEAST, 1])
        high, low = high + np.uint64(low > _ALL - more), low + more
    upper = int(np.int64(high >> np.uint64(63)))
    bits = np.int64(high >> np.uint64(upper + 9))  # 53 that count, and one to round by
    if low == _ALL or (low <= _ONE and bits & 3 == 1):
        return np.nan  # perhaps just between two doubles
    bits += bits & 1
    # 217706 / 2^16 is log2(10), near enough for all exponents; the last shift is the half bit
    return float(float(bits) * _TWOS[((217706 * exponent) >> 16) + upper - shifts + 10 + 300])
