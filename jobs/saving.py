"""Snapshots beside the run: taken between two blocks, written by a thread, and counted between two later ones."""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jobs.owner import Offsets, Owner
from streamctr.ports import Arrays
from streamctr.snapshot import SnapshotStore, Staging


@dataclass(frozen=True, slots=True)
class Moment:
    """What a run is between two blocks."""

    taken: int
    """By what its snapshot is called."""
    arrays: Arrays
    about: dict[str, Any]
    """What the snapshot says of itself."""
    offsets: Offsets
    """Of topics, what is read next."""


class Saver:
    """Writes one snapshot at a time in a thread, while the run goes on.

    A state is copied before the run goes on, into memory that is kept for it. All that others could notice happens
    in the run's own thread: that the owner is asked, and that the snapshot counts.

    Args:
        store: where they go.
        owner: is asked before one counts.
    """

    def __init__(self, store: SnapshotStore, owner: Owner) -> None:
        self._store, self._owner = store, owner
        self._thread = ThreadPoolExecutor(1, "snapshot")
        self._staging = Staging()
        self._writing: tuple[Moment, Future[str]] | None = None
        self._rest: Future[None] | None = None
        """What is done without being waited for."""

    @property
    def busy(self) -> bool:
        """Whether no other snapshot can be taken now.

        Raises:
            OSError: what was done behind the last one failed.
        """
        if self._rest is not None and self._rest.done():
            self._rest.result()
            self._rest = None
        return self._writing is not None or self._rest is not None

    @property
    def written(self) -> bool:
        """Whether there is one to `count`, at once."""
        return self._writing is not None and self._writing[1].done()

    @property
    def writing(self) -> bool:
        """Whether there is one to `count`, now or later."""
        return self._writing is not None

    def take(self, moment: Moment) -> bool:
        """Have this moment written, unless busy; what it views may change from here on.

        Returns:
            False where memory for so much has to be got ready first: then there is nothing to be counted, and when it
            is no longer busy it can take another moment.
        """
        if not self._staging.fits(moment.arrays):
            self._rest = self._thread.submit(self._staging.reserve)
            return False
        kept = replace(moment, arrays=self._staging.copy(moment.arrays, beside=self._thread))
        self._writing = kept, self._thread.submit(self._write, kept)
        return True

    def count(self) -> tuple[str, Moment]:
        """Wait for the snapshot to be written and have it count: its name, and what was taken.

        Raises:
            StreamctrError: as `SnapshotStore.save`; it does not count.
        """
        assert self._writing is not None
        (moment, written), self._writing = self._writing, None
        name = self._store.count(written.result, lambda: self._owner.commit(moment.offsets))
        self._rest = self._thread.submit(self._settle, name)
        return name, moment

    def save(self, moment: Moment) -> str:
        """Write it and have it count while the run waits: nothing is copied.

        Raises:
            StreamctrError: as `count`.
        """
        self.rest()
        name = self._store.count(lambda: self._write(moment), lambda: self._owner.commit(moment.offsets))
        self._store.settle(name)
        return name

    def rest(self) -> None:
        """Wait for what is done behind a snapshot.

        Raises:
            OSError: it failed.
        """
        if self._rest is not None:
            self._rest.result()
            self._rest = None

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()

    def _write(self, moment: Moment) -> str:
        finite = [name for name, array in moment.arrays.items() if _is_weight(name, array)]
        return self._store.write(moment.taken, moment.arrays, moment.about, finite)

    def _settle(self, name: str) -> None:
        self._store.settle(name)
        self._staging.reserve()


def _is_weight(name: str, array: Any) -> bool:
    return name.startswith("trainer/learner/") and np.issubdtype(array.dtype, np.floating)
