"""The back half's loop: score what arrived, learn what is said, judge what is final. Legend: N rows, S stages."""

from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from streamctr import feedback
from streamctr.errors import NonFiniteError
from streamctr.ports import Arrays, ScoreSink
from streamctr.samples import ABSENT, FINAL, NEVER_MS, SampleBatch
from streamctr.training.config import Recipe
from streamctr.training.learner import Learner
from streamctr.training.queue import RowQueue

_FOREVER: Final = np.iinfo(np.int64).max
_MANY: Final = 1024
"""So many rows are worth a call of the judge."""


class Judge(Protocol):
    """Keeps the score of each root until its labels are final, and makes figures of both."""

    @property
    def tick_ms(self) -> int:
        """Event time between two lines of figures."""
        ...

    def scored(self, rows: SampleBatch, logits_NS: NDArray[np.float32]) -> None:
        """Roots that were scored, with the conditional logits of every stage."""
        ...

    def judge(self, rows: SampleBatch) -> None:
        """Rows of scored roots with something final or absent, without what describes the roots."""
        ...

    def tick(self, now_ms: int, steps: int, skipped: int) -> dict[str, Any]:
        """A line of figures: everything that was emitted before `now_ms` has been scored, learned and judged."""
        ...

    def state(self) -> Arrays:
        """As in `Stateful`."""
        ...

    def restore(self, arrays: Arrays) -> None:
        """As in `Stateful`."""
        ...


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Roots with a time in [from_ms, to_ms): they are scored and judged but teach nothing, moments included."""

    from_ms: int
    to_ms: int

    def has(self, rows: SampleBatch) -> NDArray[np.bool_]:
        """Which rows are of such roots, (N,)."""
        root_ms = rows.at_ms[:, 0]
        return np.asarray((root_ms >= self.from_ms) & (root_ms < self.to_ms))


class Trainer:
    """Reads the emission log and scores, learns and judges in an order that only the log decides.

    - Arrived rows queue up and are scored in blocks: when one is full, before a learning step, and at a tick. Then
      their numbers enter the moments.
    - Rows to be judged queue up: they are judged before a learning step, at a tick, and when a block was scored and
      many wait, all of whose roots have their scores by then.
    - Rows that train queue up; a full batch is one step, a part of one at a tick.
    - A tick comes before the first row at or behind each multiple of `judge.tick_ms`.
    - From `frozen_ms` of emission time on nothing is learned any more; scoring and judging go on.
    - From roots that are `held_out` nothing is ever learned.
    """

    def __init__(
        self,
        recipe: Recipe,
        judge: Judge,
        frozen_ms: int | None = None,
        held_out: HeldOut | None = None,
        scores: ScoreSink | None = None,
    ) -> None:
        """Start untrained; `scores` keeps what every root was scored with.

        Raises:
            ConfigError: the parts of the recipe do not fit one another.
        """
        self.learner = Learner(recipe)
        self.steps = 0
        """Learning steps that were taken."""
        self.skipped = 0
        """Steps that were not, because something was not finite."""
        self.scored_rows = 0
        self._training, self._judge, self._scores = recipe.training, judge, scores
        self._entire_space = recipe.model.entire_space
        self._frozen_ms = _FOREVER if frozen_ms is None else frozen_ms + 1  # what timers say then is from before
        self._frozen = False
        self._held_out = held_out
        self._next_tick_ms = NEVER_MS
        self._bad_steps = 0
        self._queues = {"score": RowQueue(), "learn": RowQueue(), "judge": RowQueue(described=False)}

    def feed(self, batch: SampleBatch) -> list[dict[str, Any]]:
        """Take the next rows of the log; the lines of the ticks that they passed.

        Raises:
            NonFiniteError: too many steps in a row were not finite.
        """
        lines: list[dict[str, Any]] = []
        if not len(batch):
            return lines
        if self._next_tick_ms == NEVER_MS:
            self._next_tick_ms = self._tick_after(int(batch.emit_ms[0]))
        chunk = self._split(batch)
        row = 0
        while True:
            row = self._cut(chunk, row)
            self._push(chunk, row)
            if len(self._queues["score"]) == self.learner.block:
                self._score_block()
            elif len(self._queues["learn"]) == self._training.batch:
                self._flush()
            elif row == len(batch):
                return lines
            else:
                lines += self._pass_time(int(batch.emit_ms[row]))

    def finish(self, now_ms: int) -> list[dict[str, Any]]:
        """The input is over: score, learn and judge what waits, and give a last line."""
        self._flush()
        return [self._judge.tick(now_ms, steps=self.steps, skipped=self.skipped)]

    def learn_again(self, batch: SampleBatch) -> None:
        """Learn from rows that `feed` has had, in full batches; nothing is scored or judged, and no time passes.

        Raises:
            NonFiniteError: too many steps in a row were not finite.
        """
        places = np.flatnonzero(self._trains(batch) & (batch.emit_ms < self._frozen_ms))
        queue, taken = self._queues["learn"], 0
        while taken < len(places):
            room = self._training.batch - len(queue)
            queue.push(batch, places[taken : taken + room])
            taken += room
            if len(queue) == self._training.batch:
                self._learn(queue.pop())

    def learn_rest(self) -> None:
        """Learn from what waits for a full batch."""
        if len(self._queues["learn"]):
            self._learn(self._queues["learn"].pop())

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
        for name, full in (("score", self.learner.block), ("learn", self._training.batch)):
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

    def _pass_time(self, emit_ms: int) -> list[dict[str, Any]]:
        """The tick, the freezing or both that come before a row of this time."""
        self._flush()
        self._frozen = self._frozen or emit_ms >= self._frozen_ms
        if emit_ms < self._next_tick_ms:
            return []
        self._next_tick_ms = self._tick_after(emit_ms)
        now_ms = self._next_tick_ms - self._judge.tick_ms
        return [self._judge.tick(now_ms, steps=self.steps, skipped=self.skipped)]

    def _tick_after(self, emit_ms: int) -> int:
        return (emit_ms // self._judge.tick_ms + 1) * self._judge.tick_ms

    def _flush(self) -> None:
        """Score what arrived, then learn, then judge."""
        self._score()
        self.learn_rest()
        self._judge_waiting()

    def _score_block(self) -> None:
        self._score()
        if len(self._queues["judge"]) >= _MANY:
            self._judge_waiting()

    def _score(self) -> None:
        if not len(self._queues["score"]):
            return
        rows = self._queues["score"].pop()
        logits_NS = self.learner.score(rows)
        if self._scores is not None:
            self._scores.write(rows.ordinal, logits_NS)
        self._judge.scored(rows, logits_NS)
        self.scored_rows += len(rows)
        if not self._frozen:
            self.learner.moments.update(self._teaching(rows).numbers_NM)

    def _teaching(self, rows: SampleBatch) -> SampleBatch:
        return rows if self._held_out is None else rows.take(~self._held_out.has(rows))

    def _judge_waiting(self) -> None:
        if len(self._queues["judge"]):
            self._judge.judge(self._queues["judge"].pop())

    def _learn(self, rows: SampleBatch) -> None:
        if self.learner.learn(rows):
            self.steps += 1
            self._bad_steps = 0
            return
        self.skipped += 1
        self._bad_steps += 1
        if self._bad_steps >= self._training.max_bad_steps:
            raise NonFiniteError(
                f"{self._bad_steps} learning steps in a row had a loss or gradient that is not finite, the last one at "
                f"ordinal {rows.ordinal[-1]}; lower training.lr or tables.lr, or look for extreme numbers there"
            )

    def score(self, rows: SampleBatch) -> NDArray[np.float32]:
        """Conditional logits (N, S) with the weights of this moment; changes nothing."""
        return self.learner.score(rows)

    def weights_sha256(self) -> str:
        """Hex digest of all parameters, learned table rows with their places, and moments."""
        return self.learner.weights_sha256()

    def state(self) -> Arrays:
        """The learner, the rows that wait, the counters, and the judge."""
        counters = (self.steps, self.skipped, self.scored_rows, self._frozen, self._next_tick_ms, self._bad_steps)
        arrays = {"counters": np.array(counters, np.int64)}
        for part, stateful in self._parts().items():
            arrays |= {f"{part}/{name}": array for name, array in stateful.state().items()}
        return arrays

    def restore(self, arrays: Arrays) -> None:
        """Go on from `state`."""
        self.steps, self.skipped, self.scored_rows, frozen, self._next_tick_ms, self._bad_steps = (
            int(counter) for counter in arrays["counters"]
        )
        self._frozen = bool(frozen)
        for part, stateful in self._parts().items():
            stateful.restore({n[len(part) + 1 :]: a for n, a in arrays.items() if n.startswith(f"{part}/")})

    def _parts(self) -> dict[str, Any]:
        queues = {f"queue-{name}": queue for name, queue in self._queues.items()}
        return {"learner": self.learner, "judge": self._judge, **queues}


@dataclass(frozen=True, slots=True)
class _Chunk:
    """The rows of one feed, and what is done with them."""

    batch: SampleBatch
    index: dict[str, NDArray[np.int64]]
    """The places of each queue's rows."""
    taken: dict[str, int]
    """How many of them were queued."""
