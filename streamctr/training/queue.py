"""Rows that wait for their batch."""

import numpy as np
from numpy.typing import NDArray

from streamctr.ports import Arrays
from streamctr.samples import SampleBatch


class RowQueue:
    """First in, first out rows, given back all at once: they are copied only then, from the batches that hold them.

    Args:
        described: whether the rows keep what describes their roots.

    >>> queue = RowQueue()
    >>> len(queue)
    0
    """

    def __init__(self, described: bool = True) -> None:
        self._described = described
        self.clear()

    def __len__(self) -> int:
        return self._count

    def push(self, batch: SampleBatch, places: NDArray[np.int64]) -> None:
        """Append the rows at these places."""
        if len(places):
            self._pieces.append((batch if self._described else batch.undescribed(), places))
            self._count += len(places)

    def pop(self) -> SampleBatch:
        """All rows in order; the queue, which must not have been empty, is."""
        rows = SampleBatch.gather(self._pieces)
        self.clear()
        return rows

    def clear(self) -> None:
        """Forget what waits."""
        self._pieces: list[tuple[SampleBatch, NDArray[np.int64]]] = []
        self._count = 0

    def state(self) -> Arrays:
        """The rows; nothing where none waits."""
        return SampleBatch.gather(self._pieces).to_arrays() if self._pieces else {}

    def restore(self, arrays: Arrays) -> None:
        """Go on from `state`."""
        self.clear()
        if arrays:
            batch = SampleBatch.from_arrays({name: np.array(array) for name, array in arrays.items()})
            self.push(batch, np.arange(len(batch)))
