"""Snapshots: everything that a run remembers, in one directory that either verifies or does not count."""

from streamctr.snapshot.staging import Staging
from streamctr.snapshot.store import Snapshot, SnapshotsConfig, SnapshotStore

__all__ = ["Snapshot", "SnapshotStore", "SnapshotsConfig", "Staging"]
