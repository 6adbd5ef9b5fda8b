"""The ESMM as one would write it first in plain torch, to compare with. Legend: B rows, T steps, S stages, P places.

One `nn.Embedding(sparse=True)` with SparseAdam, Adam for the towers, both at torch's defaults, mean-pooled histories
padded to the longest of the batch, autograd throughout. Tensors are made beforehand, rows numbered without gaps.
"""

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from streamctr import feedback
from streamctr.models import Targets
from streamctr.samples import SampleBatch
from streamctr.training import Learner, Recipe

ROWS = 2**21
TOWERS = (256, 128)


class Prepared(NamedTuple):
    """Tensors of a batch; row 0 of the table is padding."""

    ids: torch.Tensor
    numbers: torch.Tensor
    histories: list[torch.Tensor]
    targets: Targets


class PlainLoop:
    """Learns batches step by step."""

    def __init__(self, recipe: Recipe, learner: Learner) -> None:
        """`learner` lends the moments that numbers are standardised by."""
        features, self._width = recipe.features, recipe.tables.width
        self._recipe, self._learner = recipe, learner
        self._taken = [[features.ids.index(name) for name in h.take] for h in features.history.values()]
        columns = len(features.ids) + sum(map(len, self._taken))
        inputs = columns * self._width + 2 * len(features.number)
        torch.manual_seed(0)
        self.towers = nn.ModuleList(_tower(inputs) for _ in recipe.funnel.stages[1:])
        self.embedding = nn.Embedding(ROWS, self._width, padding_idx=0, sparse=True)
        self._sparse = torch.optim.SparseAdam(list(self.embedding.parameters()))
        self._dense = torch.optim.Adam(self.towers.parameters())
        self._number: dict[tuple[int, int], int] = {}

    def prepare(self, rows: SampleBatch) -> Prepared:
        """Tensors of a batch."""
        numbers = np.concatenate(self._learner.moments.standardise(rows.numbers_NM), axis=1)
        histories = []
        for history, taken in zip(rows.histories, self._taken, strict=True):
            longest = max(1, int(history.length.max()))
            places = self._numbered(history.padded()[:, :longest], taken)
            places[np.arange(longest) >= history.length[:, None]] = 0
            histories.append(torch.from_numpy(places))
        ids = torch.from_numpy(self._numbered(rows.ids_NF, list(range(rows.ids_NF.shape[1]))))
        method = self._recipe.training.delayed_feedback
        targets = feedback.targets(method, rows.says, rows.label, rows.weight)
        return Prepared(ids, torch.tensor(numbers, dtype=torch.float32), histories, targets)

    def step(self, batch: Prepared) -> None:
        """One step."""
        self._sparse.zero_grad()
        self._dense.zero_grad()
        self._loss(batch).backward()
        self._sparse.step()
        self._dense.step()

    def _loss(self, batch: Prepared) -> torch.Tensor:
        parts = [self.embedding(batch.ids).flatten(1), batch.numbers]
        for places_BTC in batch.histories:
            count_B11 = (places_BTC[:, :, :1] > 0).sum(1, keepdim=True).clamp(min=1)
            parts.append((self.embedding(places_BTC).sum(1) / count_B11).flatten(1))
        x = torch.cat(parts, dim=1)
        a, b = (tower(x)[:, 0] for tower in self.towers)
        both = -torch.logaddexp(torch.logaddexp(-a, -b), -a - b)  # 1/pq - 1 = e^-a + e^-b + e^-(a+b)
        entire = nn.functional.binary_cross_entropy_with_logits(
            torch.stack([a, both], 1), batch.targets.labels_BS, weight=batch.targets.entire_BS, reduction="sum"
        )
        return entire / self._recipe.training.batch

    def _numbered(self, ids: Any, columns: list[int]) -> Any:
        """Rows without gaps from 1 on, of ids whose last axis is that of these columns."""
        places = np.empty(ids.shape, np.int64)
        for at, column in enumerate(columns):
            distinct, inverse = np.unique(ids[..., at], return_inverse=True)
            numbers = [self._number.setdefault((column, one), len(self._number) + 1) for one in distinct.tolist()]
            places[..., at] = np.array(numbers)[inverse].reshape(ids.shape[:-1])
        assert len(self._number) < ROWS
        return places


def _tower(inputs: int) -> nn.Sequential:
    layers = [layer for ins, outs in pairwise((inputs, *TOWERS)) for layer in (nn.Linear(ins, outs), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(TOWERS[-1], 1))
