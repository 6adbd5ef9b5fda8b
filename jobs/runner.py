"""What `replay`, `join` and `learn` do alike: own the directory, go on from a snapshot, advance, say how it ended."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

from jobs.about import changes, environment
from jobs.console import exit_code_of, say
from jobs.interrupts import Alarm, Stop
from jobs.lookups import without_later_versions
from jobs.owner import Own, Owner
from jobs.progress import Progress
from jobs.rundir import RunDirectory, run_log
from jobs.runfile import config_diff
from jobs.saving import Moment, Saver
from jobs.task import About, Task
from streamctr.errors import (
    ConfigError,
    ContactError,
    DiskFullError,
    LostError,
    SnapshotError,
    StreamctrError,
    room_for,
)
from streamctr.kernel import first_use
from streamctr.pipeline import Back
from streamctr.ports import unpack_text
from streamctr.schema import instant_text, parse_instant_ms
from streamctr.snapshot import Snapshot, SnapshotsConfig, SnapshotStore


@dataclass(frozen=True, slots=True)
class Place:
    """Where a task leaves what it remembers."""

    directory: RunDirectory
    store: SnapshotStore
    every: SnapshotsConfig
    log: Any
    """Of what happened, with the wall time."""
    owner: Owner


class Runner:
    """Drives one task in its place, from its newest snapshot on."""

    def __init__(self, task: Task, place: Place) -> None:
        self._task, self._place = task, place
        self._saver = Saver(place.store, place.owner)
        self._name, self._saved_at = "", 0  # of what counts
        self._paused_s = 0.0  # for what was taken last
        self._wanted = False  # a snapshot is due, and cannot be taken yet
        self._about: About = {}
        self._again_s: float | None = None  # when to try again what could not be committed
        self._over = False  # behind `finish`
        self._reported_s = time.monotonic()

    def to_the_end(self, stop: Stop, started: Callable[[], None]) -> str:
        """Run to the end or to a signal and leave a last snapshot; its name.

        Args:
            stop: asked between any two blocks.
            started: called once it is known that the run can go on.

        Raises:
            StreamctrError: it cannot go on.
        """
        task = self._task
        every_ms = self._place.every.every
        with closing(self._saver), Progress(task.command, task.total) as progress, Alarm(every_ms) as alarm:
            self._resume(progress)
            started()
            with self._counting(progress):
                while not stop.asked and self._advance(progress):
                    self._save_when_due(alarm, progress)
                    self._report()
                if stop.asked:
                    progress.say(f"{stop.name}: taking a last snapshot")
                self._leave(stop, progress)
        if self._name:
            self._place.store.verify(self._name)
        return self._name

    @contextmanager
    def _counting(self, progress: Progress) -> Iterator[None]:
        """Whatever ends the run: a snapshot that was taken before counts, if it can."""
        try:
            yield
        except BaseException:
            with suppress(StreamctrError, OSError):  # the other one says why it ends
                self._count(progress)
            raise

    def _advance(self, progress: Progress) -> bool:
        """Take a block; without one, finish, unless that is where the last run already was."""
        task = self._task
        if task.advance(progress.say):
            progress.reach(task.done, f"{task.taken:,} {task.unit}")
            return True
        if not (self._name and task.is_over(self._about) and task.taken == self._saved_at):
            task.finish()
            self._over = True
            self._save(progress)
        return False

    def _save_when_due(self, alarm: Alarm, progress: Progress) -> None:
        """Have a snapshot count that has been written, and take the next one; one that comes too soon waits."""
        if self._saver.written:
            self._count(progress)
        self._wanted = alarm.rang() or self._wanted
        if (self._wanted or self._is_due()) and not self._saver.busy:
            self._wanted = False
            self._save_news(progress)

    def _leave(self, stop: Stop, progress: Progress) -> None:
        """See that a last snapshot is there; for brokers that are silent it waits, until a signal."""
        self._count(progress)
        while self._again_s is not None or self._task.taken != self._saved_at or not self._name:
            self._save(progress)
            if self._again_s is None or stop.asked:
                break
            while time.monotonic() < self._again_s and not stop.asked:
                time.sleep(_LOOK_S)
        self._saver.rest()

    def _resume(self, progress: Progress) -> None:
        snapshot, refused = self._place.store.newest()
        for error in refused:
            progress.say(f"skipped, it does not verify: {error}")
            self._place.log.warning("snapshot skipped", error=str(error))
        if snapshot is None:
            if refused:
                progress.say("no snapshot verifies: starting from the beginning")
            self._task.begin(progress.say)
            return
        about = snapshot.manifest["about"]
        self._refuse_changes(snapshot.name, about)
        for change in changes(about["environment"], environment()):
            progress.say(f"since snapshot {snapshot.name}, {change}: the same bits as without a stop are not promised")
        self._restore(snapshot)
        progress.say(f"going on from snapshot {snapshot.name}, {self._saved_at:,} {self._task.unit} read")
        self._place.log.info("resumed", snapshot=snapshot.name, taken=self._saved_at)

    def _restore(self, snapshot: Snapshot) -> None:
        about = snapshot.manifest["about"]
        try:
            self._task.restore(snapshot.arrays, about)
        except KeyError as error:
            raise SnapshotError(
                f"snapshot {snapshot.name} lacks {error}: it was written by another version; use that one, or --fresh"
            ) from None
        self._name, self._about, self._saved_at = snapshot.name, about, self._task.taken

    def _refuse_changes(self, name: str, about: About) -> None:
        """A run is a function of its input and its config: a resume with another one would be neither run.

        Raises:
            ConfigError: another command's snapshot, or something differs that may not.
        """
        path, command = self._place.directory.path, about.get("command", "replay")
        if command not in self._task.follows:
            raise ConfigError(_NOT_ITS_OWN.format(path=path, command=command))
        before, now = (
            without_later_versions(plain, about["event_ms"]) for plain in (about["config"], self._task.config)
        )
        different = [*config_diff(before, now), *self._task.refused(about)]
        if different:
            lines = "\n".join(f"  {line}" for line in different)
            raise ConfigError(
                f"{path} cannot go on from snapshot {name} with another config:\n{lines}\n"
                "take the change back, choose another directory with --run, or start anew with --fresh"
            )

    def _is_due(self) -> bool:
        if self._again_s is not None:
            return time.monotonic() >= self._again_s
        every = self._place.every.every_events
        return every is not None and self._task.taken // every > self._saved_at // every

    def _report(self) -> None:
        now_s = time.monotonic()
        if now_s - self._reported_s >= _REPORT_S:
            self._reported_s = now_s
            if said := self._task.report():
                self._place.log.info("going on", taken=self._task.taken, **said)

    def _save_news(self, progress: Progress) -> None:
        """Take a snapshot; where nothing came since the last one, only ask whether the run is still one's own."""
        if self._task.taken != self._saved_at or not self._name:
            self._take(progress)
            return
        try:
            self._place.owner.commit(self._task.offsets())
        except LostError:
            raise
        except ContactError as error:
            self._place.log.warning("no answer", error=str(error))

    def _take(self, progress: Progress) -> None:
        """Have a snapshot of this moment written beside what follows."""
        began_s = time.monotonic()
        with self._unless_silent(progress):
            if self._saver.take(self._moment()):
                self._paused_s = time.monotonic() - began_s
            else:
                self._wanted = True

    def _count(self, progress: Progress) -> None:
        """Have a snapshot count that was taken, as soon as it is written."""
        if self._saver.writing:
            with self._unless_silent(progress):
                self._counts(*self._saver.count())

    def _save(self, progress: Progress) -> None:
        """Leave a snapshot of this moment before anything follows."""
        self._count(progress)
        began_s = time.monotonic()
        with self._unless_silent(progress):
            moment = self._moment()
            name = self._saver.save(moment)
            self._paused_s = time.monotonic() - began_s
            self._counts(name, moment)

    def _moment(self) -> Moment:
        task = self._task
        arrays = task.state()  # with what waits to be sent acknowledged
        about = {
            "command": task.command,
            **task.about(self._over),
            "logs": {n.removeprefix("size."): unpack_text(a) for n, a in arrays.items() if n.startswith("size.")},
            "environment": environment(),
            "config": task.config,
        }
        return Moment(task.taken, arrays, deepcopy(about), task.offsets())  # lists in it may grow

    def _counts(self, name: str, moment: Moment) -> None:
        self._name, self._about, self._saved_at, self._again_s = name, moment.about, moment.taken, None
        said = {"name": name, "taken": moment.taken, "steps": moment.about["steps"]}
        self._place.log.info("snapshot", **said, paused_ms=round(1000 * self._paused_s))

    @contextmanager
    def _unless_silent(self, progress: Progress) -> Iterator[None]:
        """Where brokers are silent who must say that a snapshot counts, go on without it for a while."""
        try:
            yield
        except LostError:  # no snapshot would count any more, and what is learned without one is learned again
            raise
        except ContactError as error:
            self._again_s = time.monotonic() + _AGAIN_S
            progress.say(f"no snapshot for now: {error}")
            self._place.log.warning("no snapshot for now", error=str(error))


_AGAIN_S: Final = 15.0
_LOOK_S: Final = 0.2
_REPORT_S: Final = 30.0
_NOT_ITS_OWN = (
    "{path} holds snapshots of {command}: go on with streamctr {command}, choose another directory with --run, "
    "or start anew with --fresh"
)


def refuse_snapshots_of(command: str, store: SnapshotStore, directory: RunDirectory) -> None:
    """Another command's snapshots in the same directory: its outputs would be overwritten.

    Raises:
        ConfigError: `store` holds such snapshots.
    """
    names = store.names()
    if names and store.manifest(names[-1])["about"].get("command", "replay") == command:
        raise ConfigError(_NOT_ITS_OWN.format(path=directory.path, command=command))


def in_directory(
    directory: RunDirectory,
    own: Own,
    clear: Callable[[], None],
    work: Callable[[Owner, Any, Stop], dict[str, Any]],
) -> tuple[dict[str, Any], int]:
    """Own a run directory, `clear` it, and work in it with a log; signals only ask to stop.

    Returns:
        What the work found, and the exit code.
    """
    if first_use():
        say("compiling kernels (first use, about half a minute)")
    with own() as owner, room_for(directory.path):
        clear()
        with run_log(directory.path / "log.jsonl") as log, Stop() as stop:
            try:
                result = work(owner, log, stop)
            except Exception as error:
                with suppress(OSError, DiskFullError):  # of a full disk, too
                    log.error("failed", error=f"{type(error).__name__}: {error}", exit_code=exit_code_of(error))
                raise
            log.info("ended", exit_code=stop.exit_code, signal=stop.name, **result["events"])
    return result, stop.exit_code


def learned(back: Back, snapshot: str) -> dict[str, Any]:
    """What a run has judged and learned, as `--json` prints it."""
    return {
        **back.judge.summary(),
        "weights_sha256": back.trainer.weights_sha256(),
        "snapshot": snapshot,
        "steps": back.trainer.steps,
    }


def moment(option: str, text: str | None) -> int | None:
    """Milliseconds of an option's time.

    Raises:
        ConfigError: it is not a moment.
    """
    try:
        return None if text is None else parse_instant_ms(text)
    except ValueError as error:
        raise ConfigError(f"{option} {error}") from None


def moved_freezing(about: About, frozen_ms: int | None) -> list[str]:
    """That `--frozen` was moved behind what was learned, or not to be, before it."""
    before = about["frozen_ms"]
    if before == frozen_ms or min(ms for ms in (before, frozen_ms) if ms is not None) >= about["event_ms"]:
        return []
    was, is_now = ("unset" if ms is None else instant_text(ms) for ms in (before, frozen_ms))
    return [f"--frozen: {was} is now {is_now}"]
