"""Event-time order: hold events until the watermark has passed them, then release them by what they are."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streamctr.events import EventBatch, spread
from streamctr.kernel import inlined, kernel
from streamctr.ports import Arrays

Places = NDArray[np.int64]
_Keys = tuple[NDArray[np.uint64], NDArray[np.uint64], Places, Places]

_NARROW: Final = tuple(name for name in EventBatch.__slots__ if name not in ("ids_NF", "numbers_NM"))
_PARTS: Final = 64
"""More are made one again: some may hold little that waits for long."""
_FAR: Final = 64
"""Of so many events at one moment, to move each to its place costs more than to sort all of them by everything."""
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
        self._released_ms = FIRST_MS
        self._newest_released_ms = FIRST_MS
        self._empty = empty
        self._parts: list[_Part] = []
        self._begin(partitions)

    def _begin(self, partitions: int) -> None:
        self._newest_ms = np.full(partitions, FIRST_MS, np.int64)
        self._ended = np.zeros(partitions, np.bool_)
        self._idle = np.zeros(partitions, np.bool_)
        self._promised: dict[tuple[int, int], int] = {}

    @property
    def held(self) -> EventBatch:
        """Accepted events that wait for the watermark."""
        return EventBatch.concat([self._empty, *(part.events for part in self._parts)])

    @property
    def _told_ms(self) -> Places:
        return np.concatenate([self._empty.time_ms, *(part.told_ms for part in self._parts)])

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

    @property
    def newest_ms(self) -> Places:
        """Of each partition, the time of its newest event; `FIRST_MS` before the first."""
        return self._newest_ms

    @property
    def idle(self) -> NDArray[np.bool_]:
        """Which partitions hold nobody up, for they are silent."""
        return self._idle

    @property
    def quiet(self) -> NDArray[np.bool_]:
        """Which partitions hold nobody up, for they are silent or have ended."""
        return self._idle | self._ended

    def behind(self) -> int:
        """The partition to read next: of those that go on, the one whose newest event is oldest."""
        return int(np.where(self._ended | self._idle, LAST_MS, self._newest_ms).argmin())

    def reach(self, partitions: int) -> None:
        """There are so many partitions now; new ones stand behind, and begin."""
        new = partitions - len(self._newest_ms)
        if new > 0:
            self._newest_ms = np.append(self._newest_ms, np.full(new, FIRST_MS))
            self._ended, self._idle = (np.append(marks, np.zeros(new, np.bool_)) for marks in (self._ended, self._idle))

    def push(
        self,
        partition: int,
        events: EventBatch,
        derived: EventBatch | None = None,
        line_of: Places | None = None,
        numbers: Places | None = None,
    ) -> NDArray[np.bool_]:
        """Accept the events of one partition, in the order in which they stand there; tells which are late, (N,).

        Args:
            partition: where they come from.
            events: one a message.
            derived: events that fields of these messages tell of: they share their message's fate, wait for their own
                time, and move nothing.
            line_of: by which of `events` each of them was told, (D,).
            numbers: where they stand in the partition, (N,): what `promise` speaks of.
        """
        if len(events) == 0:
            return np.zeros(0, np.bool_)
        before = np.empty(len(events), np.int64)  # the partition's newest time when each event came
        before[0] = self._newest_ms[partition]
        np.maximum.accumulate(np.maximum(events.time_ms[:-1], before[0]), out=before[1:])
        late = (events.time_ms < before - self._lateness_ms) | (events.time_ms < self._released_ms)
        for (of, number), promised_ms in self._promised.items():
            if of == partition and numbers is not None:
                late |= (numbers >= number) & (events.time_ms < promised_ms)
        self._newest_ms[partition] = max(int(before[-1]), int(events.time_ms[-1]))
        on_time = slice(None) if not late.any() else ~late
        held = events.take(on_time)
        told_ms = held.time_ms
        if derived is not None and len(derived):
            kept = ~late[line_of]
            held = EventBatch.concat([held, derived.take(kept)])
            told_ms = np.concatenate([told_ms, events.time_ms[line_of][kept]])
        self._hold(held, told_ms)
        return late

    def promise(self, partition: int, number: int, watermark_ms: int) -> None:
        """Something said that this partition was silent at `number`: what stands there and behind is late before W."""
        key = partition, number
        self._promised[key] = max(watermark_ms, self._promised.get(key, watermark_ms))

    def rest(self, partition: int) -> None:
        """This partition is silent: it no longer holds the watermark back."""
        self._idle[partition] = True

    def wake(self, partition: int) -> None:
        """This partition brought something again."""
        self._idle[partition] = False

    def resume(self) -> None:
        """All partitions may bring more: a source that has nothing says so again."""
        self._ended[:] = False
        self._idle[:] = False

    def splice(self, partitions: int) -> EventBatch:
        """Go on with other partitions, which bring everything from the watermark on again.

        Returns:
            The held events whose messages come again: they are no longer held.
        """
        held, told_ms = self.held, self._told_ms
        again = told_ms >= self._released_ms
        self._parts = []
        self._hold(held.take(~again), told_ms[~again])
        self._begin(partitions)
        return held.take(again)

    def end(self, partition: int) -> None:
        """This partition has ended: it no longer holds the watermark back."""
        self._ended[partition] = True

    def watermark_ms(self, until_ms: int | None = None) -> int:
        """All events before this have come, or are late; at most `until_ms`."""
        going = self._newest_ms[~(self._ended | self._idle)]
        if self.all_ended:
            watermark_ms = LAST_MS
        else:  # where all are silent, what the newest event allows
            watermark_ms = int(going.min() if len(going) else self._newest_ms.max()) - self._lateness_ms
        return watermark_ms if until_ms is None else min(watermark_ms, until_ms)

    def release(self, watermark_ms: int) -> EventBatch:
        """All held events with a time before the watermark, in order."""
        ready = [(part, part.ready(watermark_ms)) for part in self._parts]
        released = _merged([part.events.take(slice(0, n)) for part, n in ready if n] or [self._empty])
        self._parts = [part.behind(n) for part, n in ready if n < len(part.told_ms)]
        if len(released):
            self._newest_released_ms = int(released.time_ms[-1])
        # After the end of everything only what is newer than all that was released can still be placed.
        promised_ms = watermark_ms if watermark_ms < LAST_MS else self._newest_released_ms + 1
        self._released_ms = max(self._released_ms, promised_ms)
        self._promised = {key: ms for key, ms in self._promised.items() if ms > self._released_ms}
        return released

    def state(self) -> Arrays:
        """Newest times, ends, what was promised, and the held events."""
        scalars = np.array([self._released_ms, self._newest_released_ms])
        promised = np.array([(*key, ms) for key, ms in self._promised.items()], np.int64).reshape(-1, 3)
        arrays: Arrays = {"newest_ms": self._newest_ms, "ended": self._ended, "idle": self._idle, "scalars": scalars}
        held, told_ms = self.held, self._told_ms
        order = np.lexsort((told_ms, *_keys(held)))  # however they came together
        held = held.take(order)
        arrays |= {"promised": promised, "told_ms": told_ms[order]}
        return arrays | {f"held.{name}": getattr(held, name) for name in held.__slots__}

    def restore(self, arrays: Arrays) -> None:
        """Become the orderer that gave `arrays`; partitions that it did not have stand behind, and begin."""
        partitions = len(self._newest_ms)  # never fewer: the source misses those that are gone
        self._newest_ms, self._ended, self._idle = (arrays[name].copy() for name in ("newest_ms", "ended", "idle"))
        self.reach(partitions)
        self._released_ms, self._newest_released_ms = (int(value) for value in arrays["scalars"])
        self._promised = {(of, number): ms for of, number, ms in arrays["promised"].tolist()}
        held = EventBatch(*(arrays[f"held.{name}"].copy() for name in self._empty.__slots__))
        self._parts = []
        self._hold(held, arrays["told_ms"].copy())

    def _hold(self, events: EventBatch, told_ms: Places) -> None:
        if len(self._parts) == _PARTS:
            events, told_ms = EventBatch.concat([self.held, events]), np.concatenate([self._told_ms, told_ms])
            self._parts = []
        if len(events):
            order = _in_order(_keys(events))
            self._parts.append(_Part(events, told_ms) if order is None else _Part(events.take(order), told_ms[order]))


@dataclass(frozen=True, slots=True)
class _Part:
    """Events that came together, in order: what is ready stands in front, and the rest need not be moved."""

    events: EventBatch
    told_ms: Places
    """Of each event, the time of the message that told of it."""

    def ready(self, watermark_ms: int) -> int:
        """How many events are before the watermark."""
        return int(np.searchsorted(self.events.time_ms, watermark_ms))

    def behind(self, count: int) -> "_Part":
        """What stands behind so many events."""
        return _Part(self.events.take(slice(count, None)), self.told_ms[count:]) if count else self


def _merged(parts: list[EventBatch]) -> EventBatch:
    """The events of parts that are each in order, in order; nothing is copied where one part is alone."""
    if len(parts) == 1:
        return parts[0]
    columns: dict[str, Any] = {n: np.concatenate([getattr(p, n) for p in parts]) for n in _NARROW}
    order = _in_order((columns["content"], columns["root"], columns["stage"], columns["time_ms"]))
    if order is None:
        return EventBatch.concat(parts)
    columns = {name: column.take(order) for name, column in columns.items()}
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    for name in ("ids_NF", "numbers_NM"):
        first = getattr(parts[0], name)
        columns[name] = np.empty((len(order), first.shape[1]), first.dtype)
    begin, wide = 0, (columns["ids_NF"], columns["numbers_NM"])
    for part in parts:
        spread((part.ids_NF, part.numbers_NM), place[begin : begin + len(part)], wide)
        begin += len(part)
    return EventBatch(**columns)


def _in_order(keys: _Keys) -> Places | None:
    """The order of the keys' rows; None where they stand in it."""
    if in_order(keys):
        return None
    order = np.argsort(keys[-1], kind="stable")  # fast where events come almost in order, as they do
    return order if sort_ties(order, keys) else np.lexsort(keys)


def _keys(events: EventBatch) -> _Keys:
    """What they are released by, the last one first."""
    return events.content, events.root, events.stage, events.time_ms


@inlined
def _after(keys: _Keys, a: int, b: int) -> bool:
    """Whether row `a` comes behind row `b`."""
    content, root, stage, time_ms = keys
    if time_ms[a] != time_ms[b]:
        return bool(time_ms[a] > time_ms[b])
    if stage[a] != stage[b]:
        return bool(stage[a] > stage[b])
    if root[a] != root[b]:
        return bool(root[a] > root[b])
    return bool(content[a] > content[b])


@kernel
def in_order(keys: _Keys) -> bool:
    """Whether no row comes behind the next."""
    row = 1
    while row < len(keys[0]) and not _after(keys, row - 1, row):
        row += 1
    return row >= len(keys[0])


@kernel
def sort_ties(order: Places, keys: _Keys) -> bool:
    """Put rows that an order by time left as they came in order; False where one had too far to go."""
    for end in range(1, len(order)):
        row, to = order[end], end
        while to > 0 and _after(keys, order[to - 1], row):
            if end - to == _FAR:
                return False
            order[to] = order[to - 1]
            to -= 1
        order[to] = row
    return True
