"""What is run: `replay`, `consume`, `join` and `learn` as whoever drives them sees them."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from jobs.owner import Offsets
from streamctr.ports import Arrays

Say = Callable[[str], None]
About = Mapping[str, Any]
"""What a snapshot says of itself."""


class Task(Protocol):
    """What is run: it advances, a block at a time, from where its newest snapshot stands to its end."""

    command: str
    """Its name on the command line, and in its snapshots."""
    follows: tuple[str, ...]
    """Commands whose snapshots it goes on from."""
    unit: str
    """What it takes: events or rows."""

    @property
    def taken(self) -> int:
        """How many it has taken: what a snapshot is called by."""
        ...

    @property
    def config(self) -> dict[str, Any]:
        """The resolved config, as far as it decides what comes out: a resume may not change it."""
        ...

    @property
    def total(self) -> int:
        """What `done` comes to in the end."""
        ...

    @property
    def done(self) -> int:
        """How much is behind it."""
        ...

    def begin(self, tell: Say) -> None:
        """There is no snapshot: start from nothing, whatever was written before."""
        ...

    def restore(self, arrays: Arrays, about: About) -> None:
        """Go on from a snapshot; what was written behind it is forgotten."""
        ...

    def refused(self, about: About) -> list[str]:
        """What is asked for besides the config, and cannot go on from a snapshot that says this of itself."""
        ...

    def advance(self, tell: Say) -> bool:
        """Take one block; False when there is no more."""
        ...

    def is_over(self, about: About) -> bool:
        """Whether such a snapshot was taken behind `finish`, as far as what is asked for now goes."""
        ...

    def finish(self) -> None:
        """No more is to come for now."""
        ...

    def about(self, over: bool) -> dict[str, Any]:
        """What its snapshots say of themselves, as JSON can hold it; `over` behind `finish`."""
        ...

    def state(self) -> Arrays:
        """As in `Stateful`."""
        ...

    def offsets(self) -> Offsets:
        """Of topics, what is read next; empty for files."""
        ...

    def report(self) -> dict[str, Any]:
        """What is worth a line in the log now and then; empty for nothing."""
        ...
