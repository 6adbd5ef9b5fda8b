"""Running moments of the numbers. Legend: N rows, M numbers."""

import numpy as np
from numpy.typing import NDArray

from streamctr.errors import ConfigError
from streamctr.ports import Arrays
from streamctr.schema import FeaturesConfig


class Moments:
    """Standardises numbers by the mean and deviation of what came before; values that are missing do not count.

    >>> moments = Moments(np.array([0.0]))
    >>> moments.update(np.array([[1.0], [3.0], [np.nan]], np.float32))
    >>> moments.standardise(np.array([[4.0], [np.nan]], np.float32))[0].tolist()
    [[2.0], [-2.0]]
    """

    def __init__(self, defaults_M: NDArray[np.float64]) -> None:
        """Start without any value; a missing number counts as its default (M,), given after its transform."""
        self._defaults_M = defaults_M
        self._count_M = np.zeros(len(defaults_M), np.float64)
        self._mean_M = np.zeros(len(defaults_M), np.float64)
        self._m2_M = np.zeros(len(defaults_M), np.float64)

    def update(self, numbers_NM: NDArray[np.float32]) -> None:
        """Take in a block (Chan et al. 1979: means and sums of squares of two parts merged)."""
        known_NM = np.isfinite(numbers_NM)
        values_NM = np.where(known_NM, numbers_NM, 0.0).astype(np.float64)
        count_M = known_NM.sum(axis=0).astype(np.float64)
        mean_M = values_NM.sum(axis=0) / np.maximum(count_M, 1.0)
        m2_M = (np.where(known_NM, values_NM - mean_M, 0.0) ** 2).sum(axis=0)
        total_M = np.maximum(self._count_M + count_M, 1.0)
        delta_M = mean_M - self._mean_M
        self._m2_M = self._m2_M + m2_M + delta_M**2 * (self._count_M * count_M / total_M)
        self._mean_M = self._mean_M + delta_M * (count_M / total_M)
        self._count_M = self._count_M + count_M

    def standardise(self, numbers_NM: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Standardised numbers and flags of the missing ones, both (N, M).

        The variance is (M2 + 1) / (n + 1): one prior observation of variance 1.
        """
        missing_NM = ~np.isfinite(numbers_NM)
        values_NM = np.where(missing_NM, self._defaults_M, numbers_NM)
        deviation_M = np.sqrt((self._m2_M + 1.0) / (self._count_M + 1.0))
        return ((values_NM - self._mean_M) / deviation_M).astype(np.float32), missing_NM.astype(np.float32)

    def state(self) -> Arrays:
        """Counts, means and sums of squared deviations."""
        return {"count": self._count_M, "mean": self._mean_M, "m2": self._m2_M}

    def restore(self, arrays: Arrays) -> None:
        """Go on from `state`."""
        self._count_M, self._mean_M, self._m2_M = (arrays[name].copy() for name in ("count", "mean", "m2"))


def defaults(features: FeaturesConfig) -> NDArray[np.float64]:
    """What a missing number counts as, after its transform, (M,).

    Raises:
        ConfigError: a default that its transform cannot take.
    """
    values = []
    for name, number in features.number.items():
        if number.transform == "log1p" and number.default < 0:
            raise ConfigError(f"{name}.default {number.default} is negative, which log1p cannot take; set 0 or more")
        values.append(np.log1p(number.default) if number.transform == "log1p" else number.default)
    return np.array(values, np.float64)
