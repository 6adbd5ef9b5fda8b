"""Running figures of one head, with river's interface; and those of them that river can drive itself."""

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from river.metrics.base import BinaryMetric

from streamctr.metrics.figures import BINS, N_SUMS, Figure, add_rows, figures

_LEAST_P: Final = 1e-15
"""What river's own metrics clamp probabilities to."""


class HeadFigures:
    """Accumulates all figures of one head, from labels and logits; two of them add up.

    >>> head = HeadFigures()
    >>> head.update_many(np.array([0, 1, 0, 1], np.uint8), np.array([-1.0, 0.0, 0.5, 2.0]))
    >>> head.get()["rows"], head.get()["auc"]
    (4, 0.75)
    """

    def __init__(self) -> None:
        self._bins_2B = np.zeros((2, BINS))
        self._sums = np.zeros(N_SUMS)

    def update(self, y_true: bool | int, y_pred: float, w: float = 1.0) -> None:
        """One row: its label, its logit, how often it counts (below zero: taken out)."""
        self.update_many(np.array([y_true], np.uint8), np.array([y_pred], np.float64), np.array([w], np.float64))

    def update_many(
        self, y_true: NDArray[Any], y_pred: NDArray[np.floating], w: NDArray[np.float64] | None = None
    ) -> None:
        """Rows in order: labels (N,), logits (N,), weights (N,).

        Raises:
            ValueError: a logit is not finite.
        """
        logits = y_pred.astype(np.float64)
        if not np.isfinite(logits).all():
            raise ValueError("a logit is NaN or infinite: it has no bin and no likelihood; leave such rows out")
        add_rows(self._bins_2B, self._sums, y_true.astype(np.uint8), logits, np.ones(len(logits)) if w is None else w)

    def get(self) -> Figure:
        """rows, base_rate, auc, pr_auc, nll, ne, pcoc; None where undefined (no rows, one class)."""
        return figures(self._sums, self._bins_2B)

    def __iadd__(self, other: "HeadFigures") -> "HeadFigures":
        self._bins_2B += other._bins_2B
        self._sums += other._sums
        return self


class _RiverFigure(BinaryMetric):
    """One figure as river's evaluation drives it: with probabilities, one row at a time; NaN where undefined."""

    _name = ""
    _fmt = ".6f"

    def __init__(self) -> None:
        self._head = HeadFigures()

    @property
    def requires_labels(self) -> bool:
        return False

    def update(self, y_true: bool, y_pred: bool | float | dict[bool, float], w: float = 1.0) -> None:
        p = y_pred.get(True, 0.0) if isinstance(y_pred, dict) else float(y_pred)
        p = min(max(p, _LEAST_P), 1 - _LEAST_P)
        self._head.update(y_true, math.log(p) - math.log1p(-p), w)

    def revert(self, y_true: bool, y_pred: bool | float | dict[bool, float], w: float = 1.0) -> None:
        self.update(y_true, y_pred, -w)

    def get(self) -> float:
        value = self._head.get()[self._name]
        return math.nan if value is None else float(value)


class AUC(_RiverFigure):
    """Area under the ROC curve from 8,192 bins over the logit, right at click base rates too.

    >>> metric = AUC()
    >>> for y_true, y_pred in [(0, 0.1), (0, 0.4), (1, 0.35), (1, 0.8)]:
    ...     metric.update(y_true, y_pred)
    >>> metric.get()
    0.75
    """

    _name = "auc"


class PRAUC(_RiverFigure):
    """Average precision from 8,192 bins over the logit."""

    _name = "pr_auc"


class NormalisedEntropy(_RiverFigure):
    """NLL over the entropy of the base rate: below 1 is better than knowing the base rate alone."""

    _name = "ne"

    @property
    def bigger_is_better(self) -> bool:
        """Lower is better."""
        return False
