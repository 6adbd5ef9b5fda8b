"""When the rows of the emission log are scored, learned and judged. Legend: N rows, M numbers."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamctr import feedback
from streamctr.ports import Arrays
from streamctr.samples import ABSENT, FINAL, NEVER_MS, SampleBatch
from streamctr.training.config import Recipe
from streamctr.training.queue import RowQueue

_FOREVER: Final = np.iinfo(np.int64).max
_MANY: Final = 1024
"""So many rows are worth a call of the judge."""


@dataclass(frozen=True, slots=True)
class ToScore:
    """Rows that arrived."""

    rows: SampleBatch
    teaching_NM: NDArray[np.float32] | None
    """The numbers that enter the moments behind it; None: they teach nothing any more."""


@dataclass(frozen=True, slots=True)
class ToLearn:
    """A step on rows that train."""

    rows: SampleBatch


@dataclass(frozen=True, slots=True)
class ToJudge:
    """Rows with something final or absent."""

    rows: SampleBatch


@dataclass(frozen=True, slots=True)
class Tick:
    """A line of figures: all that was emitted before `now_ms` is scored, learned and judged."""

    now_ms: int


Step = ToScore | ToLearn | ToJudge | Tick


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Roots with a time in [from_ms, to_ms): they are scored and judged but teach nothing, moments included."""

    from_ms: int
    to_ms: int

    def has(self, rows: SampleBatch) -> NDArray[np.bool_]:
        """Which rows are of such roots, (N,)."""
        root_ms = rows.at_ms[:, 0]
        return np.asarray((root_ms >= self.from_ms) & (root_ms < self.to_ms))


class Schedule:
    """What is done with the rows of the emission log, in an order that only the log decides.

    - Arrived rows queue up and are scored in blocks: when one is full, before a learning step, and at a tick. Then
      their numbers enter the moments.
    - Rows to be judged queue up: they are judged before a learning step, at a tick, and when a block was scored and
      many wait, all of whose roots have their scores by then.
    - Rows that train queue up; a full batch is one step, a part of one at a tick.
    - A tick comes before the first row at or behind each multiple of `tick_ms`.
    - From `frozen_ms` of emission time on nothing is learned any more; scoring and judging go on.
    - From roots that are `held_out` nothing is ever learned.
    """

    def __init__(self, recipe: Recipe, tick_ms: int, frozen_ms: int | None, held_out: HeldOut | None) -> None:
        self.block = recipe.training.batch
        """Rows that are scored at once."""
        self._training, self._tick_ms, self._held_out = recipe.training, tick_ms, held_out
        self._entire_space = recipe.model.entire_space
        self._frozen_ms = _FOREVER if frozen_ms is None else frozen_ms + 1  # what timers say then is from before
        self._frozen = False
        self._next_tick_ms = NEVER_MS
        self._queues = {"score": RowQueue(), "learn": RowQueue(), "judge": RowQueue(described=False)}

    def feed(self, batch: SampleBatch) -> list[Step]:
        """What is done when the next rows of the log are there."""
        steps: list[Step] = []
        if not len(batch):
            return steps
        if self._next_tick_ms == NEVER_MS:
            self._next_tick_ms = self._tick_after(int(batch.emit_ms[0]))
        chunk = self._split(batch)
        row = 0
        while True:
            row = self._cut(chunk, row)
            self._push(chunk, row)
            if len(self._queues["score"]) == self.block:
                steps += self._score_block()
            elif len(self._queues["learn"]) == self._training.batch:
                steps += self._flush()
            elif row == len(batch):
                return steps
            else:
                steps += self._pass_time(int(batch.emit_ms[row]))

    def finish(self, now_ms: int) -> list[Step]:
        """What is done when the input is over: with all that waits, and a last line."""
        return [*self._flush(), Tick(now_ms)]

    def again(self, batch: SampleBatch) -> Iterator[ToLearn]:
        """Full batches of rows that `feed` has had; nothing else is done with them, and no time passes."""
        places = np.flatnonzero(self._trains(batch) & (batch.emit_ms < self._frozen_ms))
        queue, taken = self._queues["learn"], 0
        while taken < len(places):
            room = self._training.batch - len(queue)
            queue.push(batch, places[taken : taken + room])
            taken += room
            if len(queue) == self._training.batch:
                yield ToLearn(queue.pop())

    def rest(self) -> list[Step]:
        """A step on what waits for a full batch."""
        queue = self._queues["learn"]
        return [ToLearn(queue.pop())] if len(queue) else []

    def state(self) -> Arrays:
        """The rows that wait, and the time."""
        arrays = {"time": np.array((self._frozen, self._next_tick_ms), np.int64)}
        for name, queue in self._queues.items():
            arrays |= {f"queue-{name}/{column}": array for column, array in queue.state().items()}
        return arrays

    def restore(self, arrays: Arrays) -> None:
        """Go on from `state`."""
        frozen, self._next_tick_ms = (int(number) for number in arrays["time"])
        self._frozen = bool(frozen)
        for name, queue in self._queues.items():
            prefix = f"queue-{name}/"
            queue.restore({n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)})

    def _trains(self, batch: SampleBatch) -> NDArray[np.bool_]:
        """Which rows train any head, (N,)."""
        trains_N = feedback.trains(self._training.delayed_feedback, batch.says, self._entire_space)
        return trains_N if self._held_out is None else trains_N & ~self._held_out.has(batch)

    def _split(self, batch: SampleBatch) -> "_Chunk":
        judged_N = (batch.said & (FINAL | ABSENT)) != 0
        rows = {"score": batch.arrived, "learn": self._trains(batch), "judge": judged_N}
        index = {name: np.flatnonzero(rows_N) for name, rows_N in rows.items()}
        return _Chunk(batch, index, dict.fromkeys(index, 0))

    def _cut(self, chunk: "_Chunk", row: int) -> int:
        """The first place after `row` that something happens before: a full block or batch, time passing, the end."""
        time_ms = min(self._next_tick_ms, _FOREVER if self._frozen else self._frozen_ms)
        cut = int(np.searchsorted(chunk.batch.emit_ms, time_ms))
        for name, full in (("score", self.block), ("learn", self._training.batch)):
            last = chunk.taken[name] + full - len(self._queues[name]) - 1
            if last < len(chunk.index[name]) and not (name == "learn" and self._frozen):
                cut = min(cut, int(chunk.index[name][last]) + 1)
        return max(cut, row)

    def _push(self, chunk: "_Chunk", row: int) -> None:
        """Queue what stands before `row`."""
        for name, queue in self._queues.items():
            taken, chunk.taken[name] = chunk.taken[name], int(np.searchsorted(chunk.index[name], row))
            if not (name == "learn" and self._frozen):
                queue.push(chunk.batch, chunk.index[name][taken : chunk.taken[name]])

    def _pass_time(self, emit_ms: int) -> list[Step]:
        """The tick, the freezing or both that come before a row of this time."""
        steps = self._flush()
        self._frozen = self._frozen or emit_ms >= self._frozen_ms
        if emit_ms >= self._next_tick_ms:
            self._next_tick_ms = self._tick_after(emit_ms)
            steps.append(Tick(self._next_tick_ms - self._tick_ms))
        return steps

    def _tick_after(self, emit_ms: int) -> int:
        return (emit_ms // self._tick_ms + 1) * self._tick_ms

    def _flush(self) -> list[Step]:
        """Score what arrived, then learn, then judge."""
        return [*self._score(), *self.rest(), *self._judge()]

    def _score_block(self) -> list[Step]:
        return [*self._score(), *(self._judge() if len(self._queues["judge"]) >= _MANY else ())]

    def _score(self) -> list[Step]:
        if not len(self._queues["score"]):
            return []
        rows = self._queues["score"].pop()
        teaching = rows if self._held_out is None else rows.take(~self._held_out.has(rows))
        return [ToScore(rows, None if self._frozen else teaching.numbers_NM)]

    def _judge(self) -> list[Step]:
        queue = self._queues["judge"]
        return [ToJudge(queue.pop())] if len(queue) else []


@dataclass(frozen=True, slots=True)
class _Chunk:
    """The rows of one feed, and what is done with them."""

    batch: SampleBatch
    index: dict[str, NDArray[np.int64]]
    """The places of each queue's rows."""
    taken: dict[str, int]
    """How many of them were queued."""
