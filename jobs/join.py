"""`streamctr join`: events to the emission log, as files that `learn` reads often, or as a topic that it follows."""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

from rich.console import RenderableType
from rich.text import Text

from connectors.kafka.config import KafkaConfig
from jobs.console import Call, Result
from jobs.eventtask import EventTask, Inputs
from jobs.interrupts import Stop
from jobs.joined import end_of
from jobs.owner import Owner, fenced, sole
from jobs.rundir import RunDirectory, load_run
from jobs.runfile import RunConfig
from jobs.runner import Place, Runner, in_directory, moment, refuse_snapshots_of
from jobs.summary import events_table
from jobs.wiring import Limits, Outputs
from streamctr.errors import ConfigError
from streamctr.snapshot import SnapshotStore

_TO_A_TOPIC: Final = "kafka.samples: TOPIC"


@dataclass(frozen=True, slots=True)
class Request:
    """What `join` is asked for, as it was typed."""

    run: Path
    until: str | None = None
    directory: Path | None = None
    fresh: bool = False
    on_gap: Literal["stop", "earliest", "latest"] = "stop"
    """Where to go on when messages that are next are gone."""
    partitions: int = 4
    """Of a samples topic that is not there yet."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """How a join differs by where its samples go."""

    samples: str
    """Where, in words."""
    own: Callable[[], Any]
    open: Callable[[Owner, Any], EventTask]
    ended: Callable[[EventTask], None]
    fresh: Callable[[], None]
    """Whether all may be said again from the start."""


def join(call: Call, request: Request) -> Result:
    """Join to the end of the input, to `until`, or to a signal; what was said by then can be learned from.

    Raises:
        StreamctrError: it cannot start or go on; what to do stands in it.
    """
    config = load_run(request.run, call.sets).config
    directory = RunDirectory.of(request.run, request.directory)
    by_topic = config.kafka is not None and config.kafka.samples is not None
    kind = (_of_topics if by_topic else _of_files)(config, directory, request)

    def clear() -> None:
        if request.fresh:
            kind.fresh()
            directory.clear()
        for command in ("replay", "consume"):
            refuse_snapshots_of(command, SnapshotStore(directory.snapshots, 1), directory)

    def work(owner: Owner, log: Any, stop: Stop) -> dict[str, Any]:
        log.info("started", command="join", until=request.until, fresh=request.fresh, epoch=owner.epoch)
        began = time.monotonic()
        with closing(kind.open(owner, log)) as task:
            store = SnapshotStore(directory.joined, config.snapshots.keep, owner.epoch)
            runner = Runner(task, Place(directory, store, config.snapshots, log, owner))
            name = runner.to_the_end(stop, started=lambda: directory.write_config(config))
            kind.ended(task)
            return {
                "events": task.pipeline.counts(),
                "roots": task.pipeline.roots(),
                "rows": task.rows,
                "samples": kind.samples,
                "snapshot": name,
                **task.told(),
                "seconds": round(time.monotonic() - began, 3),
                "run": str(directory.path),
            }

    result, exit_code = in_directory(directory, kind.own, clear, work)
    call.show(*_summary(result))
    return result, exit_code


def _of_files(config: RunConfig, directory: RunDirectory, request: Request) -> _Kind:
    if config.files is None and config.kafka is not None:
        raise ConfigError(f"{request.run} names no event files; add files: PATHS, or join its topics: {_TO_A_TOPIC}")
    if request.until == "end":
        raise ConfigError(f"--until end goes with topics, files end by themselves; leave it out, or set {_TO_A_TOPIC}")
    limits = Limits(until_ms=moment("--until", request.until), joins_only=True)

    def opened(owner: Owner, log: Any) -> EventTask:
        return EventTask(config, Inputs.files(config), Outputs.files(config, directory, joins_only=True), limits)

    return _Kind(
        samples=str(directory.samples),
        own=lambda: sole(directory),
        open=opened,
        ended=lambda task: end_of(task).write(directory.samples),
        fresh=lambda: None,
    )


def _of_topics(config: RunConfig, directory: RunDirectory, request: Request) -> _Kind:
    from jobs.consume import kafka_of
    from jobs.jointopic import open_task, refuse_published  # loads the client

    kafka: KafkaConfig = kafka_of(config, request.run)
    return _Kind(
        samples=f"topic {kafka.samples}",
        own=lambda: fenced(directory, kafka, "join"),
        open=partial(open_task, config, directory, request),
        ended=lambda task: None,
        fresh=lambda: refuse_published(kafka, request.partitions),
    )


def _summary(result: dict[str, Any]) -> list[RenderableType]:
    roots = result["roots"]
    return [
        events_table(result["events"]),
        Text(f" roots     {roots['final']:,} final, {roots['open']:,} still open"),
        Text(f" samples   {result['rows']:,} rows in {result['samples']}"),
        Text(f"\nsnapshot {result['snapshot']} verified · next: streamctr learn {result['run']}"),
    ]
