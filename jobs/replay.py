"""`streamctr replay`: event files to a learned and judged model, from the newest snapshot to the end of the input."""

import time
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError

from connectors.files import find_files
from jobs.about import changes, environment
from jobs.console import Call, Result, exit_code_of, say
from jobs.interrupts import Alarm, Stop
from jobs.progress import Gauge, Progress
from jobs.rundir import RunDirectory, load_run, run_log
from jobs.runfile import RunConfig, config_diff, resolved
from jobs.summary import summary
from jobs.wiring import Limits, build
from streamctr.errors import ConfigError, SnapshotError
from streamctr.kernel import first_use
from streamctr.order import FIRST_MS
from streamctr.schema import instant_text, parse_instant_ms
from streamctr.snapshot import Snapshot, SnapshotStore


@dataclass(frozen=True, slots=True)
class Request:
    """What `replay` is asked for, as it was typed."""

    run: Path
    until: str | None = None
    frozen: str | None = None
    directory: Path | None = None
    fresh: bool = False


def replay(call: Call, request: Request) -> Result:
    """Run to the end of the input, to `until`, or to a signal; always leaves a last snapshot.

    Raises:
        StreamctrError: it cannot start or go on; what to do stands in it.
    """
    until_ms, frozen_ms = _moment("--until", request.until), _moment("--frozen", request.frozen)
    config = load_run(request.run, call.sets).config
    directory = RunDirectory.of(request.run, request.directory)
    if first_use():
        say("compiling kernels (first use, about half a minute)")
    with directory.owned():
        if request.fresh:
            directory.clear()
        with run_log(directory.path / "log.jsonl") as log, Stop() as stop:
            log.info("started", until=request.until, frozen=request.frozen, fresh=request.fresh)
            try:
                with closing(Run(config, directory, log, Limits(frozen_ms, until_ms))) as run:
                    result = run.to_the_end(stop)
            except Exception as error:
                with suppress(OSError):  # of a full disk, too
                    log.error("failed", error=f"{type(error).__name__}: {error}", exit_code=exit_code_of(error))
                raise
            log.info("ended", exit_code=stop.exit_code, signal=stop.name, **result["events"])
    call.show(*summary(result))
    return result, stop.exit_code


class Run:
    """One run of a pipeline in its directory: resumes, advances, takes snapshots, and says what came of it."""

    def __init__(self, config: RunConfig, directory: RunDirectory, log: Any, limits: Limits) -> None:
        self._config, self._directory, self._log, self._limits = config, directory, log, limits
        self._store = SnapshotStore(directory.snapshots, config.snapshots.keep)
        self._paths = find_files(config.files.paths, config.tree.names)
        self._pipeline = build(config, directory, self._paths, limits)
        self._name = ""
        self._ended, self._reached_ms = False, FIRST_MS
        self._saved_at = 0

    def close(self) -> None:
        """Give back files."""
        self._pipeline.close()

    def to_the_end(self, stop: Stop) -> dict[str, Any]:
        """What `replay --json` prints."""
        began = time.monotonic()
        pipeline, gauge = self._pipeline, Gauge(list(self._paths.values()))
        with Progress("replay", gauge.total) as progress, Alarm(self._config.snapshots.every) as alarm:
            for stage in (stage for stage, paths in self._paths.items() if not paths):
                progress.say(f"no file is of stage {stage}: it never happens in this run")
            self._resume(progress)
            self._directory.write_config(self._config)
            while not stop.asked:
                if not pipeline.advance():
                    self._finish()
                    break
                self._ended = self._ended and pipeline.events_read == self._saved_at  # more came behind the end
                progress.reach(gauge.read(pipeline.parts.source.positions()), f"{pipeline.events_read:,} events")
                if alarm.rang() or self._is_due():
                    self._save(ended=False)
            if stop.asked:
                progress.say(f"{stop.name}: taking a last snapshot")
            self._save_last()
        self._store.verify(self._name)
        return self._result(time.monotonic() - began)

    def _resume(self, progress: Progress) -> None:
        snapshot, refused = self._store.newest()
        for error in refused:
            progress.say(f"skipped, it does not verify: {error}")
            self._log.warning("snapshot skipped", error=str(error))
        if snapshot is None:
            if refused:
                progress.say("no snapshot verifies: starting from the beginning")
            self._forget_logs()
            return
        about = snapshot.manifest["about"]
        self._refuse_changes(snapshot.name, about)
        for change in changes(about["environment"], environment()):
            progress.say(f"since snapshot {snapshot.name}, {change}: the same bits as without a stop are not promised")
        self._restore(snapshot)
        progress.say(f"going on from snapshot {snapshot.name}, {about['events_read']:,} events read")
        self._log.info("resumed", snapshot=snapshot.name, events_read=about["events_read"])

    def _forget_logs(self) -> None:
        """What a run wrote that left no snapshot is written again."""
        parts = self._pipeline.parts
        for written in (parts.dead_letters, parts.metrics, parts.samples):
            if written is not None:
                written.truncate(0)

    def _restore(self, snapshot: Snapshot) -> None:
        try:
            self._pipeline.restore(snapshot.arrays)
        except KeyError as error:
            raise SnapshotError(
                f"snapshot {snapshot.name} lacks {error}: it was written by another version; use that one, or --fresh"
            ) from None
        self._name, self._saved_at = snapshot.name, self._pipeline.events_read
        self._ended, self._reached_ms = (snapshot.manifest["about"][key] for key in ("ended", "event_ms"))

    def _refuse_changes(self, name: str, about: Mapping[str, Any]) -> None:
        """A run is a function of its events and its config: a resume with another one would be neither run.

        Raises:
            ConfigError: something differs that may not, or the run is past `until` already.
        """
        different = config_diff(about["config"], resolved(self._config))
        before, now = about["frozen_ms"], self._limits.frozen_ms
        if before != now and min(ms for ms in (before, now) if ms is not None) < about["event_ms"]:
            was, is_now = ("unset" if ms is None else instant_text(ms) for ms in (before, now))
            different.append(f"--frozen: {was} is now {is_now}")
        until_ms = self._limits.until_ms
        if until_ms is not None and until_ms < about["event_ms"]:
            different.append(
                f"--until: {instant_text(until_ms)} lies before {instant_text(about['event_ms'])}, reached"
            )
        if different:
            lines = "\n".join(f"  {line}" for line in different)
            raise ConfigError(
                f"{self._directory.path} cannot go on from snapshot {name} with another config:\n{lines}\n"
                "take the change back, choose another directory with --run, or start anew with --fresh"
            )

    def _is_due(self) -> bool:
        every = self._config.snapshots.every_events
        return every is not None and self._pipeline.events_read // every > self._saved_at // every

    def _finish(self) -> None:
        """At the end of the input or at `until`, unless that is where the last run already was."""
        until_ms, pipeline = self._limits.until_ms, self._pipeline
        was_here = self._ended if until_ms is None else self._reached_ms >= until_ms
        if not (was_here and pipeline.events_read == self._saved_at):
            pipeline.finish()
            self._ended = pipeline.parts.orderer.all_ended and until_ms is None
            self._saved_at = -1

    def _save_last(self) -> None:
        if self._pipeline.events_read != self._saved_at or not self._name:
            self._save(self._ended)

    def _save(self, ended: bool) -> None:
        pipeline = self._pipeline
        about = {
            "events_read": pipeline.events_read,
            "steps": pipeline.parts.trainer.steps,
            "event_ms": self._released_ms(),
            "ended": ended,
            "frozen_ms": self._limits.frozen_ms,
            "environment": environment(),
            "config": resolved(self._config),
        }
        arrays = pipeline.state()
        finite = [name for name, array in arrays.items() if _is_weight(name, array)]
        try:
            self._name = self._store.save(pipeline.events_read, arrays, about, finite)
        except SafetensorError as error:
            raise OSError(f"{self._directory.snapshots}: {error}") from None
        self._saved_at = pipeline.events_read
        self._log.info("snapshot", name=self._name, events_read=pipeline.events_read, steps=about["steps"])

    def _released_ms(self) -> int:
        """Everything before this moment was released, and said."""
        return self._pipeline.parts.orderer.released_ms

    def _result(self, seconds: float) -> dict[str, Any]:
        pipeline = self._pipeline
        return {
            "events": pipeline.counts(),
            "roots": pipeline.roots(),
            **pipeline.parts.judge.summary(),
            "weights_sha256": pipeline.parts.trainer.weights_sha256(),
            "snapshot": self._name,
            "steps": pipeline.parts.trainer.steps,
            "seconds": round(seconds, 3),
            "run": str(self._directory.path),
        }


def _is_weight(name: str, array: Any) -> bool:
    return name.startswith("trainer/learner/") and np.issubdtype(array.dtype, np.floating)


def _moment(option: str, text: str | None) -> int | None:
    """Milliseconds of an option's time.

    Raises:
        ConfigError: it is not a moment.
    """
    try:
        return None if text is None else parse_instant_ms(text)
    except ValueError as error:
        raise ConfigError(f"{option} {error}") from None
