"""The directory of a run: who owns it, what config it was started with, where its outputs lie."""

import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import orjson
import structlog

from jobs.lookups import with_lookup_hashes
from jobs.runfile import RunConfig, RunFile, resolved_yaml
from streamctr.errors import BusyError, ConfigError

_RUN_FILE: Final = "run.yaml"
_LOCK: Final = ".lock"
_CONTENT: Final = frozenset(
    ("run.yaml", "run.yaml.new", "snapshots", "joined", "metrics.jsonl", "dead-letters", "samples", "exports")
) | {"log.jsonl", _LOCK}


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """`runs/NAME` of a run file, or what `--run` says."""

    path: Path

    @classmethod
    def of(cls, run: Path, directory: Path | None = None) -> "RunDirectory":
        """Where the run of RUN, a run file or a run directory (or the copy of the run file in it), lies."""
        if run.name == _RUN_FILE and (run.parent / _LOCK).exists():
            run = run.parent
        return cls(directory or (run if run.is_dir() else Path("runs") / run.stem))

    @property
    def snapshots(self) -> Path:
        """Folder of the snapshots."""
        return self.path / "snapshots"

    @property
    def metrics(self) -> Path:
        """File with a line of figures per event-time tick."""
        return self.path / "metrics.jsonl"

    @property
    def dead_letters(self) -> Path:
        """Folder of the events that could not be read."""
        return self.path / "dead-letters"

    @property
    def samples(self) -> Path:
        """Folder of the emission log."""
        return self.path / "samples"

    @property
    def joined(self) -> Path:
        """Folder of the snapshots of `join`."""
        return self.path / "joined"

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Own the directory while in the block; the lock ends with the process, however it ends.

        Raises:
            BusyError: another process owns it.
            ConfigError: it cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise ConfigError(
                f"{self.path} cannot be a run directory: {error.strerror}; choose another with --run"
            ) from None
        try:
            self._lock(lock)
            yield
        finally:
            os.close(lock)

    def _lock(self, lock: int) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            message = f"{self.path} is owned by another process; wait until it ends, or choose another with --run"
            raise BusyError(message) from None

    def clear(self, keep: Sequence[str] = ()) -> None:
        """Delete what earlier runs left, while owned, but for what `keep` names.

        Raises:
            ConfigError: something else lies there too; nothing is deleted then.
        """
        strange = sorted(entry.name for entry in self.path.iterdir() if entry.name not in _CONTENT)
        if strange:
            raise ConfigError(f"--fresh would delete {self.path}, which holds {strange[0]}, not of a run; move it away")
        for entry in self.path.iterdir():
            if entry.name == _LOCK or entry.name in keep:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()

    def write_config(self, config: RunConfig) -> None:
        """Write `run.yaml`, with every default filled in."""
        aside = self.path / f"{_RUN_FILE}.new"
        aside.write_text(resolved_yaml(config), encoding="utf-8")
        aside.replace(self.path / _RUN_FILE)


def config_path(run: Path) -> Path:
    """The run file RUN, or the copy in the run directory RUN.

    Raises:
        ConfigError: the directory has none.
    """
    if run.is_dir() and not (run / _RUN_FILE).exists():
        raise ConfigError(
            f"{run} is not a run directory: it holds no {_RUN_FILE}; name a run file, or the directory of a run"
        )
    return run / _RUN_FILE if run.is_dir() else run


def load_run(run: Path, overrides: Sequence[str] = ()) -> RunFile:
    """The run file of RUN, typed and checked, its lookup tables pinned by their hashes.

    Raises:
        ConfigError: there is none, or it has mistakes.
    """
    loaded = RunFile.load(config_path(run), overrides)
    return replace(loaded, config=with_lookup_hashes(loaded.config))


@contextmanager
def run_log(path: Path) -> Iterator[Any]:
    """A logger of JSON lines with the wall time, appended to `path`."""
    with path.open("ab") as file:
        yield structlog.wrap_logger(
            structlog.BytesLogger(file),
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.JSONRenderer(serializer=orjson.dumps),
            ],
            wrapper_class=structlog.BoundLogger,
        )
