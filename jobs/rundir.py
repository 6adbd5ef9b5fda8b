"""The directory of a run: who owns it, what config it was started with, where its outputs lie."""

import fcntl
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, Final, cast
from uuid import uuid4

import orjson
import structlog

from jobs.lookups import with_lookup_hashes
from jobs.runfile import RunConfig, RunFile, resolved_yaml
from streamctr.errors import BusyError, ConfigError, room_for

_RUN_FILE: Final = "run.yaml"
_LOCK: Final = ".lock"
_ID: Final = "run.id"
_EPOCHS: Final = "epochs"
_CLAIMS: Final = 100
"""So many of the last epochs can be looked up; one would do."""
_CONTENT: Final = re.compile(
    r"run\.yaml(\.\w+)?|snapshots|joined|metrics(-\w+)*\.jsonl|dead-letters|samples|exports|run\.id\.\w+|log\.jsonl(\.\d+)?"
)
_OWNERS: Final = frozenset((_LOCK, _ID, _EPOCHS))
"""What tells owners apart: it stays when all else is deleted."""


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

    @property
    def run_id(self) -> str:
        """By what the run is known outside: the same for all its owners, wherever they run."""
        path, drawn = self.path / _ID, uuid4().hex
        if not path.exists():
            aside = self.path / f"{_ID}.{drawn}"
            aside.write_text(drawn)
            with suppress(FileExistsError):  # another process was quicker
                os.link(aside, path)
            aside.unlink()
        return path.read_text()

    def claim_epoch(self) -> int:
        """A number that no owner of the run had before, and later ones will exceed."""
        epochs = self.path / _EPOCHS
        epochs.mkdir(exist_ok=True)
        saved = (
            path.name[1:].partition("-")[0] for folder in (self.snapshots, self.joined) for path in folder.glob("e*")
        )
        epoch = 1 + max(map(int, [*(claimed.name for claimed in epochs.iterdir()), *saved]), default=0)
        while True:
            try:
                (epochs / f"{epoch:05d}").mkdir()  # by one of several owners, also over a network
                break
            except FileExistsError:
                epoch += 1
        for claimed in epochs.iterdir():
            if int(claimed.name) < epoch - _CLAIMS:
                with suppress(FileNotFoundError):
                    claimed.rmdir()
        return epoch

    @contextmanager
    def owned(self, shared: bool = False) -> Iterator[None]:
        """Own the directory while in the block; the lock ends with the process, however it ends.

        Args:
            shared: with others who do the same, and know by other means who counts.

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
            self._lock(lock, shared)
            yield
        finally:
            os.close(lock)

    def _lock(self, lock: int, shared: bool) -> None:
        try:
            fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            message = f"{self.path} is owned by another process; wait until it ends, or choose another with --run"
            raise BusyError(message) from None

    def clear(self, keep: Sequence[str] = ()) -> None:
        """Delete what earlier runs left, while owned, but for what `keep` names.

        Raises:
            ConfigError: something else lies there too; nothing is deleted then.
        """
        entries = [entry for entry in self.path.iterdir() if entry.name not in _OWNERS]
        strange = sorted(entry.name for entry in entries if not _CONTENT.fullmatch(entry.name))
        if strange:
            raise ConfigError(f"--fresh would delete {self.path}, which holds {strange[0]}, not of a run; move it away")
        for entry in entries:
            if re.sub(r"\.\d+$", "", entry.name) in keep:  # older parts of a log stay with it
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()

    def write_config(self, config: RunConfig) -> None:
        """Write `run.yaml`, with every default filled in."""
        aside = self.path / f"{_RUN_FILE}.{uuid4().hex}"  # join and learn may both be at it
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


class _Rotated:
    """The file of a log: where it is long it becomes `log.jsonl.1`, that one `log.jsonl.2`, and so on; five stay."""

    def __init__(self, path: Path, long_bytes: int) -> None:
        self._path, self._long_bytes = path, long_bytes
        self._file = path.open("ab", buffering=0)

    def write(self, line: bytes) -> None:
        with room_for(self._path):
            if self._file.tell() >= self._long_bytes:
                self._rotate()
            self._file.write(line)

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        self._file.close()

    def _rotate(self) -> None:
        names = [self._path, *(self._path.with_name(f"{self._path.name}.{number}") for number in range(1, 6))]
        for newer, older in reversed(list(pairwise(names))):
            with suppress(FileNotFoundError):
                newer.replace(older)
        self._file.close()
        self._file = self._path.open("ab", buffering=0)


@contextmanager
def run_log(path: Path, long_bytes: int = 1 << 24) -> Iterator[Any]:
    """A logger of JSON lines with the wall time, appended to `path`; a `DiskFullError` where there is no room.

    Args:
        path: the file; where it is long it gets a number behind its name, and five such stay.
        long_bytes: how long that is.
    """
    with closing(_Rotated(path, long_bytes)) as file:
        yield structlog.wrap_logger(
            structlog.BytesLogger(cast(BinaryIO, file)),
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.JSONRenderer(serializer=orjson.dumps),
            ],
            wrapper_class=structlog.BoundLogger,
        )
