"""A bar at a terminal, now and then a line elsewhere; always on stderr."""

import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

import orjson
import pyarrow as pa
from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from jobs.console import say

_LINES: Final = 10
"""Plain lines from start to end."""
_BEGINNING_BYTES: Final = 1 << 22


class Progress:
    """Says how much of `total` is done.

    >>> with Progress("events", total=10) as progress:
    ...     progress.advance(5)
    """

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total, self._done, self._said = what, total, 0, 0
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        note = TextColumn("{task.fields[note]}")
        terminal = sys.stderr.isatty()
        self._bar = Bar(*columns, note, console=Console(stderr=True), transient=True) if terminal else None
        self._task = self._bar.add_task(what, total=total, note="") if self._bar else None

    def __enter__(self) -> "Progress":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def advance(self, by: int, note: str = "") -> None:
        """That much more is done; `note` stands behind the bar."""
        self.reach(self._done + by, note)

    def reach(self, done: int, note: str = "") -> None:
        """That much is done in all."""
        self._done = done
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=done, note=note)
            return
        tenth = done * _LINES // max(self._total, 1)
        if tenth > self._said:
            self._said = tenth
            say(f"{self._what} {min(done / max(self._total, 1), 1):.0%} {note}".rstrip())

    def say(self, text: str) -> None:
        """A line for people, above the bar."""
        if self._bar:
            self._bar.console.print(text, highlight=False, markup=False, soft_wrap=True)
        else:
            say(text)


class Gauge:
    """How much of some event files was read, in bytes of text: their sum is known where they are plain, else guessed.

    >>> Gauge([[]]).total
    0
    """

    def __init__(self, paths_by_partition: Sequence[Sequence[str]]) -> None:
        self._sizes = [[_text_bytes(path) for path in paths] for paths in paths_by_partition]
        self.total = sum(map(sum, self._sizes))

    def read(self, positions: str) -> int:
        """Bytes before the positions of a `FileSource`."""
        at = zip(self._sizes, orjson.loads(positions), strict=True)
        return sum(sum(sizes[: place["place"]]) + place["offset"] for sizes, place in at)


def _text_bytes(path: str) -> int:
    """Size of a file's text, of a compressed one as if all of it were packed like its beginning."""
    compression = {".gz": "gzip", ".zst": "zstd"}.get(Path(path).suffix)
    size = Path(path).stat().st_size
    if compression is None:
        return size
    try:
        with open(path, "rb") as file, pa.CompressedInputStream(pa.PythonFile(file, "r"), compression) as stream:
            text = len(stream.read(_BEGINNING_BYTES))
            return text * size // max(file.tell(), 1)
    except OSError:  # damaged: who reads it for its events says so
        return size
