"""Several passes over one emission log, until roots that were held out are predicted no better."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Final

import numpy as np

from streamctr.errors import ConfigError
from streamctr.metrics import Judge
from streamctr.ports import Arrays
from streamctr.samples import SampleBatch
from streamctr.schema import instant_text
from streamctr.training.schedule import HeldOut
from streamctr.training.trainer import Trainer

_BEST: Final = "best/"


class Epochs:
    """Compares what each epoch leaves on the held-out roots, ends when one is no better, and keeps the best learner.

    The first epoch is the trainer's own: it scores, judges and takes the moments. The following ones only `learn`.

    Args:
        trainer: which learns nothing from the held-out roots.
        held_out: those roots.
        most: epochs at most.
        new_judge: a judge that has judged nothing.
    """

    def __init__(self, trainer: Trainer, held_out: HeldOut, most: int, new_judge: Callable[[], Judge]) -> None:
        self._trainer, self._held_out, self._most, self._new_judge = trainer, held_out, most, new_judge
        self.nll: list[float] = []
        """Of the held-out roots behind each epoch so far: the sum over the heads."""
        self._best: Arrays = {}

    @property
    def over(self) -> bool:
        """Whether there is no further epoch: there were enough, or the last one was no better than the best before."""
        return len(self.nll) >= self._most or (len(self.nll) > 1 and not self.nll[-1] < min(self.nll[:-1]))

    @property
    def best(self) -> int:
        """The epoch whose learner counts, from 1."""
        return 1 + int(np.argmin(np.nan_to_num(self.nll, nan=np.inf)))

    def learn(self, rows: SampleBatch) -> None:
        """Rows of an epoch behind the first, in the order of the log."""
        self._trainer.learn_again(rows)

    def end(self, log: Iterable[SampleBatch]) -> None:
        """An epoch has passed over all of `log`; where no other follows, the best learner is back."""
        self._trainer.learn_rest()
        self.nll.append(self._judged(log))
        if self.best == len(self.nll):
            self._best = {name: np.array(array) for name, array in self._trainer.learner.state().items()}
        if self.over:
            self._trainer.learner.restore(self._best)
            self._best = {}

    def _judged(self, log: Iterable[SampleBatch]) -> float:
        """Sum over the heads of the NLL of the held-out roots' final labels, with the weights of this moment."""
        judge = self._new_judge()
        for batch in log:
            rows = batch.take(self._held_out.has(batch))
            arrived = rows.take(rows.arrived)
            if len(arrived):
                judge.scored(arrived, self._trainer.score(arrived))
            if len(rows):
                judge.judge(replace(rows, histories=()))
        figures = judge.summary()["judged"].values()
        return float(sum(figure["nll"] for figure in figures if figure["nll"] is not None))

    def says(self) -> dict[str, Any]:
        """Which roots were held out, what they cost behind each epoch, and which epoch's learner counts."""
        span = [instant_text(ms) for ms in (self._held_out.from_ms, self._held_out.to_ms)]
        return {"roots": span, "nll": list(self.nll), "best": self.best if self.nll else None}

    def state(self) -> Arrays:
        """The figures, and the best learner so far."""
        return {"nll": np.array(self.nll, np.float64)} | {f"{_BEST}{n}": a for n, a in self._best.items()}

    def restore(self, arrays: Arrays) -> None:
        """Go on from `state`."""
        self.nll = [float(nll) for nll in arrays["nll"]]
        self._best = {n.removeprefix(_BEST): np.array(a) for n, a in arrays.items() if n.startswith(_BEST)}


def last_final_bucket(log: Iterable[SampleBatch], bucket_ms: int, span_ms: int, now_ms: int) -> HeldOut:
    """The newest bucket of root time all of whose labels are final.

    Args:
        log: the whole of it.
        bucket_ms: width of a bucket.
        span_ms: how long behind its root the last label is final.
        now_ms: event time at the end of the log.

    Raises:
        ConfigError: there is none, or no bucket before it.
    """
    buckets: set[int] = set()
    for batch in log:
        buckets.update((batch.at_ms[batch.arrived, 0] // bucket_ms).tolist())
    final = [number for number in buckets if (number + 1) * bucket_ms + span_ms <= now_ms]
    if not final or max(final) == min(buckets):
        raise ConfigError(
            "more than one epoch holds out the last metrics.bucket of root time whose labels are all final, and needs "
            f"an earlier one to learn from; buckets here: {len(buckets)}, final: {len(final)}. "
            "Make metrics.bucket smaller, or take one epoch"
        )
    return HeldOut(max(final) * bucket_ms, (max(final) + 1) * bucket_ms)
