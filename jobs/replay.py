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
from jobs.owner import Own, Owner, sole
from jobs.rundir import RunDirectory, load_run
from jobs.runfile import RunConfig
from jobs.runner import Place, Runner, in_directory, learned, moment, refuse_snapshots_of
from jobs.summary import summary
from jobs.wiring import Limits, Outputs
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
    config = load_run(request.run, call.sets).config
    directory = RunDirectory.of(request.run, request.directory)

    def open_files(owner: Owner, log: Any) -> tuple[Inputs, Outputs]:
        return Inputs.files(config), Outputs.files(config, directory)

    run = EventRun(config, directory, request, moment("--until", request.until))
    return run.to_the_end(call, lambda: sole(directory), open_files)


@dataclass(frozen=True, slots=True)
class EventRun:
    """A whole pipeline over events from anywhere, in its run directory."""

    config: RunConfig
    directory: RunDirectory
    request: Request
    until_ms: int | None

    def to_the_end(self, call: Call, own: Own, opened: Callable[[Owner, Any], tuple[Inputs, Outputs]]) -> Result:
        """Run it; `opened` gives what it reads and writes when the run directory is owned.

        Raises:
            StreamctrError: as `replay`.
        """
        config, directory, request = self.config, self.directory, self.request
        limits = Limits(frozen_ms=moment("--frozen", request.frozen), until_ms=self.until_ms)
        donor = None if request.start is None else Donor.load(request.start, config)  # before --fresh may delete it

        def clear() -> None:
            if request.fresh:
                directory.clear()
            refuse_snapshots_of("join", SnapshotStore(directory.joined, 1), directory)
            if donor is not None:
                donor.refuse_begun(directory)

        def work(owner: Owner, log: Any, stop: Stop) -> dict[str, Any]:
            command = "consume" if owner.fence is not None else "replay"
            asked = {"until": request.until, "frozen": request.frozen, "fresh": request.fresh}
            log.info("started", command=command, **asked, epoch=owner.epoch)
            began = time.monotonic()
            inputs, outputs = opened(owner, log)
            with closing(EventTask(config, inputs, outputs, limits, donor)) as task:
                store = SnapshotStore(directory.snapshots, config.snapshots.keep, owner.epoch)
                runner = Runner(task, Place(directory, store, config.snapshots, log, owner))
                name = runner.to_the_end(stop, started=lambda: directory.write_config(config))
                return {
                    "events": task.pipeline.counts(),
                    "roots": task.pipeline.roots(),
                    **learned(task.back, name),
                    **task.told(),
                    "seconds": round(time.monotonic() - began, 3),
                    "run": str(directory.path),
                }

        result, exit_code = in_directory(directory, own, clear, work)
        call.show(*summary(result))
        return result, exit_code
