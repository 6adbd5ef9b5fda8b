"""The back half's loop: score what arrived, learn what is said, judge what is final. Legend: N rows, S stages."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from streamctr.errors import NonFiniteError
from streamctr.ports import Arrays, ScoreSink
from streamctr.samples import SampleBatch
from streamctr.training.config import Recipe
from streamctr.training.learner import Learner
from streamctr.training.schedule import HeldOut, Schedule, Step, Tick, ToJudge, ToLearn, ToScore


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
class Scored:
    """Rows that were scored, with their conditional logits."""

    rows: SampleBatch
    logits_NS: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Ticked:
    """A line of figures is due, and what had been learned by then."""

    now_ms: int
    steps: int
    skipped: int


Judged = Scored | ToJudge | Ticked


class Trainer:
    """Reads the emission log and scores, learns and judges as its schedule says.

    `feed` is `plan`, `work` and `judge`, and each may run in a thread of its own, in the order of the log: none reads
    what a later one writes.
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
        self.schedule = Schedule(recipe, judge.tick_ms, frozen_ms, held_out)
        self.steps = 0
        """Learning steps that were taken."""
        self.skipped = 0
        """Steps that were not, because something was not finite."""
        self.scored_rows = 0
        self._judge, self._scores, self._most_bad_steps = judge, scores, recipe.training.max_bad_steps
        self._bad_steps = 0

    def feed(self, batch: SampleBatch) -> list[dict[str, Any]]:
        """Take the next rows of the log; the lines of the ticks that they passed.

        Raises:
            NonFiniteError: too many steps in a row were not finite.
        """
        return self.judge(self.work(self.plan(batch)))

    def finish(self, now_ms: int) -> list[dict[str, Any]]:
        """The input is over: score, learn and judge what waits, and give a last line."""
        return self.judge(self.work(self.schedule.finish(now_ms)))

    def plan(self, batch: SampleBatch) -> list[Step]:
        """What is to be done with the next rows of the log, and those that waited for them."""
        return self.schedule.feed(batch)

    def work(self, steps: Iterable[Step]) -> list[Judged]:
        """Score and learn; what is to be judged.

        Raises:
            NonFiniteError: too many steps in a row were not finite.
        """
        judged: list[Judged] = []
        for step in steps:
            match step:
                case ToScore(rows):
                    judged.append(Scored(rows, self.learner.score(rows)))
                    self.scored_rows += len(rows)
                    if step.teaching_NM is not None:
                        self.learner.moments.update(step.teaching_NM)
                case ToLearn(rows):
                    self._learn(rows)
                case Tick(now_ms):
                    judged.append(Ticked(now_ms, self.steps, self.skipped))
                case ToJudge():
                    judged.append(step)
        return judged

    def judge(self, judged: Iterable[Judged]) -> list[dict[str, Any]]:
        """Keep scores, and make figures; the lines of the ticks."""
        lines = []
        for one in judged:
            match one:
                case Scored(rows, logits_NS):
                    if self._scores is not None:
                        self._scores.write(rows.ordinal, logits_NS)
                    self._judge.scored(rows, logits_NS)
                case ToJudge(rows):
                    self._judge.judge(rows)
                case Ticked(now_ms, steps, skipped):
                    lines.append(self._judge.tick(now_ms, steps=steps, skipped=skipped))
        return lines

    def learn_again(self, batch: SampleBatch) -> None:
        """Learn from rows that `feed` has had, in full batches; nothing is scored or judged, and no time passes.

        Raises:
            NonFiniteError: too many steps in a row were not finite.
        """
        self.work(self.schedule.again(batch))

    def learn_rest(self) -> None:
        """Learn from what waits for a full batch."""
        self.work(self.schedule.rest())

    def _learn(self, rows: SampleBatch) -> None:
        if self.learner.learn(rows):
            self.steps += 1
            self._bad_steps = 0
            return
        self.skipped += 1
        self._bad_steps += 1
        if self._bad_steps >= self._most_bad_steps:
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
        """The learner, the schedule, the counters, and the judge."""
        counters = self.steps, self.skipped, self.scored_rows, self._bad_steps
        arrays = {"counters": np.array(counters, np.int64)}
        for part, stateful in self._parts().items():
            arrays |= {f"{part}/{name}": array for name, array in stateful.state().items()}
        return arrays

    def restore(self, arrays: Arrays) -> None:
        """Go on from `state`."""
        self.steps, self.skipped, self.scored_rows, self._bad_steps = (int(count) for count in arrays["counters"])
        for part, stateful in self._parts().items():
            stateful.restore({n[len(part) + 1 :]: a for n, a in arrays.items() if n.startswith(f"{part}/")})

    def _parts(self) -> dict[str, Any]:
        return {"learner": self.learner, "judge": self._judge, "schedule": self.schedule}
