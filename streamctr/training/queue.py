"""Rows that wait for their batch."""

import numpy as np

from streamctr.ports import Arrays
from streamctr.samples import SampleBatch


class RowQueue:
    """First in, first out rows, given back all at once.

    >>> queue = RowQueue()
    >>> len(queue)
    0
    """

    def __init__(self) -> None:
        self._pieces: list[SampleBatch] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def push(self, rows: SampleBatch) -> None:
        """Append rows."""
        if len(rows):
            self._pieces.append(rows)
            self._count += len(rows)

    def pop(self) -> SampleBatch:
        """All rows in order; the queue, which must not have been empty, is."""
        rows = SampleBatch.concat(self._pieces)
        self.clear()
        return rows

    def clear(self) -> None:
        """Forget what waits."""
        self._pieces, self._count = [], 0

    def state(self) -> Arrays:
        """The rows; nothing where none waits."""
        return SampleBatch.concat(self._pieces).to_arrays() if self._pieces else {}

    def restore(self, arrays: Arrays) -> None:
        """Go on from `state`."""
        self.clear()
        if arrays:
            self.push(SampleBatch.from_arrays({name: np.array(array) for name, array in arrays.items()}))
