"""`streamctr join`: event files to the emission log on disk, which `learn` trains from as often as it likes."""

import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from jobs.console import Call, Result
from jobs.eventtask import EventTask, Inputs
from jobs.interrupts import Stop
from jobs.joined import JoinEnd, names_json
from jobs.rundir import RunDirectory, load_run
from jobs.runner import Place, Runner, in_directory, moment, refuse_snapshots_of
from jobs.summary import events_table
from jobs.wiring import Limits
from streamctr.snapshot import SnapshotStore


@dataclass(frozen=True, slots=True)
class Request:
    """What `join` is asked for, as it was typed."""

    run: Path
    until: str | None = None
    directory: Path | None = None
    fresh: bool = False


def join(call: Call, request: Request) -> Result:
    """Join to the end of the input, to `until`, or to a signal; what was said by then can be learned from.

    Raises:
        StreamctrError: it cannot start or go on; what to do stands in it.
    """
    limits = Limits(until_ms=moment("--until", request.until), joins_only=True)
    config = load_run(request.run, call.sets).config
    directory = RunDirectory.of(request.run, request.directory)
    store = SnapshotStore(directory.joined, config.snapshots.keep)

    def clear() -> None:
        if request.fresh:
            directory.clear()
        refuse_snapshots_of("replay", SnapshotStore(directory.snapshots, 1), directory)

    def work(log: Any, stop: Stop) -> dict[str, Any]:
        log.info("started", command="join", until=request.until, fresh=request.fresh)
        began = time.monotonic()
        with closing(EventTask(config, directory, Inputs.files(config), limits)) as task:
            runner = Runner(task, Place(directory, store, config.snapshots, log))
            name = runner.to_the_end(stop, started=lambda: directory.write_config(config))
            _joined(task).write(directory.samples)
            return {
                "events": task.pipeline.counts(),
                "roots": task.pipeline.roots(),
                "rows": task.rows,
                "samples": str(directory.samples),
                "snapshot": name,
                "seconds": round(time.monotonic() - began, 3),
                "run": str(directory.path),
            }

    result, exit_code = in_directory(directory, clear, work)
    call.show(*_summary(result))
    return result, exit_code


def _joined(task: EventTask) -> JoinEnd:
    return JoinEnd(
        rows=task.rows,
        newest_ms=task.pipeline.parts.orderer.newest_released_ms,
        ends=task.ends,
        events=task.pipeline.counts(),
        roots=task.pipeline.roots(),
        names=names_json(task.pipeline.parts.names),
        config=task.config,
    )


def _summary(result: dict[str, Any]) -> list[RenderableType]:
    roots = result["roots"]
    return [
        events_table(result["events"]),
        Text(f" roots     {roots['final']:,} final, {roots['open']:,} still open"),
        Text(f" samples   {result['rows']:,} rows in {result['samples']}"),
        Text(f"\nsnapshot {result['snapshot']} verified · next: streamctr learn {result['run']}"),
    ]
