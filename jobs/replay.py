"""`streamctr replay`: event files to a learned and judged model, from the newest snapshot to the end of the input."""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.console import Call, Result
from jobs.donor import Donor
from jobs.eventtask import EventTask, Inputs
from jobs.interrupts import Stop
from jobs.rundir import RunDirectory, load_run
from jobs.runfile import RunConfig
from jobs.runner import Place, Runner, in_directory, learned, moment, refuse_snapshots_of
from jobs.summary import summary
from jobs.wiring import Limits
from streamctr.snapshot import SnapshotStore


@dataclass(frozen=True, slots=True)
class Request:
    """What `replay` is asked for, as it was typed."""

    run: Path
    until: str | None = None
    frozen: str | None = None
    directory: Path | None = None
    fresh: bool = False
    start: Path | None = None
    """A snapshot, or a run directory, whose learner a new run starts from."""


def replay(call: Call, request: Request) -> Result:
    """Run to the end of the input, to `until`, or to a signal; always leaves a last snapshot.

    Raises:
        StreamctrError: it cannot start or go on; what to do stands in it.
    """
    return run(call, request, lambda config, _: Inputs.files(config))


def run(call: Call, request: Request, open_inputs: Callable[[RunConfig, Any], Inputs]) -> Result:
    """A whole pipeline over any events; `open_inputs` is called with the log when the run directory is owned.

    Raises:
        StreamctrError: as `replay`.
    """
    limits = Limits(frozen_ms=moment("--frozen", request.frozen), until_ms=moment("--until", request.until))
    config = load_run(request.run, call.sets).config
    directory = RunDirectory.of(request.run, request.directory)
    donor = None if request.start is None else Donor.load(request.start, config)  # before --fresh may delete it
    store = SnapshotStore(directory.snapshots, config.snapshots.keep)

    def clear() -> None:
        if request.fresh:
            directory.clear()
        refuse_snapshots_of("join", SnapshotStore(directory.joined, 1), directory)
        if donor is not None:
            donor.refuse_begun(directory)

    def work(log: Any, stop: Stop) -> dict[str, Any]:
        log.info("started", until=request.until, frozen=request.frozen, fresh=request.fresh)
        began = time.monotonic()
        inputs = open_inputs(config, log)
        with closing(EventTask(config, directory, inputs, limits, donor)) as task:
            runner = Runner(task, Place(directory, store, config.snapshots, log))
            name = runner.to_the_end(stop, started=lambda: directory.write_config(config))
            return {
                "events": task.pipeline.counts(),
                "roots": task.pipeline.roots(),
                **learned(task.back, name),
                **({"gaps": inputs.gaps} if inputs.gaps else {}),
                "seconds": round(time.monotonic() - began, 3),
                "run": str(directory.path),
            }

    result, exit_code = in_directory(directory, clear, work)
    call.show(*summary(result))
    return result, exit_code
