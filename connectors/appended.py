"""Files that only grow, in segments: what logs of all kinds are written into."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

import orjson

from streamctr.errors import DataError, DiskFullError, room_for


class SegmentedFile:
    """A log in files that only grow, but for what `truncate` takes back; what counts is what `flush` lists.

    Who owns a run has an epoch, a number higher than that of each owner before; it stands in the names of the files
    that this owner writes: `metrics-e00003-0.jsonl`, `metrics-e00003-1.jsonl`, ... An older owner that is still alive
    may go on writing into its own: they count only as far as they are listed. Epoch 0, where a lock says who owns the
    folder, is `metrics.jsonl`, `metrics-1.jsonl`, ...

    Args:
        first: the first file of epoch 0; all others are called after it. Its folder is made where there is none, each
            file when something is written into it.
        epoch: the owner's.
        segment_bytes: a file that is as long is followed by another one.
        most_bytes: where all together are longer, `flush` deletes the oldest ones, whoever wrote them; None for never.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "log.txt"
    >>> log = SegmentedFile(path, segment_bytes=4)
    >>> log.append(b"first"), log.append(b"second"), log.flush()
    (None, None, '[["log.txt",5],["log-1.txt",6]]')
    >>> log.truncate('[["log.txt",2]]'), log.close(), path.read_text()
    (None, None, 'fi')
    """

    def __init__(
        self, first: Path, epoch: int = 0, segment_bytes: int = 1 << 26, most_bytes: int | None = None
    ) -> None:
        self._folder, self._first, self._epoch = first.parent, first.name, epoch
        self._stem, self._suffix = first.stem.removesuffix("-0"), first.suffix
        self._segment_bytes, self._most_bytes = segment_bytes, most_bytes
        self._file: FileIO | None = None
        self._failure: Exception | None = None
        self.dropped_bytes = 0
        """Of files that were deleted to stay below `most_bytes`."""
        with room_for(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
        own = _of_epoch(self._folder, self._stem, self._suffix, epoch)
        self._sizes = {path.name: path.stat().st_size for path in own}  # of what counts, oldest first

    def append(self, payload: bytes, header: bytes = b"") -> None:
        """Write at the end, behind `header` where it is the first of a file; on disk after `flush`.

        Raises:
            DiskFullError: there is no room; from then on nothing else can be done but to close.
        """
        name = self._current()
        with self._writing():
            if self._file is None:
                self._file = FileIO(self._folder / name, "ab")  # no buffer: closing one would fail a second time
                _sync(self._folder)
            left = memoryview(payload if self._sizes[name] else b"".join((header, payload)))
            while left:
                written = self._file.write(left)
                self._sizes[name] += written
                left = left[written:]

    def flush(self) -> str:
        """Make everything durable; which files count and how far, `[[name, bytes], ...]`, oldest first.

        Raises:
            DiskFullError: there is no room, now or before.
        """
        with self._writing():
            if self._file is not None:
                os.fsync(self._file.fileno())
        while self._most_bytes is not None and len(self._sizes) > 1 and sum(self._sizes.values()) > self._most_bytes:
            oldest = next(iter(self._sizes))
            (self._folder / oldest).unlink(missing_ok=True)
            self.dropped_bytes += self._sizes.pop(oldest)
        return orjson.dumps(list(self._sizes.items())).decode()

    def truncate(self, extent: str) -> None:
        """Go on behind what `flush` listed, or from nothing where that is empty.

        Other files of this epoch are deleted; those of other epochs stay as they are.

        Raises:
            DataError: a file is shorter than it was, or gone; the oldest may be gone where `most_bytes` is set.
        """
        self._release()
        self._failure = None  # what was written in part is cut, or not listed
        listed = _listed(self._folder, extent, least=None if self._most_bytes is None else 1)
        self._sizes = {path.name: size for path, size in listed}
        for path in _of_epoch(self._folder, self._stem, self._suffix, self._epoch):
            if path.name not in self._sizes:
                path.unlink()
            elif path == listed[-1][0]:
                os.truncate(path, listed[-1][1])

    def close(self) -> None:
        """Flush and give the file back; where writing failed before, only that."""
        if self._failure is None:
            self.flush()
        self._release()

    def _current(self) -> str:
        """The file to append to; a new one where the last is full, or another's."""
        last = next(reversed(self._sizes), None)
        if last is not None and self._number(last) >= 0 and self._sizes[last] < self._segment_bytes:
            return last
        self.close()
        name = self._name(max(map(self._number, self._sizes), default=-1) + 1)
        self._sizes[name] = 0
        return name

    def _name(self, number: int) -> str:
        if self._epoch:
            return f"{self._stem}-e{self._epoch:05}-{number}{self._suffix}"
        return f"{self._stem}-{number}{self._suffix}" if number else self._first

    def _number(self, name: str) -> int:
        """Of a file of this epoch; -1 where it is of another."""
        epoch, number = _place(name, self._stem, self._suffix) or (-1, -1)
        return number if epoch == self._epoch else -1

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """What fails once fails for good: what was written in part must not be listed later."""
        if self._failure is not None:
            raise self._failure
        try:
            with room_for(self._folder / next(reversed(self._sizes), self._first)):
                yield
        except (OSError, DiskFullError) as error:
            self._failure = error
            self._release()
            raise

    def _release(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):  # all that counts is on disk, or has failed already
                file.close()


def read_extent(folder: str | os.PathLike[str], stem: str, suffix: str, extent: str | None) -> list[tuple[Path, int]]:
    """The files of a log and how far each counts, in bytes, oldest first; the oldest may have been deleted since.

    Args:
        folder: where they lie.
        stem: what their names begin with, as `part`.
        suffix: and end with, as `.arrows`.
        extent: what `flush` listed; None where no snapshot says it: the files of epoch 0, as they are.

    Raises:
        DataError: a file is shorter than it was, or gone from among the others.
    """
    if extent is None:
        return [(path, path.stat().st_size) for path in _of_epoch(Path(folder), stem, suffix, 0)]
    return _listed(Path(folder), extent, least=0)


def _listed(folder: Path, extent: str, least: int | None) -> list[tuple[Path, int]]:
    """What was listed, but for the oldest that are gone; the last `least` must be there, None for all."""
    listed = [(folder / name, size) for name, size in orjson.loads(extent or "[]")]
    while least is not None and len(listed) > least and not listed[0][0].exists():
        del listed[0]
    for path, wanted in listed:
        came = path.stat().st_size if path.exists() else 0
        if came < wanted:
            raise DataError(
                f"{path} has {came} bytes where {wanted} were saved with the snapshot; "
                "put the file back as it was, or start with --fresh"
            )
    return listed


def _place(name: str, stem: str, suffix: str) -> tuple[int, int] | None:
    """Epoch and number of a file; None where it is of another log."""
    found = re.fullmatch(rf"{re.escape(stem)}(?:-e(\d{{5,}}))?(?:-(\d+))?{re.escape(suffix)}", name)
    return None if found is None else (int(found[1] or 0), int(found[2] or 0))


def _of_epoch(folder: Path, stem: str, suffix: str, epoch: int) -> list[Path]:
    """The files of one owner, in order."""
    places = [(_place(path.name, stem, suffix), path) for path in folder.glob(f"*{suffix}")]
    return [path for place, path in sorted((place, path) for place, path in places if place and place[0] == epoch)]


def _sync(folder: Path) -> None:
    """Make it durable that files are there."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
