"""`streamctr` in a process that kills itself: `crash_child.py MOMENT ARGUMENTS...`.

MOMENT is `events:N` (the first learning step after N events were read), `fault:PLACE:N` (a place inside the writing of
the first snapshot after N events), or `stop:N` (like `events`, but it only stands still until it is told to go on).
"""

import os
import signal
import sys
from functools import partial

from connectors.files import FileSource
from jobs import eventtask
from jobs.cli import main
from streamctr.pipeline import Pipeline
from streamctr.snapshot import store
from streamctr.training import Learner

RUNNING = []


def die_when_due(events):
    if RUNNING[0].events_read >= events:
        print(f"killed at {RUNNING[0].events_read}", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)


def before(function, events):
    """`function`, but for the process being gone when its time has come."""

    def wrapped(*arguments, **keywords):
        die_when_due(events)
        return function(*arguments, **keywords)

    return wrapped


def stopped_before(function, events):
    """`function`, but for the process standing still, once, when its time has come."""
    left = [1]

    def wrapped(*arguments, **keywords):
        if left and RUNNING[0].events_read >= events:
            left.clear()
            os.kill(os.getpid(), signal.SIGSTOP)
        return function(*arguments, **keywords)

    return wrapped


def after(function, events):
    """`function`, and only then the end."""

    def wrapped(*arguments, **keywords):
        result = function(*arguments, **keywords)
        die_when_due(events)
        return result

    return wrapped


def half_written(save_file, events):
    """A `save_file` that, when its time has come, leaves a file which ends in the middle."""

    def wrapped(arrays, path):
        checksum = save_file(arrays, path)
        if RUNNING[0].events_read >= events:
            os.truncate(path, os.path.getsize(path) // 2)
        return checksum

    return wrapped


def plant(moment):
    """Put the end where `moment` says."""
    kind, *where = moment.split(":")
    events = int(where[-1])
    build = Pipeline.__init__
    Pipeline.__init__ = lambda self, *a, **k: (RUNNING.append(self), build(self, *a, **k))[1]
    match kind, where[0]:
        case "stop", _:
            Learner.learn = stopped_before(Learner.learn, events)
        case "events", _:
            Learner.learn = before(Learner.learn, events)
        case "fault", "arrays":
            store.save_file = after(half_written(store.save_file, events), events)
        case "fault", "rename":
            os.rename = before(os.rename, events)
        case "fault", "retention":
            os.rename = after(os.rename, events)


if __name__ == "__main__":
    plant(sys.argv.pop(1))
    # small blocks: a snapshot that was written counts between two of them
    eventtask.FileSource = partial(FileSource, block_bytes=1 << 16)
    main()
