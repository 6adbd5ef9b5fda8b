"""Save, load, verify, retain. Written aside, fsynced, renamed: a kill at any moment leaves the last good one whole."""

import os
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import Field

from streamctr.errors import SnapshotError, room_for
from streamctr.ports import Arrays
from streamctr.schema import Config, DurationMs
from streamctr.snapshot.arrays import checksum, load_file, save_file

FORMAT: Final = 4
_ARRAYS: Final = "state.safetensors"
_MANIFEST: Final = "manifest.json"
_ASIDE: Final = ".writing"
_SOME: Final = 1 << 18
"""Values that are looked at together, so that what is found stays in the cache."""
_NAME: Final = re.compile(r"(?:e(\d{5,})-)?(\d{12})(?:-(\d\d+))?")
_LEFT: Final = re.compile(rf"{re.escape(_ASIDE)}(?:-e(\d{{5,}}))?")


class SnapshotsConfig(Config):
    """When snapshots are taken and how many are kept."""

    every: DurationMs = Field(default=300_000, description="wall time between two; 0 for none")
    every_events: int | None = Field(default=None, ge=1, description="also after so many events read")
    keep: int = Field(default=5, ge=1, description="the newest ones stay")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot that verified: its name, arrays and manifest."""

    name: str
    arrays: Arrays
    manifest: dict[str, Any]


class SnapshotStore:
    """The snapshots of one run, in `folder`.

    Args:
        folder: made when the first one is saved.
        keep: how many of the newest ones stay.
        epoch: of the owner who saves; whoever took the run over has a later one, and later epochs count first.
    """

    def __init__(self, folder: Path, keep: int, epoch: int = 0) -> None:
        self._folder, self._keep, self._epoch = folder, keep, epoch

    def save(
        self,
        events_read: int,
        arrays: Arrays,
        about: dict[str, Any],
        finite: Iterable[str],
        commit: Callable[[], None] = lambda: None,
    ) -> str:
        """Write a snapshot and return its name, which sorts by its epoch and by how much was read.

        `write`, `count` and `settle` do it in steps, of which the first and the last may run beside other things.

        Args:
            events_read: its name; a later one of the same number comes behind it.
            arrays: the state.
            about: what the manifest tells a reader, JSON-able.
            finite: names of arrays that must be finite.
            commit: is called when all is written and nothing counts yet; where it raises, nothing will.

        Raises:
            SnapshotError: a weight is not finite; nothing is written.
            DiskFullError: there is no room; nothing is left of it.
        """
        name = self.count(lambda: self.write(events_read, arrays, about, finite), commit)
        self.settle(name)
        return name

    def write(self, events_read: int, arrays: Arrays, about: dict[str, Any], finite: Iterable[str]) -> str:
        """1. Write a snapshot, on disk on return, that does not count yet; the name that it will have.

        Raises:
            StreamctrError: as `save`.
        """
        for key in finite:
            if not _is_finite(arrays[key]):
                raise SnapshotError(
                    f"{key} holds a value that is not finite: no snapshot is written, the last one stays"
                )
        name = self._free_name(events_read)
        shutil.rmtree(self._aside, ignore_errors=True)
        try:
            with room_for(self._aside):
                self._write(name, arrays, about)
        except BaseException:
            shutil.rmtree(self._aside, ignore_errors=True)
            raise
        return name

    def count(self, written: Callable[[], str], commit: Callable[[], None]) -> str:
        """Have a snapshot count that was written; its name.

        Args:
            written: gives what `write` gave, or raises what it raised.
            commit: as for `save`.
        """
        try:
            name = written()
            # 2. only now it may count
            commit()
            # 3. only now it counts
            os.rename(self._aside, self._folder / name)
        except FileNotFoundError:
            commit()  # a later owner clears away what those before it left unfinished: this says that there is one
            raise
        except BaseException:
            shutil.rmtree(self._aside, ignore_errors=True)
            raise
        return name

    def settle(self, name: str) -> None:
        """Have it stay whatever happens to the machine. 4. Only then older ones go."""
        _sync(self._folder)
        self._clear_away(name)

    @property
    def _aside(self) -> Path:
        return self._folder / (f"{_ASIDE}-e{self._epoch:05d}" if self._epoch else _ASIDE)

    def _clear_away(self, name: str) -> None:
        """Delete all but the newest ones; one that does not verify may sort behind `name`, and a later owner's stay."""
        others = [other for other in self.names() if other != name and _place(other)[0] <= self._epoch]
        for old in others[: max(0, len(others) - self._keep + 1)]:
            shutil.rmtree(self._folder / old)
        for path in self._folder.iterdir():
            if (left := _LEFT.fullmatch(path.name)) and int(left[1] or 0) < self._epoch:
                shutil.rmtree(path, ignore_errors=True)  # its owner was killed over it

    def _write(self, name: str, arrays: Arrays, about: dict[str, Any]) -> None:
        """The arrays, then what says that they are whole."""
        aside = self._aside
        aside.mkdir(parents=True)
        checksums = {_ARRAYS: save_file(arrays, aside / _ARRAYS)}
        manifest = {"format": FORMAT, "name": name, "about": about, "xxh3_128": checksums}
        (aside / _MANIFEST).write_bytes(orjson.dumps(manifest, option=orjson.OPT_INDENT_2))
        _sync(aside / _MANIFEST)
        _sync(aside)

    def names(self) -> list[str]:
        """Oldest first, whether they verify or not; folders with other names are none of ours."""
        if not self._folder.is_dir():
            return []
        found = (path.name for path in self._folder.iterdir() if path.is_dir())
        return sorted(filter(_NAME.fullmatch, found), key=_place)

    def manifest(self, name: str) -> dict[str, Any]:
        """What a snapshot says of itself.

        Raises:
            SnapshotError: there is none, or it cannot be read.
        """
        path = self._folder / name / _MANIFEST
        try:
            manifest: dict[str, Any] = orjson.loads(path.read_bytes())
        except (OSError, orjson.JSONDecodeError) as error:
            raise SnapshotError(f"snapshot {name}: {path} cannot be read ({error})") from None
        if not isinstance(manifest, dict) or not {"format", "about", "xxh3_128"} <= manifest.keys():
            raise SnapshotError(f"snapshot {name}: {path} is not the manifest of a snapshot")
        if manifest["format"] != FORMAT:
            raise SnapshotError(f"snapshot {name} has format {manifest['format']}; this version reads {FORMAT}")
        return manifest

    def verify(self, name: str) -> dict[str, Any]:
        """Compare the files with the manifest's checksums; the manifest.

        Raises:
            SnapshotError: a file is missing or was changed.
        """
        manifest = self.manifest(name)
        for file, wanted in manifest["xxh3_128"].items():
            path = self._folder / name / file
            came = checksum(path) if path.is_file() else "no such file"
            if came != wanted:
                raise SnapshotError(f"snapshot {name}: {file} should have checksum {wanted} but has {came}")
        return manifest

    def load(self, name: str) -> Snapshot:
        """Verify, then give arrays that are read-only views of the file.

        Raises:
            SnapshotError: it does not verify.
        """
        manifest = self.verify(name)
        return Snapshot(name, load_file(self._folder / name / _ARRAYS), manifest)

    def newest(self) -> tuple[Snapshot | None, list[SnapshotError]]:
        """The newest one that verifies, and why newer ones do not."""
        refused: list[SnapshotError] = []
        for name in reversed(self.names()):
            try:
                return self.load(name), refused
            except SnapshotError as error:
                refused.append(error)
        return None, refused

    def _free_name(self, events_read: int) -> str:
        stem = (f"e{self._epoch:05d}-" if self._epoch else "") + f"{events_read:012d}"
        taken = [int(name[len(stem) + 1 :] or 0) for name in self.names() if name.startswith(stem)]
        return f"{stem}-{max(taken) + 1:02d}" if taken else stem


def _place(name: str) -> tuple[int, ...]:
    """By what names sort: the epoch of whoever saved it, 0 where a lock said who may; events read; which of these."""
    found = _NAME.fullmatch(name)
    assert found is not None
    return tuple(int(part or 0) for part in found.groups())


def _is_finite(array: NDArray[Any]) -> bool:
    flat = array.reshape(-1)
    return all(np.isfinite(flat[begin : begin + _SOME]).all() for begin in range(0, len(flat), _SOME))


def _sync(path: Path) -> None:
    """Make a file or a directory durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
