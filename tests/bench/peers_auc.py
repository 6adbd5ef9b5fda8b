"""Whether bf16 towers learn as well: progressive AUC of clicks, and of clicks and conversions, beside fp32's.

Every sample is scored before it is learned, in the same order by both.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from streamctr.training import Learner
from tests.bench.peers_world import World, make_recipe, slices

BATCH = 1024


def auc(score_N: NDArray[np.float64], label_N: NDArray[np.bool_]) -> float:
    """Share of pairs of a positive and a negative sample that are in order; ties count half."""
    _, place_N, count_U = np.unique(score_N, return_inverse=True, return_counts=True)
    ends_U = np.cumsum(count_U)
    rank_N = (ends_U - (count_U - 1) / 2)[place_N]
    positive = int(label_N.sum())
    return float((rank_N[label_N].sum() - positive * (positive + 1) / 2) / (positive * (len(label_N) - positive)))


def progressive(world: World, *settings: str) -> tuple[float, float]:
    """AUC of a click, and of a click and conversion, each sample scored before it is learned."""
    learner = Learner(make_recipe(BATCH, "esmm", "features.history={}", *settings))
    samples, places = world.samples(history=False), slices(len(world), BATCH)
    scores = np.empty((places[-1].stop, 2))
    for at in places:
        rows = samples.take(at)
        click_N, conversion_N = torch.from_numpy(learner.score(rows)).double().sigmoid().numpy().T
        scores[at] = np.stack([click_N, click_N * conversion_N], axis=1)
        learner.learn(rows)
    labels = world.clicked_N[: len(scores)], world.converted_N[: len(scores)]
    click, conversion = (auc(score_N, label_N) for score_N, label_N in zip(scores.T, labels, strict=True))
    return click, conversion


def auc_distances(world: World) -> dict[str, float]:
    """Both AUCs with fp32 and with bf16, and how far these are apart."""
    found = {name: progressive(world, f"training.precision={name}") for name in ("fp32", "bf16")}
    figures = {f"{name} {head}": value for name, pair in found.items() for head, value in zip(HEADS, pair, strict=True)}
    return figures | {f"distance {head}": abs(figures[f"fp32 {head}"] - figures[f"bf16 {head}"]) for head in HEADS}


HEADS = ("click", "click & conversion")
