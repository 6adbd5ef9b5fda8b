"""Event files through a pipeline, as `replay` and `join` run it: with and without its back half."""

from dataclasses import dataclass, field
from typing import Any

from connectors.files import FileSource, find_files
from jobs.console import say
from jobs.donor import Donor
from jobs.joined import front_config
from jobs.progress import Gauge
from jobs.rundir import RunDirectory
from jobs.runfile import RunConfig, resolved
from jobs.runner import About, Say, moved_freezing
from jobs.wiring import Limits, build
from streamctr.pipeline import BackHalf
from streamctr.ports import Arrays, Source
from streamctr.schema import instant_text


@dataclass(frozen=True, slots=True)
class Inputs:
    """Where the events come from, and by which command."""

    command: str
    source: Source
    gauge: Gauge | None
    """How far files were read; None for topics."""
    gaps: list[str] = field(default_factory=list)
    """In words, messages that were passed over because they are gone; the source adds to it."""

    @classmethod
    def files(cls, config: RunConfig) -> "Inputs":
        """The event files of a run file.

        Raises:
            DataError: they are not there, or not what the run file says.
        """
        partitions = find_files(config.files, config.tree, config.stage is not None)
        for stage in (config.tree.names[part.stage] for part in partitions if not part.paths):
            say(f"no file is of stage {stage}: it never happens in this run")
        source = FileSource(partitions, config.files, config.csv)
        return cls("replay", source, Gauge(partitions, config.files))


class EventTask:
    """A `Task` that takes events to the end of the input, or to `until`."""

    unit = "events"

    def __init__(
        self, config: RunConfig, directory: RunDirectory, inputs: Inputs, limits: Limits, donor: Donor | None = None
    ) -> None:
        self.command = "join" if limits.joins_only else inputs.command
        self.pipeline = build(config, directory, inputs.source, limits)
        self.ends: list[list[int]] = []
        """Rows that were said, and the event time, at each end of the input so far."""
        self._gauge = inputs.gauge
        self._config = front_config(config) if limits.joins_only else resolved(config)
        self._limits, self._donor = limits, donor
        self._from: dict[str, Any] | None = None

    @property
    def taken(self) -> int:
        """Events read."""
        return self.pipeline.events_read

    @property
    def rows(self) -> int:
        """Rows of the emission log so far."""
        return self.pipeline.parts.joiner.rows

    @property
    def back(self) -> BackHalf:
        """The back half, which a join has not."""
        assert self.pipeline.parts.back is not None
        return self.pipeline.parts.back

    @property
    def config(self) -> dict[str, Any]:
        """All of it, or for a join what the front half reads."""
        return self._config

    @property
    def total(self) -> int:
        """Bytes of the files; 0 where that is not known."""
        return 0 if self._gauge is None else self._gauge.total

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

    def restore(self, arrays: Arrays, about: About) -> None:
        """Go on from a snapshot."""
        self.pipeline.restore(arrays)
        self.ends, self._from = list(about["ends"]), about["from"]

    def refused(self, about: About) -> list[str]:
        """A moment of freezing that was moved, and one to stop at that is past."""
        lines, until_ms = moved_freezing(about, self._limits.frozen_ms), self._limits.until_ms
        if until_ms is not None and until_ms < about["event_ms"]:
            lines.append(f"--until: {instant_text(until_ms)} lies before {instant_text(about['event_ms'])}, reached")
        return lines

    def advance(self, tell: Say) -> bool:
        """Take one block through everything."""
        return self.pipeline.advance()

    def is_over(self, about: About) -> bool:
        """At the end of the input, or where `until` is."""
        until_ms = self._limits.until_ms
        return bool(about["ended"] if until_ms is None else about["event_ms"] >= until_ms)

    def finish(self) -> None:
        """Fire what is due."""
        if self.pipeline.finish():
            self.ends.append([self.rows, self.pipeline.parts.orderer.newest_released_ms])

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
        }

    def state(self) -> Arrays:
        """Of the pipeline."""
        return self.pipeline.state()

    def close(self) -> None:
        """Give back files."""
        self.pipeline.close()
