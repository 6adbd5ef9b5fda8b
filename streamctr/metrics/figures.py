"""From sums and a histogram over the logit to figures. Legend: 2 classes, B bins, H heads.

Every row is added one after the other in float64, so the figures do not depend on how the rows were cut into batches.
AUC and PR-AUC come from bins over the *logit*: bins over the probability are too coarse at the base rates of clicks.
"""

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streamctr.kernel import kernel

F64 = NDArray[np.float64]
Figure = dict[str, int | float | None]

BINS: Final = 8192
LIMIT: Final = 24.0
"""The bins cover [-LIMIT, LIMIT); what lies outside goes to the outermost."""

ROWS: Final = 0
POSITIVES: Final = 1
NLL: Final = 2
P: Final = 3
N_SUMS: Final = 4
"""Columns of the sums: rows, positives, sum of the negative log-likelihoods, sum of the probabilities."""


@kernel
def bin_of(logit: float) -> int:
    """The bin of a finite logit."""
    place = math.floor((min(max(logit, -LIMIT), LIMIT) + LIMIT) * (BINS / (2.0 * LIMIT)))
    return min(int(place), BINS - 1)


@kernel
def nll_and_p(logit: float, label: int) -> tuple[float, float]:
    """Of one row: -log-likelihood and probability, exact where either probability would round to 0 or 1."""
    small = math.exp(-abs(logit))
    p = 1.0 / (1.0 + small) if logit >= 0 else small / (1.0 + small)
    return max(logit, 0.0) - logit * label + math.log1p(small), p  # -log p = log(1 + e^-x), -log(1 - p) = x - log p


@kernel
def add_rows(bins_2B: F64, sums: F64, labels: NDArray[np.uint8], logits: F64, weights: F64) -> None:
    """Add rows in order; a weight below zero takes a row out again."""
    for row in range(len(labels)):
        label, weight = int(labels[row]), weights[row]
        nll, p = nll_and_p(logits[row], label)
        bins_2B[label, bin_of(logits[row])] += weight
        sums[ROWS] += weight
        sums[POSITIVES] += weight * label
        sums[NLL] += weight * nll
        sums[P] += weight * p


@kernel
def _ranked(bins_2B: NDArray[Any], terms_B: F64) -> None:
    """Of each bin, positives times negatives below them, those of the bin itself counted half."""
    below = 0.0
    for place in range(len(terms_B)):
        negatives, positives = float(bins_2B[0, place]), float(bins_2B[1, place])
        below += negatives
        terms_B[place] = positives * ((below - negatives) + negatives / 2) if positives != 0 else 0.0


@kernel
def _precise(bins_2B: NDArray[Any], terms_B: F64) -> None:
    """Of each bin from the top, positives times the precision down to it."""
    rows, found = 0.0, 0.0
    for place in range(len(terms_B)):
        negatives, positives = float(bins_2B[0, -1 - place]), float(bins_2B[1, -1 - place])
        rows += negatives + positives
        found += positives
        terms_B[place] = positives * (found / (rows if rows > 0 else 1.0)) if positives != 0 else 0.0


def auc(bins_2B: NDArray[Any]) -> float | None:
    """How often a positive stands above a negative, ties counted half; None with one class only."""
    negatives, positives = bins_2B.sum(axis=1, dtype=np.float64).tolist()
    if negatives * positives <= 0:
        return None
    terms_B = np.empty(BINS)
    _ranked(bins_2B, terms_B)
    return float(terms_B.sum() / (negatives * positives))


def pr_auc(bins_2B: NDArray[Any]) -> float | None:
    """Average precision, sum of (R_n - R_n-1) P_n over the bins from the top; None with one class only.

    Rows of one bin count as tied, which takes at most about 5e-4 off what their exact order would give.
    """
    negatives, positives = bins_2B.sum(axis=1, dtype=np.float64).tolist()
    if negatives <= 0 or positives <= 0:
        return None
    terms_B = np.empty(BINS)
    _precise(bins_2B, terms_B)
    return float(terms_B.sum() / positives)


def sum_figures(sums: F64) -> Figure:
    """Rows, base rate, NLL and PCOC of one row of sums; None where undefined."""
    rows, positives, nll, p = (float(value) for value in sums.tolist())
    return {
        "rows": int(rows) if rows.is_integer() else rows,
        "base_rate": positives / rows if rows > 0 else None,
        "nll": nll / rows if rows > 0 else None,
        "pcoc": p / positives if positives > 0 else None,
    }


def normalised_entropy(sums: F64) -> float | None:
    """NLL over the entropy of the base rate (He et al. 2014, eq. 1); None with one class only."""
    rows, positives, nll, _ = (float(value) for value in sums.tolist())
    if not 0 < positives < rows:
        return None
    rate = positives / rows
    return nll / rows / (-rate * math.log(rate) - (1 - rate) * math.log1p(-rate))


def figures(sums: F64, bins_2B: NDArray[Any]) -> Figure:
    """All figures of one head; None where undefined (no rows, one class)."""
    few = sum_figures(sums)
    return {
        "rows": few["rows"],
        "base_rate": few["base_rate"],
        "auc": auc(bins_2B),
        "pr_auc": pr_auc(bins_2B),
        "nll": few["nll"],
        "ne": normalised_entropy(sums),
        "pcoc": few["pcoc"],
    }
