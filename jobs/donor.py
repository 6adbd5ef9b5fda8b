"""The learner of another run to start from: weights, tables, optimiser and moments of one of its snapshots."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.rundir import RunDirectory
from jobs.runfile import RunConfig, config_diff, resolved
from streamctr.errors import ConfigError
from streamctr.ports import Arrays
from streamctr.snapshot import Snapshot, SnapshotStore
from streamctr.training import Learner

_LEARNER = "trainer/learner/"


@dataclass(frozen=True, slots=True)
class Donor:
    """A learner's state, and where it came from."""

    arrays: Arrays
    snapshot: str
    checksums: dict[str, str]

    @classmethod
    def load(cls, path: Path, config: RunConfig) -> "Donor":
        """The learner in a snapshot's directory, or in the newest snapshot of a run directory that verifies.

        Raises:
            ConfigError: there is none, or what it learned means something else in a run of this config.
            SnapshotError: it does not verify.
        """
        snapshot, folder = _snapshot(path)
        arrays = {n.removeprefix(_LEARNER): a for n, a in snapshot.arrays.items() if n.startswith(_LEARNER)}
        if not arrays:
            raise ConfigError(f"--from {path}: snapshot {snapshot.name} holds no learner; name one of replay or learn")
        different = config_diff(_learned(snapshot.manifest["about"]["config"]), _learned(resolved(config)))
        if different:
            lines = "\n".join(f"  {line}" for line in different)
            raise ConfigError(f"--from {path}: what it learned is of another shape or meaning:\n{lines}")
        return cls(arrays, str(folder / snapshot.name), snapshot.manifest["xxh3_128"])

    def give(self, learner: Learner) -> dict[str, Any]:
        """Make `learner` go on from here; what the run's snapshots say of it from then on.

        Raises:
            ConfigError: they do not fit.
        """
        learner.adopt(self.arrays)
        return {"snapshot": self.snapshot, "xxh3_128": self.checksums, "weights_sha256": learner.weights_sha256()}

    def refuse_begun(self, directory: RunDirectory) -> None:
        """A run that has learned already does not start from another one.

        Raises:
            ConfigError: it has a snapshot.
        """
        names = SnapshotStore(directory.snapshots, keep=1).names()
        if names:
            raise ConfigError(
                f"--from starts a new run, but {directory.path} has snapshot {names[-1]}: leave --from away to go on "
                "from that, choose another directory with --run, or start anew with --fresh"
            )


def _learned(config: Mapping[str, Any]) -> dict[str, Any]:
    """Of a resolved config, what gives a learner's numbers their meaning."""
    features = {kind: value for kind, value in config["features"].items() if kind != "lookup"}
    tables = {key: config["tables"][key] for key in ("rows", "width", "shared", "sizes")}
    after = {stage: of["after"] for stage, of in config["funnel"].items()}
    return {"features": features, "model": config["model"], "tables": tables, "funnel": after}


def _snapshot(path: Path) -> tuple[Snapshot, Path]:
    """A snapshot and the folder that it lies in."""
    if (path / "manifest.json").exists():
        return SnapshotStore(path.parent, keep=1).load(path.name), path.parent
    folder = RunDirectory(path).snapshots
    snapshot, refused = SnapshotStore(folder, keep=1).newest()
    if refused and snapshot is None:
        raise refused[0]
    if snapshot is None:
        raise ConfigError(
            f"--from {path} is neither a snapshot nor the directory of a run that has one; name one such as runs/NAME"
        )
    return snapshot, folder
