"""`streamctr` in a process that kills itself: `crash_child.py MOMENT ARGUMENTS...`.

MOMENT is `events:N` (the first learning step after N events were read) or `fault:PLACE:N` (a place inside the writing
of the first snapshot after N events).
"""

import os
import signal
import sys

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


def after(function, events):
    """`function`, and only then the end."""

    def wrapped(*arguments, **keywords):
        result = function(*arguments, **keywords)
        die_when_due(events)
        return result

    return wrapped


def half_written(arrays, path):
    """The first arrays, and a file that ends in the middle."""
    save_file(arrays, path)
    with open(path, "r+b") as file:
        file.truncate(os.path.getsize(path) // 2)


kind, *where = sys.argv[1].split(":")
events = int(where[-1])
build = Pipeline.__init__
Pipeline.__init__ = lambda self, *a, **k: (RUNNING.append(self), build(self, *a, **k))[1]
save_file = store.save_file
if kind == "events":
    Learner.learn = before(Learner.learn, events)
elif where[0] == "arrays":
    store.save_file = after(half_written, events)
elif where[0] == "rename":
    store.os.rename = before(store.os.rename, events)
elif where[0] == "retention":
    store.os.rename = after(store.os.rename, events)
sys.argv[1:2] = []
main()
