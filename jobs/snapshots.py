"""`streamctr snapshots`: what snapshots a run has, what one says of itself, whether it is whole."""

from pathlib import Path
from typing import Any

from rich.json import JSON
from rich.text import Text

from jobs.console import Call, Result, say
from jobs.rundir import RunDirectory, load_run
from jobs.summary import figures_table
from streamctr.errors import SnapshotError
from streamctr.snapshot import SnapshotStore


def list_all(call: Call, run: Path) -> Result:
    """All snapshots, oldest first."""
    store = _store(call, run)
    found = [_about(store, name) for name in store.names()]
    listed = figures_table("snapshot", ["events", "steps", "ended"])
    for about in found:
        listed.add_row(about["name"], *_cells(about))
    call.show(listed)
    return {"snapshots": found}, 0


def show(call: Call, run: Path, name: str | None) -> Result:
    """The manifest of one.

    Raises:
        SnapshotError: there is none.
    """
    store = _store(call, run)
    manifest = store.manifest(name or _newest(store, run))
    call.show(JSON.from_data(manifest))
    return manifest, 0


def verify(call: Call, run: Path, name: str | None) -> Result:
    """Whether files have the checksums that were written down; exit code 74 where one has not.

    Raises:
        SnapshotError: there is none.
    """
    store = _store(call, run)
    _newest(store, run)
    broken: dict[str, str] = {}
    names = [name] if name else store.names()
    for each in names:
        try:
            store.verify(each)
            call.show(Text(f"{each} verified"))
        except SnapshotError as error:
            broken[each] = str(error)
            say(str(error))
    return {
        "verified": [n for n in names if n not in broken],
        "broken": broken,
    }, SnapshotError.exit_code if broken else 0


def _store(call: Call, run: Path) -> SnapshotStore:
    config = load_run(run, call.sets).config
    return SnapshotStore(RunDirectory.of(run).snapshots, config.snapshots.keep)


def _newest(store: SnapshotStore, run: Path) -> str:
    names = store.names()
    if not names:
        raise SnapshotError(f"{RunDirectory.of(run).path} has no snapshot yet; streamctr replay {run} makes some")
    return names[-1]


def _about(store: SnapshotStore, name: str) -> dict[str, Any]:
    try:
        about = store.manifest(name)["about"]
    except SnapshotError as error:
        return {"name": name, "error": str(error)}
    return {"name": name, **{key: about[key] for key in ("events_read", "steps", "ended")}}


def _cells(about: dict[str, Any]) -> list[str]:
    if "error" in about:
        return ["cannot be read", "-", "-"]
    return [f"{about['events_read']:,}", f"{about['steps']:,}", "yes" if about["ended"] else "no"]
