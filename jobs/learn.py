"""`streamctr learn`: the emission log that `join` wrote to a learned and judged model; events are not needed."""

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from connectors.logs import read_samples
from jobs.console import Call, Result
from jobs.donor import Donor
from jobs.interrupts import Stop
from jobs.joined import JoinEnd
from jobs.rundir import RunDirectory, load_run
from jobs.runfile import RunConfig, resolved
from jobs.runner import About, Place, Runner, Say, in_directory, learned, moment, moved_freezing
from jobs.summary import learned_summary
from jobs.wiring import back_half
from streamctr.errors import DataError
from streamctr.metrics import Judge
from streamctr.order import FIRST_MS
from streamctr.ports import Arrays
from streamctr.samples import SampleBatch
from streamctr.snapshot import SnapshotStore
from streamctr.training import Epochs, last_final_bucket

_KEPT = ("samples", "joined", "dead-letters", "log.jsonl")
"""What `--fresh` leaves of a run directory: it is of the join."""


@dataclass(frozen=True, slots=True)
class Request:
    """What `learn` is asked for, as it was typed."""

    run: Path
    epochs: int = 1
    frozen: str | None = None
    directory: Path | None = None
    fresh: bool = False
    start: Path | None = None
    """A snapshot, or a run directory, whose learner a new run starts from."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What decides how the samples are learned, besides the config."""

    epochs: int = 1
    frozen_ms: int | None = None


def learn(call: Call, request: Request) -> Result:
    """Learn and judge all samples, in one pass as `replay` does, or in several; always leaves a last snapshot.

    Raises:
        StreamctrError: it cannot start or go on; what to do stands in it.
    """
    asked = Asked(request.epochs, moment("--frozen", request.frozen))
    config = load_run(request.run, call.sets).config
    directory = RunDirectory.of(request.run, request.directory)
    joined = JoinEnd.read(directory.samples)
    joined.refuse_others(config, directory.samples)
    donor = None if request.start is None else Donor.load(request.start, config)  # before --fresh may delete it
    store = SnapshotStore(directory.snapshots, config.snapshots.keep)

    def clear() -> None:
        if request.fresh:
            directory.clear(keep=_KEPT)
        if donor is not None:
            donor.refuse_begun(directory)

    def work(log: Any, stop: Stop) -> dict[str, Any]:
        log.info("started", command="learn", epochs=request.epochs, frozen=request.frozen, fresh=request.fresh)
        began = time.monotonic()
        with closing(LearnTask(config, directory, joined, asked, donor)) as task:
            runner = Runner(task, Place(directory, store, config.snapshots, log))
            name = runner.to_the_end(stop, started=lambda: directory.write_config(config))
            return {
                "events": joined.events,
                "roots": joined.roots,
                **learned(task.back, name),
                **task.compared(),
                "seconds": round(time.monotonic() - began, 3),
                "run": str(directory.path),
            }

    result, exit_code = in_directory(directory, clear, work)
    call.show(*learned_summary(result))
    return result, exit_code


class LearnTask:
    """A `Task` that takes rows to where the join stopped, once or several times."""

    command, unit = "learn", "rows"

    def __init__(
        self, config: RunConfig, directory: RunDirectory, joined: JoinEnd, asked: Asked, donor: Donor | None
    ) -> None:
        self._joined, self._folder, self._asked, self._donor = joined, directory.samples, asked, donor
        self._config = _of_learning(config)
        names, span_ms = joined.known_names(config.metrics.slices), config.tree.span_ms()
        held_out, self._epochs = None, None
        if asked.epochs > 1:
            held_out = last_final_bucket(self._log(), config.metrics.bucket, span_ms, joined.newest_ms)
        self.back = back_half(config, directory.metrics, names, asked.frozen_ms, held_out)
        if held_out is not None:
            judge = partial(Judge, config.metrics, config.tree, config.features, names)
            self._epochs = Epochs(self.back.trainer, held_out, asked.epochs, judge)
        self._batches: Iterator[SampleBatch] | None = None
        self._next, self._emitted_ms = 0, FIRST_MS
        self._ends = 0  # ends of the input at which what waited for a full block was learned
        self._from: dict[str, Any] | None = None

    @property
    def taken(self) -> int:
        """Rows of all epochs so far."""
        return self._passed * self._joined.rows + self._next

    @property
    def config(self) -> dict[str, Any]:
        """All of it but the lookup files: what was joined with them is compared with the join's own config."""
        return self._config

    @property
    def total(self) -> int:
        """Rows of all epochs."""
        return self._asked.epochs * self._joined.rows

    @property
    def done(self) -> int:
        """Rows of all epochs so far."""
        return self.taken

    @property
    def _passed(self) -> int:
        return 0 if self._epochs is None else len(self._epochs.nll)

    def begin(self, tell: Say) -> None:
        """Forget the figures, and start from the donor's learner."""
        self.back.forget()
        if self._donor is not None:
            self._from = self._donor.give(self.back.trainer.learner)
            tell(f"starting from the learner of {self._donor.snapshot}")

    def restore(self, arrays: Arrays, about: About) -> None:
        """Go on from a snapshot."""
        self.back.restore(arrays)
        self._next, self._ends, self._emitted_ms = (int(value) for value in arrays["at"])
        if self._epochs is not None:
            self._epochs.restore({n.removeprefix("epochs/"): a for n, a in arrays.items() if n.startswith("epochs/")})
        self._from = about["from"]

    def refused(self, about: About) -> list[str]:
        """A moment of freezing that was moved, other epochs, or samples that are not what they were."""
        lines, before, rows = moved_freezing(about, self._asked.frozen_ms), about["epochs"], self._joined.rows
        if before != self._asked.epochs:
            lines.append(f"--epochs: {before} is now {self._asked.epochs}")
        if rows < about["rows"] or (before > 1 and rows != about["rows"]):
            lines.append(f"{self._folder}: {about['rows']:,} rows are now {rows:,}")
        return lines

    def advance(self, tell: Say) -> bool:
        """Take one batch, or finish at an end of the input, or an epoch."""
        if self._epochs is not None and self._epochs.over:
            return False
        batch = self._batch()
        if batch is not None:
            self._take(batch)
        elif self._passed == 0 and self._ends < len(self._joined.ends):
            self.back.finish(self._joined.ends[self._ends][1])
            self._ends += 1
        else:
            return self._epochs is not None and self._end_epoch(self._epochs, tell)
        return True

    def _batch(self) -> SampleBatch | None:
        """The next rows; None where the input ended, or the join stopped.

        Raises:
            DataError: there are fewer than the join said.
        """
        between = self._passed == 0 and self._ends < len(self._joined.ends)
        stop = self._joined.ends[self._ends][0] if between else self._joined.rows
        if self._batches is None:
            self._batches = self._log(self._next, stop)
        batch = next(self._batches, None)
        if batch is None:
            self._batches = None
        return batch

    def _log(self, first: int = 0, end: int | None = None) -> Iterator[SampleBatch]:
        end = self._joined.rows if end is None else end
        for batch in read_samples(self._folder, first, end):
            if batch.ordinal[0] != first:
                break
            first = int(batch.ordinal[-1]) + 1
            yield batch
        if first < end:
            raise DataError(
                f"{self._folder} lacks row {first:,} of the {self._joined.rows:,} that were joined; "
                "run streamctr join again"
            )

    def _take(self, batch: SampleBatch) -> None:
        if self._epochs is not None and self._passed:
            self._epochs.learn(batch)
        else:
            self.back.feed(batch)
            self._emitted_ms = int(batch.emit_ms[-1])
        self._next = int(batch.ordinal[-1]) + 1

    def _end_epoch(self, epochs: Epochs, tell: Say) -> bool:
        """Judge the held-out roots; whether another epoch follows."""
        ends = self._joined.ends
        if self._passed == 0 and (not ends or ends[-1][0] < self._joined.rows):
            self.back.finish(self._joined.newest_ms)  # the join stopped before the end of its input
        epochs.end(self._log())
        self._next = 0
        tell(f"epoch {self._passed}: NLL {epochs.nll[-1]:.4f} of the roots held out; best is epoch {epochs.best}")
        return not epochs.over

    def is_over(self, about: About) -> bool:
        """At the last end that there is."""
        return bool(about["ended"] and about["ends"] == len(self._joined.ends))

    def finish(self) -> None:
        """Nothing is left to do: the ends of the input stand in the log."""

    def about(self, over: bool) -> dict[str, Any]:
        """Where it is."""
        return {
            "events_read": sum(counts["read"] for counts in self._joined.events.values()),
            "rows": self._joined.rows,
            "steps": self.back.trainer.steps,
            "event_ms": self._emitted_ms,
            "ended": over,
            "ends": self._ends,
            "epochs": self._asked.epochs,
            "frozen_ms": self._asked.frozen_ms,
            "from": self._from,
            **self.compared(),
        }

    def compared(self) -> dict[str, Any]:
        """The epochs and the held-out roots, where there is more than one."""
        if self._epochs is None:
            return {}
        return {"held_out": self._epochs.says()}

    def state(self) -> Arrays:
        """Of the back half and the epochs, and the place in the log."""
        arrays = self.back.state() | {"at": np.array([self._next, self._ends, self._emitted_ms])}
        epochs = {} if self._epochs is None else self._epochs.state()
        return arrays | {f"epochs/{name}": array for name, array in epochs.items()}

    def close(self) -> None:
        """Give back files."""
        self.back.close()


def _of_learning(config: RunConfig) -> dict[str, Any]:
    """The resolved config without what only a join reads."""
    plain = resolved(config)
    return {**plain, "features": {key: value for key, value in plain["features"].items() if key != "lookup"}}
