"""What was read of each partition and not given out yet: who is read on, who is given, who is idle.

It knows neither a client nor a clock: records and times come in from outside.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from connectors.kafka.client import Place, Records

_NEVER_S: Final = float("-inf")
_RECORD_BYTES: Final = 256
"""What a record that waits takes besides its value, about."""


@dataclass(slots=True)
class _Partition:
    place: Place
    stage: int
    next: int
    """The offset behind the last message that was given out, and behind offsets without one."""
    read: int
    """The offset that is read next."""
    end: int | None
    """Where reading ends; None for a log that goes on."""
    newest: int
    """The end of the log, as the brokers last said."""
    came_s: float
    """When something last came."""
    empty_s: float = _NEVER_S
    """When the brokers, asked at this moment, last said that there is nothing to read."""
    waiting: deque[Records] = field(default_factory=deque)
    waiting_bytes: int = 0
    left_out: bool = False
    told_idle: bool = False
    told_end: bool = False

    @property
    def ended(self) -> bool:
        return self.end is not None and self.read >= self.end and not self.waiting

    @property
    def returns(self) -> bool:
        """Whether it has something, after it was said to be idle."""
        return self.told_idle and (bool(self.waiting) or (self.ended and not self.told_end))


class Given(NamedTuple):
    """What is given out of one partition at a time."""

    partition: int
    place: Place
    stage: int
    first: int
    """The next offset where there are no records."""
    records: list[Records]
    ended: bool
    idle: bool


class Lag(NamedTuple):
    """How far a partition is."""

    place: Place
    next: int
    """The offset behind all that was given out."""
    end: int
    """One behind the newest, as the brokers last said."""


class Backlog:
    """Partitions, each with the records that wait; one that has more than its share of them is not read on for a while.

    Args:
        buffer_bytes: of all that waits, about; a partition's share is its part of it.
        idle_s: a partition at whose end nothing came for so long is idle; None: none ever is.
    """

    def __init__(self, buffer_bytes: int, idle_s: float | None) -> None:
        self._buffer_bytes, self._idle_s = buffer_bytes, idle_s
        self._partitions: list[_Partition] = []
        self._by_place: dict[Place, _Partition] = {}

    def __len__(self) -> int:
        return len(self._partitions)

    @property
    def places(self) -> list[Place]:
        """All partitions, in the order in which they are asked for."""
        return [at.place for at in self._partitions]

    @property
    def waiting_bytes(self) -> int:
        """Of all that was read and not given out: values, and what holding them takes, about."""
        return sum(at.waiting_bytes for at in self._partitions)

    def lag(self) -> list[Lag]:
        """How far each partition is."""
        return [Lag(at.place, at.next, at.newest) for at in self._partitions]

    def add(self, place: Place, stage: int, offset: int, newest: int, now_s: float) -> None:
        """One more partition, behind the others, that is read from an offset on."""
        at = self._by_place[place] = _Partition(place, stage, offset, offset, None, newest, now_s)
        self._partitions.append(at)

    def order(self, places: Iterable[Place]) -> None:
        """Number the partitions so."""
        self._partitions = [self._by_place[place] for place in places]

    def go_to(self, offsets: Mapping[Place, int], now_s: float) -> None:
        """Begin anew from these offsets: nothing of these partitions waits, and nothing was said of them."""
        for place, offset in offsets.items():
            old = self._by_place[place]
            new = _Partition(place, old.stage, offset, offset, old.end, old.newest, now_s)
            self._partitions[self._partitions.index(old)] = self._by_place[place] = new

    def end_at(self, ends: Mapping[Place, int]) -> None:
        """Nothing from these offsets on is given out."""
        for place, end in ends.items():
            self._by_place[place].end = end

    # reading

    def wanted(self) -> dict[Place, int]:
        """What is to be read now, each from this offset on."""
        share_bytes = self._buffer_bytes / max(1, len(self._partitions))
        for at in self._partitions:
            # half: one that was left out is not taken in again for a few messages
            at.left_out = at.waiting_bytes > (share_bytes / 2 if at.left_out else share_bytes)
        return {
            at.place: at.read for at in self._partitions if not at.left_out and (at.end is None or at.read < at.end)
        }

    def put(self, polled: Iterable[Records], now_s: float) -> None:
        """These were read."""
        for records in polled:
            at = self._by_place[records.place]
            at.came_s = now_s
            stop = int(records.offsets[-1]) + 1 if at.end is None else at.end
            begin, end = np.searchsorted(records.offsets, (at.read, stop)).tolist()
            if begin < end:  # else they came already, or lie behind the end
                kept = records.take(begin, end) if (begin, end) != (0, len(records.offsets)) else records
                at.waiting.append(kept)
                at.waiting_bytes += _bytes_of(kept)
            self.reached({at.place: int(records.offsets[-1]) + 1})

    def reached(self, positions: Mapping[Place, int]) -> None:
        """Everything before these offsets was read, or is no message."""
        for place, position in positions.items():
            at = self._by_place[place]
            at.read = max(at.read, position if at.end is None else min(position, at.end))

    def skip_to(self, offsets: Mapping[Place, int]) -> None:
        """What is next is gone: read on behind it, there."""
        for place, offset in offsets.items():
            self._by_place[place].read = offset

    def confirm(self, ends: Mapping[Place, int], asked_s: float) -> None:
        """Brokers that were asked at that moment said that the logs end there."""
        for at in self._partitions:
            if at.place in ends:
                at.newest = ends[at.place]
                at.empty_s = asked_s if at.read >= at.newest else _NEVER_S

    def pass_over(self, silent_s: float, now_s: float) -> None:
        """For so long brokers were silent: it does not count towards a partition's own silence."""
        for at in self._partitions:
            at.came_s = min(now_s, at.came_s + silent_s)

    # giving

    def finish_if_idle(self) -> None:
        """Where all partitions are idle, or ended, all have ended."""
        if all(at.ended or self._is_idle(at) for at in self._partitions):
            self.end_at({at.place: at.read for at in self._partitions})

    def choose(self, partition: int) -> int | None:
        """Whose block is to be given where this one is asked for: one that was idle before all; None: nobody's yet."""
        returning = next((place for place, at in enumerate(self._partitions) if at.returns), None)
        if returning is not None:
            return returning
        at = self._partitions[partition]
        return partition if at.waiting or at.ended or (self._is_idle(at) and not at.told_idle) else None

    def give(self, partition: int, most: int, most_bytes: int) -> Given:
        """The next records of a partition, one at least where any wait; what `choose` found to say of it is said."""
        at = self._partitions[partition]
        records = _take(at.waiting, most, most_bytes)
        at.waiting_bytes -= sum(map(_bytes_of, records))
        first = int(records[0].offsets[0]) if records else at.next
        at.next = int(records[-1].offsets[-1]) + 1 if at.waiting else at.read
        at.told_end = at.ended
        idle = not records and not at.ended and not at.told_idle and self._is_idle(at)
        at.told_idle = idle or (at.told_idle and not records and not at.ended)
        return Given(partition, at.place, at.stage, first, records, at.ended, idle)

    def _is_idle(self, at: _Partition) -> bool:
        return self._idle_s is not None and not at.waiting and at.empty_s - at.came_s >= self._idle_s


def _bytes_of(records: Records) -> int:
    return records.size_bytes + _RECORD_BYTES * len(records.values)


def _take(waiting: deque[Records], most: int, most_bytes: int) -> list[Records]:
    """The first of those that wait, no more than `most`, and about `most_bytes`; one at least."""
    taken: list[Records] = []
    while waiting and most > 0 and most_bytes > 0:
        records = waiting.popleft()
        found = len(records.values)
        wanted = min(found, most, max(1, found * most_bytes // max(1, records.size_bytes)))
        if wanted < found:
            waiting.appendleft(records.take(wanted, found))
            records = records.take(0, wanted)
        taken.append(records)
        most, most_bytes = most - wanted, most_bytes - records.size_bytes
    return taken
