"""Running figures of one head, with river's interface."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamctr.metrics.figures import BINS, N_SUMS, Figure, add_rows, figures


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
