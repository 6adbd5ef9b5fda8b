"""Event-time order: hold events until the watermark has passed them, then release them by what they are."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamctr.events import EventBatch
from streamctr.ports import Arrays

Places = NDArray[np.int64]

FIRST_MS: Final = np.iinfo(np.int64).min // 4
LAST_MS: Final = np.iinfo(np.int64).max // 4
"""Before and after every time that an event may have; a quarter, so that sums stay in range."""


class Orderer:
    """Releases events sorted by (time, place of the stage, root, content), whatever order and chunks they came in.

    The watermark is the minimum over partitions of their newest event time, minus the lateness; an event is late when
    it is older than its own partition's newest minus the lateness, or than what was already released.

    Args:
        partitions: how many there are; one that has neither brought an event nor ended holds the watermark back.
        lateness_ms: how far a partition's events may lie out of order.
        empty: a batch without rows, for its columns.
    """

    def __init__(self, partitions: int, lateness_ms: int, empty: EventBatch) -> None:
        self._lateness_ms = lateness_ms
        self._newest_ms = np.full(partitions, FIRST_MS, np.int64)
        self._ended = np.zeros(partitions, np.bool_)
        self._released_ms = FIRST_MS
        self._newest_released_ms = FIRST_MS
        self._held = empty

    @property
    def held(self) -> EventBatch:
        """Accepted events that wait for the watermark."""
        return self._held

    @property
    def newest_released_ms(self) -> int:
        """Time of the newest event that was released; `FIRST_MS` before the first."""
        return self._newest_released_ms

    @property
    def released_ms(self) -> int:
        """Everything before this moment was released; it never goes back, as the watermark does after `resume`."""
        return self._released_ms

    @property
    def all_ended(self) -> bool:
        """Whether no partition brings anything more."""
        return bool(self._ended.all())

    def behind(self) -> int:
        """The partition to read next: of those that go on, the one whose newest event is oldest."""
        return int(np.where(self._ended, LAST_MS, self._newest_ms).argmin())

    def push(
        self, partition: int, events: EventBatch, derived: EventBatch | None = None, line_of: Places | None = None
    ) -> NDArray[np.bool_]:
        """Accept the events of one partition, in the order in which they stand there; tells which are late, (N,).

        Args:
            partition: where they come from.
            events: one a message.
            derived: events that fields of these messages tell of: they share their message's fate, wait for their own
                time, and move nothing.
            line_of: by which of `events` each of them was told, (D,).
        """
        if len(events) == 0:
            return np.zeros(0, np.bool_)
        before = np.empty(len(events), np.int64)  # the partition's newest time when each event came
        before[0] = self._newest_ms[partition]
        np.maximum.accumulate(np.maximum(events.time_ms[:-1], before[0]), out=before[1:])
        late = (events.time_ms < before - self._lateness_ms) | (events.time_ms < self._released_ms)
        self._newest_ms[partition] = max(int(before[-1]), int(events.time_ms[-1]))
        told = [] if derived is None or not len(derived) else [derived.take(~late[line_of])]
        self._held = EventBatch.concat([self._held, events.take(~late), *told])
        return late

    def resume(self) -> None:
        """All partitions may bring more: a source that has nothing says so again."""
        self._ended[:] = False

    def end(self, partition: int) -> None:
        """This partition has ended: it no longer holds the watermark back."""
        self._ended[partition] = True

    def watermark_ms(self, until_ms: int | None = None) -> int:
        """All events before this have come, or are late; at most `until_ms`."""
        newest = np.where(self._ended, LAST_MS, self._newest_ms)
        watermark_ms = LAST_MS if self.all_ended else int(newest.min()) - self._lateness_ms
        return watermark_ms if until_ms is None else min(watermark_ms, until_ms)

    def release(self, watermark_ms: int) -> EventBatch:
        """All held events with a time before the watermark, in order."""
        held = self._held
        ready = np.flatnonzero(held.time_ms < watermark_ms)
        order = np.lexsort((held.content[ready], held.root[ready], held.stage[ready], held.time_ms[ready]))
        released = held.take(ready[order])
        if len(ready):
            self._held = held.take(held.time_ms >= watermark_ms)
            self._newest_released_ms = int(released.time_ms[-1])
        # After the end of everything only what is newer than all that was released can still be placed.
        promised_ms = watermark_ms if watermark_ms < LAST_MS else self._newest_released_ms + 1
        self._released_ms = max(self._released_ms, promised_ms)
        return released

    def state(self) -> Arrays:
        """Newest times, ends, what was promised, and the held events."""
        scalars = np.array([self._released_ms, self._newest_released_ms])
        arrays: Arrays = {"newest_ms": self._newest_ms, "ended": self._ended, "scalars": scalars}
        return arrays | {f"held.{name}": getattr(self._held, name) for name in self._held.__slots__}

    def restore(self, arrays: Arrays) -> None:
        """Become the orderer that gave `arrays`; partitions that it did not have stand behind, and begin."""
        new = len(self._newest_ms) - len(arrays["newest_ms"])  # never fewer: the source misses those that are gone
        self._newest_ms = np.append(arrays["newest_ms"], np.full(new, FIRST_MS))
        self._ended = np.append(arrays["ended"], np.zeros(new, np.bool_))
        self._released_ms, self._newest_released_ms = (int(value) for value in arrays["scalars"])
        self._held = EventBatch(*(arrays[f"held.{name}"].copy() for name in self._held.__slots__))
