"""A bar at a terminal, now and then a line elsewhere; always on stderr."""

import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Final

import orjson
from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from connectors.files import FilePartition, FilesConfig, extent_of
from jobs.console import say

_LINES: Final = 10
"""Plain lines from start to end."""


class Progress:
    """Says how much of `total` is done; where that is 0, it is not known.

    >>> with Progress("events", total=10) as progress:
    ...     progress.advance(5)
    """

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total, self._done, self._said = what, total, 0, 0
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        note = TextColumn("{task.fields[note]}")
        terminal = sys.stderr.isatty()
        self._bar = Bar(*columns, note, console=Console(stderr=True), transient=True) if terminal else None
        self._task = self._bar.add_task(what, total=total or None, note="") if self._bar else None

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
        tenth = done * _LINES // self._total if self._total else done.bit_length()  # each time that it has doubled
        if tenth > self._said:
            self._said = tenth
            share = f"{min(done / self._total, 1):.0%} " if self._total else ""
            say(f"{self._what} {share}{note}".rstrip())

    def say(self, text: str) -> None:
        """A line for people, above the bar."""
        if self._bar:
            self._bar.console.print(text, highlight=False, markup=False, soft_wrap=True)
        else:
            say(text)


class Gauge:
    """How much of some event files was read, in bytes; `total` is 0 where that cannot be known.

    >>> Gauge([FilePartition(0, ())], FilesConfig(paths="logs")).total
    0
    """

    def __init__(self, partitions: Sequence[FilePartition], files: FilesConfig) -> None:
        self._extents = [[extent_of(path, files) for path in part.paths] for part in partitions]
        self.total = sum(extent.size_bytes for extents in self._extents for extent in extents)

    def read(self, positions: str) -> int:
        """Bytes before the positions of a `FileSource`."""
        done = 0
        for extents, at in zip(self._extents, orjson.loads(positions), strict=True):
            done += sum(extent.size_bytes for extent in extents[: at["place"]])
            for size_bytes, steps in extents[at["place"] :][:1]:
                done += at["offset"] * size_bytes // steps if steps else at["offset"]
        return done
