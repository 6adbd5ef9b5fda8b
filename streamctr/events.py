"""The columns of decoded events. Legend: N events, F id columns, M number columns."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamctr.kernel import kernel

Wide = tuple[NDArray[np.uint64], NDArray[np.floating[Any]]]


class Outcome(IntEnum):
    """Where an event that was read ended; every event has exactly one."""

    WAITING = 0
    JOINED = 1
    DUPLICATE = 2
    EXPIRED = 3
    LATE = 4
    ORPHAN = 5
    REJECTED = 6
    SKIPPED = 7


@dataclass(frozen=True, slots=True)
class EventBatch:
    """Decoded events as columns, as `FeaturesConfig.event_ids` and the properties behind it lay them out.

    Ids are hashes, 0 for missing; numbers are raw, NaN for missing. Children carry zeros and NaN where only roots have
    values, and weight 1.
    """

    time_ms: NDArray[np.int64]
    stage: NDArray[np.int64]
    root: NDArray[np.uint64]
    user: NDArray[np.uint64]
    ids_NF: NDArray[np.uint64]
    numbers_NM: NDArray[np.float64]
    content: NDArray[np.uint64]
    """Hash of the decoded columns: the last word in the order of equal events."""
    value: NDArray[np.float64]
    """What its stage's messages carry under `value`; NaN for nothing."""
    weight: NDArray[np.float64]
    """How much a root counts in learning: 1 unless the run file names a field."""

    def __len__(self) -> int:
        return len(self.time_ms)

    def take(self, index: Any) -> "EventBatch":
        """The rows that `index` (places, a mask or a slice) names, in its order."""
        return EventBatch(*(getattr(self, name)[index] for name in EventBatch.__slots__))

    @classmethod
    def concat(cls, batches: "Sequence[EventBatch]") -> "EventBatch":
        """One batch of all rows, in order."""
        if len(batches) == 1:
            return batches[0]
        return cls(*(np.concatenate([getattr(b, name) for b in batches]) for name in cls.__slots__))

    @classmethod
    def empty(cls, n_ids: int, n_numbers: int) -> "EventBatch":
        """No rows, with the columns of a run."""
        return cls(
            np.empty(0, np.int64),
            np.empty(0, np.int64),
            np.empty(0, np.uint64),
            np.empty(0, np.uint64),
            np.empty((0, n_ids), np.uint64),
            np.empty((0, n_numbers), np.float64),
            np.empty(0, np.uint64),
            np.empty(0, np.float64),
            np.empty(0, np.float64),
        )


@kernel
def spread(wide: Wide, place: NDArray[np.int64], into: Wide) -> None:
    """Copy each row of ids and numbers to its place in other matrices."""
    for row in range(len(place)):
        for column in range(wide[0].shape[1]):
            into[0][place[row], column] = wide[0][row, column]
        for column in range(wide[1].shape[1]):
            into[1][place[row], column] = wide[1][row, column]
