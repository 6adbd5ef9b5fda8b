"""A batch of samples as a model sees it: ids looked up, bags and histories pooled, numbers standardised.

Legend: B rows, N of them samples, F ids, M numbers, P items or behaviours, C columns, W width, D = C W, X all columns.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from streamctr.hashing import MISSING_ID, U64
from streamctr.layers.wide import in_rows
from streamctr.models import InputShape, ModelInput, SequenceInput
from streamctr.samples import History, SampleBatch
from streamctr.schema import FeaturesConfig
from streamctr.schema.features import Pool
from streamctr.tables import FusedTable, Places, RowGradients
from streamctr.tables.kernels import Columns
from streamctr.training.moments import Moments, defaults, vectors

I64 = NDArray[np.int64]

_ALIGNED: Final = 16
"""Rows of the input begin at multiples of so many numbers: what does not, changes the last bits of a product."""


class Looked(NamedTuple):
    """A model's input, in memory that the next look overwrites."""

    x: ModelInput
    leaves: list[torch.Tensor]
    """The parts of it that table rows make up."""
    places: list[tuple[Places, int, int]]
    """Where those come from, which leaf they are in, and from which column on."""

    def gradients(self, grads: Sequence[torch.Tensor | None]) -> list[RowGradients]:
        """What the gradients of the leaves are for table rows; None: the model did not read the leaf."""
        of_leaves = [None if grad is None else in_rows(grad) for grad in grads]
        found = []
        for places, leaf, start in self.places:
            of_leaf = of_leaves[leaf]
            if of_leaf is not None:
                found.append(RowGradients(places, of_leaf[0], of_leaf[1] + start))
        return found


class _Pooled(NamedTuple):
    """Items that are combined, and where that stands in the input."""

    pool: Pool
    of: slice | int
    """Columns of a bag in `ids_NF`, or the place of a history."""
    columns: Columns
    start: int


class Inputs:
    """Makes batches into a model's input, with the table numbers of the moment.

    Args:
        features: what a root is described by.
        shape: the sizes of the input.
        table: where numbers are looked up.
        rows: how many a batch has at most.

    Raises:
        ConfigError: a number's default is one that its transform cannot take.
    """

    def __init__(self, features: FeaturesConfig, shape: InputShape, table: FusedTable, rows: int) -> None:
        self._table, self._shape = table, shape
        combined = sum(len(history.targets) for history in shape.sequences) * table.width
        columns = -(-(shape.looked + shape.dense + combined) // _ALIGNED) * _ALIGNED
        self._array_BX = np.zeros((rows, columns), np.float32)
        self._viewed: tuple[int, Any] = -1, None
        self.moments = Moments(defaults(features), np.array([n.standardise for n in features.number.values()], bool))
        self._ids, self._numbers = len(features.ids), len(features.number)
        self._vectors = tuple(features.vector.values())
        self._columns = table.columns(range(self._ids))
        bags = pairwise(accumulate((bag.most for bag in features.bag.values()), initial=self._ids))
        found: list[tuple[Pool, slice | int, Sequence[int]]] = [
            (bag.pool, slice(a, b), [self._ids + place])
            for place, (bag, (a, b)) in enumerate(zip(features.bag.values(), bags, strict=True))
        ]
        found += [(h.pool, place, h.targets) for place, h in enumerate(shape.histories) if h.pool != "attention"]
        starts = accumulate((len(targets) for *_, targets in found), initial=self._ids)
        self._pooled = [
            _Pooled(pool, of, table.columns(targets), start * table.width)
            for (pool, of, targets), start in zip(found, starts, strict=False)
        ]
        sequences = enumerate(shape.histories)
        self._sequences = [
            (place, list(h.targets), table.columns(h.targets)) for place, h in sequences if h.pool == "attention"
        ]

    def look(self, rows: SampleBatch, pad_to: int = 0) -> Looked:
        """The input of these rows, zero-padded to `pad_to` rows."""
        n, size = len(rows), max(len(rows), pad_to)
        leaf_BX, dense_BM, rooms = self._views(size)
        out_NX = self._array_BX[:n]
        self._array_BX[n:size] = 0.0
        places = [(self._table.look(rows.ids_NF[:, : self._ids], self._columns, out_NX), 0, 0)]
        for pooled in self._pooled:
            items = (
                _items(rows.ids_NF[:, pooled.of])
                if isinstance(pooled.of, slice)
                else _behaviours(rows.histories[pooled.of])
            )
            came = self._table.pool(items, pooled.columns, pooled.pool, out_NX, pooled.start)
            places.append((came, 0, pooled.start))
        self._fill_dense(rows.numbers_NM, out_NX)
        leaves, sequences = [leaf_BX], []
        for (place, targets, columns), room_BD in zip(self._sequences, rooms, strict=True):
            history, width = rows.histories[place], len(targets) * self._table.width
            keys_PD, root_BD = np.empty((len(history.ids_PC), width), np.float32), np.empty((size, width), np.float32)
            length_B = np.zeros(size, np.int32)
            length_B[:n], root_BD[n:] = history.length, 0.0
            for ids_PC, out_PD in ((history.ids_PC, keys_PD), (rows.ids_NF[:, targets], root_BD)):
                places.append((self._table.look(ids_PC, columns, out_PD), len(leaves), 0))
                leaves.append(torch.from_numpy(out_PD).requires_grad_())
            sequences.append(SequenceInput(leaves[-2], torch.from_numpy(length_B), leaves[-1], room_BD))
        return Looked(ModelInput(leaf_BX, dense_BM, tuple(sequences)), leaves, places)

    def _views(self, size: int) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
        """Of so many rows: what comes from tables, which wants a gradient; numbers; and room for what a model adds."""
        if size != self._viewed[0]:
            x_BX, looked, width = torch.from_numpy(self._array_BX[:size]), self._shape.looked, self._table.width
            ends = list(accumulate((len(t) * width for _, t, _ in self._sequences), initial=looked + self._shape.dense))
            leaf_BX, dense_BM = x_BX[:, :looked].requires_grad_(), x_BX[:, looked : ends[0]]
            self._viewed = size, (leaf_BX, dense_BM, [x_BX[:, a:b] for a, b in pairwise(ends)])
        views: tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]] = self._viewed[1]
        return views

    def _fill_dense(self, numbers_NM: NDArray[np.float32], out_NX: NDArray[np.float32]) -> None:
        """Numbers, vectors, and the flags of both."""
        at, flags_at = self._shape.looked, self._shape.looked + self._shape.numbers
        self.moments.write(numbers_NM, out_NX, at, flags_at)
        if self._vectors:
            values_NX, missing_NV = vectors(numbers_NM[:, self._numbers :], self._vectors)
            out_NX[:, at + self._numbers : flags_at] = values_NX
            out_NX[:, flags_at + self._numbers : flags_at + self._shape.flags] = missing_NV


def _items(items_NT: U64) -> tuple[U64, I64]:
    """The items of bags one sample behind the other, (P, 1), and where each sample's begin."""
    there_NT = items_NT != MISSING_ID
    begin = np.zeros(len(items_NT) + 1, np.int64)
    np.cumsum(there_NT.sum(axis=1), out=begin[1:])
    return items_NT[there_NT][:, None], begin


def _behaviours(history: History) -> tuple[U64, I64]:
    return history.ids_PC, history.begin
