"""What a model sees of the numbers: running moments, and vectors. Legend: N rows, M numbers, V vectors."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from streamctr.errors import ConfigError
from streamctr.kernel import kernel
from streamctr.ports import Arrays
from streamctr.schema import FeaturesConfig

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


class Moments:
    """Standardises numbers by the mean and deviation of what came before; values that are missing do not count.

    >>> moments = Moments(np.array([0.0]))
    >>> moments.update(np.array([[1.0], [3.0], [np.nan]], np.float32))
    >>> moments.standardise(np.array([[4.0], [np.nan]], np.float32))[0].tolist()
    [[2.0], [-2.0]]
    """

    def __init__(self, defaults_M: NDArray[np.float64], moved_M: NDArray[np.bool_] | None = None) -> None:
        """Start without any value.

        Args:
            defaults_M: what a missing number counts as, given after its transform.
            moved_M: which numbers are standardised, default all; the others stay as they are.
        """
        self._defaults_M = defaults_M
        self._moved_M = np.ones(len(defaults_M), bool) if moved_M is None else moved_M
        self._count_M = np.zeros(len(defaults_M), np.float64)
        self._mean_M = np.zeros(len(defaults_M), np.float64)
        self._m2_M = np.zeros(len(defaults_M), np.float64)
        self._by: tuple[F64, F64, F64] | None = None

    def update(self, numbers_NM: NDArray[np.float32]) -> None:
        """Take in a block (Chan et al. 1979: means and sums of squares of two parts merged).

        Columns behind the M numbers, those of vectors, are not looked at.
        """
        merge(numbers_NM, self._count_M, self._mean_M, self._m2_M, np.empty((3, len(self._mean_M)), np.float64))
        self._by = None

    def standardise(self, numbers_NM: F32) -> tuple[F32, F32]:
        """Standardised numbers and flags of the missing ones, both (N, M); columns behind them are left out.

        The variance is (M2 + 1) / (n + 1): one prior observation of variance 1.
        """
        columns = len(self._defaults_M)
        both_NM = np.empty((len(numbers_NM), 2 * columns), np.float32)
        self.write(numbers_NM, both_NM, 0, columns)
        return both_NM[:, :columns], both_NM[:, columns:]

    def write(self, numbers_NM: F32, out_NX: F32, at: int, flags_at: int) -> None:
        """The same, each written into columns of a matrix from one on."""
        if self._by is None:
            mean_M = np.where(self._moved_M, self._mean_M, 0.0)
            deviation_M = np.where(self._moved_M, np.sqrt((self._m2_M + 1.0) / (self._count_M + 1.0)), 1.0)
            self._by = self._defaults_M, mean_M, deviation_M
        standardise(numbers_NM, self._by, out_NX, at, flags_at)

    def state(self) -> Arrays:
        """Counts, means and sums of squared deviations."""
        return {"count": self._count_M.copy(), "mean": self._mean_M.copy(), "m2": self._m2_M.copy()}

    def restore(self, arrays: Arrays) -> None:
        """Go on from `state`."""
        self._count_M, self._mean_M, self._m2_M = (arrays[name].copy() for name in ("count", "mean", "m2"))
        self._by = None


@kernel
def merge(numbers_NM: F32, count_M: F64, mean_M: F64, m2_M: F64, own_3M: F64) -> None:
    """Counts, means and sums of squared deviations become those with the block."""
    _measure(numbers_NM, own_3M)
    for m in range(len(mean_M)):
        own_count, delta = own_3M[0, m], own_3M[1, m] - mean_M[m]
        total = max(count_M[m] + own_count, 1.0)
        m2_M[m] = m2_M[m] + own_3M[2, m] + delta * delta * (count_M[m] * own_count / total)
        mean_M[m] += delta * (own_count / total)
        count_M[m] += own_count


@kernel
def _measure(numbers_NM: F32, own_3M: F64) -> None:
    """Counts, means and sums of squared deviations of a block."""
    columns = own_3M.shape[1]
    own_3M[:] = 0.0
    for n in range(len(numbers_NM)):
        for m in range(columns):
            if np.isfinite(numbers_NM[n, m]):
                own_3M[0, m] += 1.0
                own_3M[1, m] += numbers_NM[n, m]
    for m in range(columns):
        own_3M[1, m] /= max(own_3M[0, m], 1.0)
    for n in range(len(numbers_NM)):
        for m in range(columns):
            if np.isfinite(numbers_NM[n, m]):
                own_3M[2, m] += (numbers_NM[n, m] - own_3M[1, m]) ** 2


@kernel
def standardise(numbers_NM: F32, by: tuple[F64, F64, F64], out_NX: F32, at: int, flags_at: int) -> None:
    """(value - mean) / deviation, the default where a value is missing, and flags of those."""
    defaults_M, mean_M, deviation_M = by
    for n in range(len(numbers_NM)):
        for m in range(len(defaults_M)):
            known = np.isfinite(numbers_NM[n, m])
            value = np.float64(numbers_NM[n, m]) if known else defaults_M[m]
            out_NX[n, at + m] = (value - mean_M[m]) / deviation_M[m]
            out_NX[n, flags_at + m] = 0.0 if known else 1.0


def vectors(numbers_NX: NDArray[np.float32], sizes_V: Sequence[int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Vectors that stand side by side as they are, zeros for one with a missing number, and flags of those (N, V).

    >>> vectors(np.array([[1.0, 2.0, np.nan, 4.0]], np.float32), (2, 2))
    (array([[1., 2., 0., 0.]], dtype=float32), array([[0., 1.]], dtype=float32))
    """
    starts_V = np.cumsum([0, *sizes_V[:-1]])
    known_NV = np.logical_and.reduceat(np.isfinite(numbers_NX), starts_V, axis=1)
    values_NX = np.where(np.repeat(known_NV, sizes_V, axis=1), numbers_NX, np.float32(0.0))
    return values_NX, (~known_NV).astype(np.float32)


def defaults(features: FeaturesConfig) -> NDArray[np.float64]:
    """What a missing number counts as, clipped and transformed as any other, (M,).

    Raises:
        ConfigError: a default that its transform or a 32-bit float cannot take.
    """
    values = []
    for name, number in features.number.items():
        low, high = number.clip
        value = min(max(number.default, -np.inf if low is None else low), np.inf if high is None else high)
        if number.transform == "log1p" and value < 0:
            raise ConfigError(f"{name}.default {value} is negative, which log1p cannot take; set 0 or more")
        if number.transform == "none" and abs(value) > float(np.finfo(np.float32).max):
            raise ConfigError(f"{name}.default {value} is more than a 32-bit float holds; set one nearer to the values")
        values.append(np.log1p(value) if number.transform == "log1p" else value)
    return np.array(values, np.float64)
