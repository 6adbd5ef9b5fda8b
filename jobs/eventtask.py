"""Event files through a pipeline, as `replay` and `join` run it: with and without its back half."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from connectors.files import FileSource, find_files
from connectors.logs import JsonLines
from jobs.console import say
from jobs.donor import Donor
from jobs.joined import front_config
from jobs.lag import Watched, report_of
from jobs.owner import Offsets
from jobs.progress import Gauge
from jobs.runfile import RunConfig, resolved
from jobs.runner import moved_freezing
from jobs.task import About, Say
from jobs.wiring import Limits, Outputs, build
from streamctr.pipeline import Back
from streamctr.ports import Arrays, Source
from streamctr.schema import instant_text

if TYPE_CHECKING:
    from connectors.kafka.source import KafkaSource


@dataclass(frozen=True, slots=True)
class Inputs:
    """Where the events come from."""

    source: Source
    gauge: Gauge | None = None
    """How far files were read; None for topics."""
    topics: "KafkaSource | None" = None
    """The source, where it reads topics."""
    total: int = 0
    """Messages of topics that end; 0 where that is not known."""

    @classmethod
    def files(cls, config: RunConfig) -> "Inputs":
        """The event files of a run file.

        Raises:
            DataError: they are not there, or not what the run file says.
        """
        partitions = find_files(config.event_files, config.tree, config.stage is not None)
        for stage in (config.tree.names[part.stage] for part in partitions if not part.paths):
            say(f"no file is of stage {stage}: it never happens in this run")
        source = FileSource(partitions, config.event_files, config.csv)
        return cls(source, Gauge(partitions, config.event_files))


class Follower(Protocol):
    """Keeps step with a pipeline: what publishes its samples while it runs."""

    def resumed(self) -> None:
        """It begins, or goes on from a snapshot."""
        ...

    def advanced(self) -> None:
        """It took a block."""
        ...

    def finished(self) -> None:
        """No more is to come for now."""
        ...


class EventTask:
    """A `Task` that takes events to the end of the input, or to `until`."""

    unit = "events"

    def __init__(
        self, config: RunConfig, inputs: Inputs, outputs: Outputs, limits: Limits, donor: Donor | None = None
    ) -> None:
        read = "replay" if inputs.topics is None else "consume"
        self.command = "join" if limits.joins_only else read
        self.follows: tuple[str, ...] = ("consume", "replay") if self.command == "consume" else (self.command,)
        self._topics, self._gauge, self._total = inputs.topics, inputs.gauge, inputs.total
        self.pipeline = build(config, inputs.source, self._watched(outputs), limits)
        self.ends: list[list[int]] = []
        """Rows that were said, and the event time, at each end of the input so far."""
        self.follower: Follower | None = None
        self._config = front_config(config) if limits.joins_only else resolved(config)
        self._lateness_ms, self._limits, self._donor = config.lateness, limits, donor
        self._from: dict[str, Any] | None = None

    def _watched(self, outputs: Outputs) -> Outputs:
        """With what only topics have to say in each line of figures."""
        return outputs if self._topics is None else replace(outputs, metrics=Watched(outputs.metrics, self.report))

    @property
    def taken(self) -> int:
        """Events read."""
        return self.pipeline.events_read

    @property
    def rows(self) -> int:
        """Rows of the emission log so far."""
        return self.pipeline.parts.joiner.rows

    @property
    def back(self) -> Back:
        """The back half, which a join has not."""
        assert self.pipeline.parts.back is not None
        return self.pipeline.parts.back

    @property
    def config(self) -> dict[str, Any]:
        """All of it, or for a join what the front half reads."""
        return self._config

    @property
    def total(self) -> int:
        """Bytes of the files, or messages; 0 where that is not known."""
        return self._total if self._gauge is None else self._gauge.total

    @property
    def done(self) -> int:
        """Bytes read; events, where there are no files."""
        gauge = self._gauge
        return self.taken if gauge is None else gauge.read(self.pipeline.parts.source.positions())

    def begin(self, tell: Say) -> None:
        """Forget logs, and start from the donor's learner."""
        self.pipeline.forget()
        if self._donor is not None:
            self._from = self._donor.give(self.back.trainer.learner)
            tell(f"starting from the learner of {self._donor.snapshot}")
        if self.follower is not None:
            self.follower.resumed()

    def restore(self, arrays: Arrays, about: About) -> None:
        """Go on from a snapshot; topics behind files from its watermark on."""
        if self._topics is not None and about["command"] == "replay":
            self._topics.start_at(about["event_ms"] - self._lateness_ms)
            self.pipeline.splice(arrays)
        else:
            self.pipeline.restore(arrays)
        self.ends, self._from = list(about["ends"]), about["from"]
        if self.follower is not None:
            self.follower.resumed()

    def refused(self, about: About) -> list[str]:
        """A moment of freezing that was moved, one to stop at that is past, and other places of a join's events."""
        lines, until_ms = moved_freezing(about, self._limits.frozen_ms), self._limits.until_ms
        if until_ms is not None and until_ms < about["event_ms"]:
            lines.append(f"--until: {instant_text(until_ms)} lies before {instant_text(about['event_ms'])}, reached")
        from_topics = self._topics is not None
        if self.command == "join" and about.get("topics", from_topics) != from_topics:
            was, now = ("files", "topics") if from_topics else ("topics", "files")
            lines.append(f"kafka.samples: events came from {was} and come from {now} now")
        return lines

    def advance(self, tell: Say) -> bool:
        """Take one block through everything."""
        went = self.pipeline.advance()
        if went and self.follower is not None:
            self.follower.advanced()
        return went

    def is_over(self, about: About) -> bool:
        """At the end of the input, or where `until` is."""
        until_ms = self._limits.until_ms
        return bool(about["ended"] if until_ms is None else about["event_ms"] >= until_ms)

    def finish(self) -> None:
        """Fire what is due."""
        if self.pipeline.finish():
            self.ends.append([self.rows, self.pipeline.parts.orderer.newest_released_ms])
        if self.follower is not None:
            self.follower.finished()

    def about(self, over: bool) -> dict[str, Any]:
        """Where it is; `ended` at the end of the input, not at `until`."""
        orderer, back = self.pipeline.parts.orderer, self.pipeline.parts.back
        return {
            "events_read": self.taken,
            "rows": self.rows,
            "steps": 0 if back is None else back.trainer.steps,
            "event_ms": orderer.released_ms,  # everything before this moment was released, and said
            "ended": over and orderer.all_ended and self._limits.until_ms is None,
            "ends": self.ends,
            "frozen_ms": self._limits.frozen_ms,
            "from": self._from,
            "topics": self._topics is not None,
        }

    def state(self) -> Arrays:
        """Of the pipeline."""
        return self.pipeline.state()

    def offsets(self) -> Offsets:
        """Of topics, what is read next."""
        return {} if self._topics is None else {lag.place: lag.next for lag in self._topics.lag()}

    def report(self) -> dict[str, Any]:
        """How far topics were read, and event time with them."""
        if self._topics is None:
            return {}
        parts = self.pipeline.parts
        said = report_of(self._topics.lag(), parts.orderer, parts.decoder.rejected_times)
        letters = parts.dead_letters
        dropped_bytes = letters.dropped_bytes if isinstance(letters, JsonLines) else 0
        return said | ({"dead_letters_dropped_bytes": dropped_bytes} if dropped_bytes else {})

    def told(self) -> dict[str, Any]:
        """What `--json` prints of topics: how far they were read, and messages that were passed over."""
        gaps = [] if self._topics is None else self._topics.gaps
        return self.report() | ({"gaps": gaps} if gaps else {})

    def close(self) -> None:
        """Give back files."""
        self.pipeline.close()
