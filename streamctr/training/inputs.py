"""A batch of samples as a model sees it: ids looked up, bags pooled, numbers standardised.

Legend: B rows, N of them samples, F ids, M numbers, T steps or items, C columns, W width.
"""

from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from streamctr.hashing import MISSING_ID
from streamctr.layers import POOLS
from streamctr.models import InputShape, ModelInput, SequenceInput
from streamctr.samples import SampleBatch
from streamctr.schema import FeaturesConfig
from streamctr.tables import FusedTable
from streamctr.training.moments import Moments, defaults, vectors


class Looked(NamedTuple):
    """Table numbers of the single ids (B, F, W), of each bag and of each history (B, T, C, W).

    They stand in memory that the next look overwrites, with zeros behind the samples; `places` are the table rows
    (N, T, C) that they came from, -1 where there is no item.
    """

    numbers: list[torch.Tensor]
    places: list[NDArray[np.int64]]


class Inputs:
    """Makes batches of at most so many rows into a model's input, with the table numbers of the moment."""

    def __init__(self, features: FeaturesConfig, shape: InputShape, table: FusedTable, rows: int) -> None:
        """Lay out the columns of a sample, and memory for its numbers.

        Raises:
            ConfigError: a number's default is one that its transform cannot take.
        """
        self._table = table
        self.moments = Moments(defaults(features), np.array([n.standardise for n in features.number.values()], bool))
        self._ids, self._numbers = len(features.ids), len(features.number)
        self._vectors = tuple(features.vector.values())
        self._bags = list(pairwise(accumulate((bag.most for bag in features.bag.values()), initial=self._ids)))
        self._pools = [POOLS[bag.pool] for bag in features.bag.values()]
        bags = [np.array([self._ids + place]) for place in range(len(self._bags))]
        self._columns = [np.arange(self._ids), *bags, *(np.array(h.targets, np.int64) for h in shape.histories)]
        sizes = [(bag.most, 1) for bag in features.bag.values()] + [(h.steps, h.columns) for h in shape.histories]
        self._buffers = [torch.zeros(rows, *size, table.width) for size in [(self._ids,), *sizes]]

    def look_up(self, rows: SampleBatch, pad_to: int = 0) -> Looked:
        """Table numbers in torch's own memory, zero-padded to `pad_to` rows."""
        size = max(len(rows), pad_to)
        looked = Looked([], [])
        for (ids, length), columns, buffer in zip(self._parts(rows), self._columns, self._buffers, strict=True):
            looked.places.append(self._table.rows(ids, columns, length))
            looked.numbers.append(buffer[:size].detach())
            self._table.gather(looked.places[-1], looked.numbers[-1])
        return looked

    def of(self, rows: SampleBatch, looked: Looked) -> ModelInput:
        """The model's input, of as many rows as were looked up."""
        size = len(looked.numbers[0])
        sequences = [
            SequenceInput(values_BTCW, _padded(size, places_NTC[:, :, 0] >= 0))
            for values_BTCW, places_NTC in zip(looked.numbers[1:], looked.places[1:], strict=True)
        ]
        ids_BFW = looked.numbers[0]
        if self._bags:
            bags = zip(self._pools, sequences, strict=False)
            ids_BFW = torch.cat([ids_BFW, *(pool(bag.values_BTCW, bag.mask_BT) for pool, bag in bags)], dim=1)
        parts = [self.moments.standardise(rows.numbers_NM)]
        if self._vectors:
            parts.append(vectors(rows.numbers_NM[:, self._numbers :], self._vectors))
        numbers_BM, missing_BM = (_padded(size, *side) for side in zip(*parts, strict=True))
        return ModelInput(ids_BFW, numbers_BM, missing_BM, tuple(sequences[len(self._bags) :]))

    def _parts(self, rows: SampleBatch) -> list[tuple[NDArray[np.uint64], NDArray[np.integer] | None]]:
        """Single ids (N, F), then bags (N, T, 1) and histories (N, T, C) with the samples' lengths."""
        parts: list[tuple[NDArray[np.uint64], NDArray[np.integer] | None]]
        parts = [(np.ascontiguousarray(rows.ids_NF[:, : self._ids]), None)]
        for start, stop in self._bags:
            items_NT = np.ascontiguousarray(rows.ids_NF[:, start:stop])
            parts.append((items_NT[:, :, None], (items_NT != MISSING_ID).sum(axis=1)))
        return parts + [(history.ids_NTC, history.length) for history in rows.histories]


def _padded(size: int, *parts_NX: NDArray[np.float32] | NDArray[np.bool_]) -> torch.Tensor:
    """Side by side in torch's own (aligned) memory, zero rows behind: views change the last bits of a GEMM."""
    padded = torch.zeros((size, sum(part.shape[1] for part in parts_NX)), dtype=torch.float32)
    start = 0
    for part_NX in parts_NX:
        padded.numpy()[: len(part_NX), start : start + part_NX.shape[1]] = part_NX
        start += part_NX.shape[1]
    return padded
