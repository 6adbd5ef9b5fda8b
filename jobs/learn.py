"""`streamctr learn`: the emission log that `join` writes to a learned and judged model; events are not needed."""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jobs.console import Call, Result, say
from jobs.donor import Donor
from jobs.interrupts import Stop
from jobs.joined import JoinEnd
from jobs.owner import Offsets, Own, Owner, fenced, sole
from jobs.rows import FileRows, Rows, TopicRows
from jobs.rundir import RunDirectory, load_run
from jobs.runfile import RunConfig, resolved
from jobs.runner import Place, Runner, in_directory, learned, moment, moved_freezing
from jobs.summary import learned_summary
from jobs.task import About, Say
from jobs.wiring import Outputs, back_half
from streamctr.errors import ConfigError
from streamctr.metrics import Judge
from streamctr.names import Names
from streamctr.order import FIRST_MS
from streamctr.ports import Arrays, pack_text, unpack_text
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
    until: str | None = None
    """Of samples in a topic: `end`, where the join's input has ended and nothing came behind it."""


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
    by_topic = config.kafka is not None and config.kafka.samples is not None
    own, open_rows = (_of_topic if by_topic else _of_files)(config, directory, request)
    donor = None if request.start is None else Donor.load(request.start, config)  # before --fresh may delete it

    def clear() -> None:
        if request.fresh:
            directory.clear(keep=_KEPT)
        if donor is not None:
            donor.refuse_begun(directory)

    def work(owner: Owner, log: Any, stop: Stop) -> dict[str, Any]:
        started = {"epochs": request.epochs, "frozen": request.frozen, "fresh": request.fresh, "epoch": owner.epoch}
        log.info("started", command="learn", **started)
        began = time.monotonic()
        outputs = Outputs.files(config, directory, owner.epoch)
        with closing(open_rows(log)) as rows, closing(LearnTask(config, outputs, rows, asked, donor)) as task:
            store = SnapshotStore(directory.snapshots, config.snapshots.keep, owner.epoch)
            runner = Runner(task, Place(directory, store, config.snapshots, log, owner))
            name = runner.to_the_end(stop, started=lambda: directory.write_config(config))
            return {
                "events": rows.joined.events,
                "roots": rows.joined.roots,
                **learned(task.back, name),
                **task.compared(),
                "seconds": round(time.monotonic() - began, 3),
                "run": str(directory.path),
            }

    result, exit_code = in_directory(directory, own, clear, work)
    call.show(*learned_summary(result))
    return result, exit_code


def _of_files(config: RunConfig, directory: RunDirectory, request: Request) -> tuple[Own, Callable[[Any], Rows]]:
    """Who owns a learner of files, and its rows.

    Raises:
        ConfigError: they were joined with another config; or `--until`, which goes with topics.
        DataError: there are none.
    """
    if request.until is not None:
        raise ConfigError("--until goes with samples in a topic: set kafka.samples, or leave it out")
    joined = JoinEnd.read(directory.samples)
    joined.refuse_others(config, str(directory.samples))
    return lambda: sole(directory), lambda log: FileRows(directory.samples, joined)


def _of_topic(config: RunConfig, directory: RunDirectory, request: Request) -> tuple[Own, Callable[[Any], Rows]]:
    """Who owns a learner that follows a topic, and its rows."""
    from connectors.kafka.samplereader import SampleReader  # loads the client
    from jobs.consume import teller

    kafka = config.kafka
    assert kafka is not None
    topic = kafka.samples
    assert topic is not None

    def opened(log: Any) -> Rows:
        to_its_end = " until its join has come to the end of its input" if request.until == "end" else ""
        say(f"reading samples from topic {topic}{to_its_end}")
        return TopicRows(SampleReader(kafka, directory.run_id, teller(log)), config, topic, request.until == "end")

    return lambda: fenced(directory, kafka, "learn"), opened


class LearnTask:
    """A `Task` that takes rows to where the join stopped, once or several times."""

    command, unit = "learn", "rows"
    follows: tuple[str, ...] = ("learn",)

    def __init__(
        self, config: RunConfig, outputs: Outputs, rows: Rows, asked: Asked, donor: Donor | None = None
    ) -> None:
        self._rows, self._asked, self._donor = rows, asked, donor
        self._config = _of_learning(config)
        self._names, held_out, self._epochs = Names(config.metrics.slices), None, None
        if asked.epochs > 1:
            span_ms, newest_ms = config.tree.span_ms(), rows.joined.newest_ms
            held_out = last_final_bucket(rows.again(), config.metrics.bucket, span_ms, newest_ms)
        self.back = back_half(config, outputs, self._names, asked.frozen_ms, held_out)
        if held_out is not None:
            judge = partial(Judge, config.metrics, config.tree, config.features, self._names)
            self._epochs = Epochs(self.back.trainer, held_out, asked.epochs, judge)
        self._next, self._emitted_ms = 0, FIRST_MS
        self._ends = 0  # ends of the input at which what waited for a full block was learned
        self._from: dict[str, Any] | None = None
        self._known: JoinEnd | None = None
        self._get_to_know()

    @property
    def taken(self) -> int:
        """Rows of all epochs so far."""
        return self._passed * self._joined.rows + self._next

    @property
    def _joined(self) -> JoinEnd:
        return self._rows.joined

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
        self._rows.seek(unpack_text(arrays["positions"]))
        self._get_to_know()
        self._next, self._ends, self._emitted_ms = (int(value) for value in arrays["at"])
        if self._epochs is not None:
            self._epochs.restore({n.removeprefix("epochs/"): a for n, a in arrays.items() if n.startswith("epochs/")})
        self._from = about["from"]

    def refused(self, about: About) -> list[str]:
        """A moment of freezing that was moved, other epochs, or samples that are not what they were."""
        lines, before = moved_freezing(about, self._asked.frozen_ms), about["epochs"]
        if before != self._asked.epochs:
            lines.append(f"--epochs: {before} is now {self._asked.epochs}")
        return lines + self._rows.refused(about["rows"], exactly=before > 1)

    def advance(self, tell: Say) -> bool:
        """Take one batch, or finish at an end of the input, or an epoch."""
        if self._epochs is not None and self._epochs.over:
            return False
        batch = self._rows.batch(self._next)
        self._get_to_know()
        if batch is not None:
            self._take(batch)
            return True
        if self._finish_where_it_ended() or not self._rows.is_over():
            return True
        return self._epochs is not None and self._end_epoch(self._epochs, tell)

    def _get_to_know(self) -> None:
        """Texts that rows may be sliced by from here on."""
        if self._known is not self._joined:
            self._known = self._joined
            if self._known.names["claimed"]:  # which it is not before the first round of a topic
                self._known.teach(self._names)

    def _take(self, batch: SampleBatch) -> None:
        """Learn rows, and finish at each end of the input that lies before or within them."""
        if self._epochs is not None and self._passed:
            self._epochs.learn(batch)
            self._next = int(batch.ordinal[-1]) + 1
            return
        while len(batch):
            self._finish_where_it_ended()
            ends = self._joined.ends[self._ends :]
            now = len(batch) if not ends else min(len(batch), ends[0][0] - self._next)
            part, batch = batch.take(slice(0, now)), batch.take(slice(now, None))
            self.back.feed(part)
            self._emitted_ms, self._next = int(part.emit_ms[-1]), int(part.ordinal[-1]) + 1

    def _finish_where_it_ended(self) -> bool:
        """Learn what waits for a full block, once for each time that the input ended here; whether it did."""
        before = self._ends
        while (
            not self._passed and self._ends < len(self._joined.ends) and self._joined.ends[self._ends][0] <= self._next
        ):
            self.back.finish(self._joined.ends[self._ends][1])
            self._ends += 1
        return self._ends > before

    def _end_epoch(self, epochs: Epochs, tell: Say) -> bool:
        """Judge the held-out roots; whether another epoch follows."""
        ends = self._joined.ends
        if self._passed == 0 and (not ends or ends[-1][0] < self._joined.rows):
            self.back.finish(self._joined.newest_ms)  # the join stopped before the end of its input
        epochs.end(self._rows.again())
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
        arrays["positions"] = pack_text(self._rows.positions())
        epochs = {} if self._epochs is None else self._epochs.state()
        return arrays | {f"epochs/{name}": array for name, array in epochs.items()}

    def offsets(self) -> Offsets:
        """Of a topic, what is read next."""
        return self._rows.offsets()

    def report(self) -> dict[str, Any]:
        """Nothing: the bar says how far it is."""
        return {}

    def close(self) -> None:
        """Give back files."""
        self.back.close()


def _of_learning(config: RunConfig) -> dict[str, Any]:
    """The resolved config without what only a join reads."""
    plain = resolved(config)
    return {**plain, "features": {key: value for key, value in plain["features"].items() if key != "lookup"}}
