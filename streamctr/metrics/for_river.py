"""Figures that river can drive itself, in `river.evaluate` or beside its own metrics."""

import math
from typing import Final

from river.metrics.base import BinaryMetric

from streamctr.metrics.running import HeadFigures

_LEAST_P: Final = 1e-15
"""What river's own metrics clamp probabilities to."""


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
