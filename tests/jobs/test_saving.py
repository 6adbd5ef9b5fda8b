"""Snapshots that are written while the run goes on: of which moment they are, when they count, what ends a run."""

import threading
import time
from types import SimpleNamespace

import numpy as np
import orjson
import pytest

from jobs import runner
from jobs.owner import Owner
from jobs.rundir import RunDirectory, run_log
from jobs.runner import Place, Runner
from streamctr.errors import ContactError, FencedError, NonFiniteError, SnapshotError
from streamctr.snapshot import SnapshotsConfig, SnapshotStore, staging, store

WAIT_S = 20
MANY = 10**9
GOES_ON = SimpleNamespace(asked=False, name="")


class Counting:
    """A task that counts blocks up to `total` in an array that it changes in place; `at` does more at some of them.

    It ends when it has had all its blocks, or when `enough` says so; `quiet` ones bring nothing.
    """

    command, unit, follows = "count", "blocks", ("count",)

    def __init__(self, total, quiet=0, at=None, enough=lambda: False):
        self.total, self.left, self.at, self._enough = total, total + quiet, at or {}, enough
        self.numbers = np.zeros(1000)
        self.config, self.blocks = {"features": {}}, []
        self._until = time.monotonic() + WAIT_S

    @property
    def taken(self):
        return int(self.numbers[0])

    done = taken

    def begin(self, tell):
        self.numbers[:] = 0

    def restore(self, arrays, about):
        self.numbers[:] = arrays["numbers"]

    def refused(self, about):
        return []

    def advance(self, tell):
        assert time.monotonic() < self._until
        if self.left == 0 or self._enough():
            return False
        self.left -= 1
        if self.taken < self.total:
            self.numbers += 1
            self.blocks.append(self.taken)
        self.at.get(self.taken, lambda: None)()
        return True

    def is_over(self, about):
        return self.taken == self.total

    def finish(self):
        self.numbers[-1] = -1

    def about(self, over):
        return {"steps": self.taken, "event_ms": 0, "blocks": self.blocks}

    def state(self):
        return {"numbers": self.numbers, "trainer/learner/weights": self.numbers[1:2]}

    def offsets(self):
        return {("topic", 0): self.taken}

    def report(self):
        return {}


class Run:
    """A runner of such a task in a folder; `commits` are the offsets that its owner was asked to commit."""

    def __init__(self, folder, every=1, every_ms=0, errors=()):
        self.commits, self._errors = [], list(errors)
        self.store = SnapshotStore(folder / "snapshots", keep=100)
        self._every = SnapshotsConfig(every=every_ms, every_events=every)
        self.folder = folder

    def _commit(self, offsets):
        self.commits.append(offsets["topic", 0])
        if self._errors and (error := self._errors.pop(0)):
            raise error

    def to_the_end(self, task, stop=GOES_ON):
        with run_log(self.folder / "log.jsonl") as log:
            place = Place(RunDirectory(self.folder), self.store, self._every, log, Owner(0, self._commit))
            return Runner(task, place).to_the_end(stop, lambda: None)

    def logged(self, event):
        lines = map(orjson.loads, (self.folder / "log.jsonl").read_bytes().splitlines())
        return [line for line in lines if line["event"] == event]

    def saved(self):
        """By name, all that the snapshots hold; every value but the last is how many blocks were taken."""
        return {name: self.store.load(name).arrays["numbers"].tolist() for name in self.store.names()}


class Gate:
    """Holds the writing of the first snapshot until it is opened."""

    def __init__(self, monkeypatch):
        self.reached, self._opened, self._save = threading.Event(), threading.Event(), store.save_file
        monkeypatch.setattr(store, "save_file", self._held)

    def open(self):
        assert self.reached.wait(WAIT_S)
        self._opened.set()

    def _held(self, arrays, path):
        self.reached.set()
        assert self._opened.wait(WAIT_S)
        return self._save(arrays, path)


def taken_at(name):
    return int(name[:12])  # two of the same may be there


@pytest.fixture(params=["small", "large"])
def size(request, monkeypatch):
    """States for which memory must be got ready first, and others."""
    if request.param == "large":
        monkeypatch.setattr(staging, "_SMALL_BYTES", 0)
    return request.param


def test_a_snapshot_holds_the_moment_at_which_it_was_taken_while_the_run_goes_on(tmp_path, monkeypatch, size):
    gate, run, held = Gate(monkeypatch), Run(tmp_path), []

    def after_forty_blocks_more():
        if gate.reached.is_set() and len(run.commits) < 3:
            held.append(task.taken)
            if len(held) == 40:
                gate.open()
        return len(run.commits) >= 3

    task = Counting(MANY, enough=after_forty_blocks_more)
    last = run.to_the_end(task)
    saved = run.saved()
    first, second, *_ = run.commits
    assert first <= held[0]
    assert (size == "large") or first == 1
    assert second >= held[39]  # due before, but one was being written
    for name, values in saved.items():
        assert run.store.manifest(name)["about"]["blocks"] == list(range(1, taken_at(name) + 1))
        assert values == [taken_at(name)] * 999 + [-1 if name == last else taken_at(name)]
    assert run.commits == [taken_at(name) for name in saved]
    assert [line["taken"] for line in run.logged("snapshot")] == run.commits


def test_a_snapshot_that_has_to_wait_for_memory_is_not_forgotten(tmp_path, monkeypatch):
    monkeypatch.setattr(staging, "_SMALL_BYTES", 0)
    rings = [True]
    monkeypatch.setattr(runner.Alarm, "rang", lambda self: bool(rings and rings.pop()))
    run = Run(tmp_path, every=None)
    run.to_the_end(Counting(MANY, enough=lambda: len(run.commits) == 1))
    assert len(run.saved()) == 2  # the other one at the end


def test_a_run_goes_on_from_the_last_one_that_counts(tmp_path):
    run = Run(tmp_path, every=7)
    run.to_the_end(Counting(20))
    task = Counting(30)
    task.left = 10
    run.to_the_end(task)
    assert task.taken == 30
    assert run.logged("resumed")[-1]["taken"] == 20


def test_a_disk_that_fails_while_a_snapshot_is_written_ends_the_run_and_leaves_nothing(tmp_path, monkeypatch):
    def broken(arrays, path):
        path.write_bytes(b"half")
        raise OSError("broken")

    monkeypatch.setattr(store, "save_file", broken)
    run = Run(tmp_path)
    with pytest.raises(OSError, match="broken"):
        run.to_the_end(Counting(MANY))
    assert list((tmp_path / "snapshots").iterdir()) == []
    assert run.commits == []


def test_what_fails_behind_a_snapshot_ends_the_run_and_the_snapshot_stays(tmp_path, monkeypatch):
    def broken(self, name):
        raise OSError("no room to delete")

    monkeypatch.setattr(SnapshotStore, "settle", broken)
    run = Run(tmp_path)
    with pytest.raises(OSError, match="no room to delete"):
        run.to_the_end(Counting(MANY))
    assert run.store.newest()[0].name == "000000000001"


def test_what_fails_behind_the_last_snapshot_is_told_too(tmp_path, monkeypatch):
    def broken(self, name):
        raise OSError("no room to delete")

    run, stop = Run(tmp_path, every=10), SimpleNamespace(asked=False, name="SIGTERM")
    task = Counting(MANY, at={10: lambda: setattr(stop, "asked", True)})
    with monkeypatch.context() as patch:
        patch.setattr(SnapshotStore, "settle", broken)
        with pytest.raises(OSError, match="no room to delete"):
            run.to_the_end(task, stop)
    assert list(run.saved()) == ["000000000010"]


def test_a_weight_that_is_not_finite_ends_the_run_and_the_last_snapshot_stays(tmp_path):
    run, task = Run(tmp_path, every=10), Counting(MANY)
    task.at[15] = lambda: task.numbers.__setitem__(1, np.nan)
    with pytest.raises(SnapshotError, match="trainer/learner/weights holds a value that is not finite"):
        run.to_the_end(task)
    assert run.store.newest()[0].name == "000000000010"


def test_a_run_that_fails_while_a_snapshot_is_written_leaves_that_snapshot(tmp_path, monkeypatch):
    gate, run = Gate(monkeypatch), Run(tmp_path, every=10)

    def fail():
        gate.open()
        raise NonFiniteError("too many steps")

    with pytest.raises(NonFiniteError, match="too many steps"):
        run.to_the_end(Counting(100, at={15: fail}))
    assert run.store.newest()[0].name == "000000000010"
    assert run.commits == [10]


def test_the_last_snapshot_waits_for_silent_brokers_until_they_answer(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "_AGAIN_S", 0.05)
    monkeypatch.setattr(runner, "_LOOK_S", 0.01)
    run = Run(tmp_path, every=None, errors=[ContactError("silent"), ContactError("silent")])
    assert run.to_the_end(Counting(5)) == "000000000005"
    assert run.commits == [5, 5, 5]
    assert len(run.logged("no snapshot for now")) == 2
    assert list(run.saved()) == ["000000000005"]


def test_brokers_that_are_silent_when_a_snapshot_is_written_are_asked_again_with_another(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "_AGAIN_S", 0.05)
    run = Run(tmp_path, every=10, errors=[ContactError("silent")])
    run.to_the_end(Counting(MANY, enough=lambda: len(run.commits) > 2))
    assert len(run.logged("no snapshot for now")) == 1
    assert run.commits[0] == 10 < run.commits[1] < run.commits[2]
    assert [taken_at(name) for name in run.saved()] == run.commits[1:]


def test_a_newer_owner_ends_the_run_and_what_was_taken_does_not_count(tmp_path):
    run = Run(tmp_path, every=10, errors=[FencedError("taken over")])
    with pytest.raises(FencedError):
        run.to_the_end(Counting(MANY))
    assert run.saved() == {}


def test_a_quiet_daemon_writes_no_snapshot_and_asks_whether_the_run_is_its_own(tmp_path):
    run = Run(tmp_path, every=None, every_ms=20)
    pause = {3: lambda: time.sleep(0.005)}
    run.to_the_end(Counting(3, quiet=MANY, at=pause, enough=lambda: run.commits.count(3) >= 4))
    assert [name for name in run.saved() if name.startswith("000000000003")] == ["000000000003"]
