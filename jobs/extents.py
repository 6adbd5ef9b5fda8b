"""How far the logs of a run count: what lies behind is of a run that goes on, or of an owner who lost it."""

from contextlib import suppress
from pathlib import Path

from streamctr.errors import SnapshotError
from streamctr.snapshot import SnapshotStore


def kept_extent(log: str, *folders: Path) -> str | None:
    """What the newest snapshot lists of a log, in the first of these folders whose snapshots do; None where none does.

    >>> kept_extent("samples", Path("no", "snapshots")) is None
    True
    """
    for folder in folders:
        store = SnapshotStore(folder, keep=1)
        for name in reversed(store.names()):
            with suppress(SnapshotError):  # one that cannot be read is passed over at a resume, too
                listed = store.manifest(name)["about"].get("logs", {})
                if log in listed:
                    return str(listed[log])
                break
    return None
