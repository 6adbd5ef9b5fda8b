"""What the outside must provide, and what every stateful part offers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from streamctr.samples import SampleBatch

Arrays = dict[str, NDArray[Any]]
"""Named arrays: the only form in which state is saved. Texts travel as bytes in a uint8 array."""

LINE_LIMIT_BYTES: Final = 1 << 24
"""A longer line comes from its source cut to one byte more than this, and is rejected."""


class Stateful(Protocol):
    """A part that can stop anywhere and go on elsewhere, bit for bit."""

    def state(self) -> Arrays:
        """Everything that the part remembers, as named arrays; views are allowed, and read-only ones never change."""
        ...

    def restore(self, arrays: Arrays) -> None:
        """Become the part that gave `arrays`; copies what it keeps."""
        ...


@dataclass(frozen=True, slots=True)
class Original:
    """A message as its source had it, where a line does not hold all of it."""

    value: bytes | None
    key: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    time_ms: int
    """When it was stored, or what its producer said; negative where nobody did."""


@dataclass(frozen=True, slots=True)
class RawBlock:
    """Whole messages of one partition as they came; the first is line (or row, from 1) `first_line` of its file."""

    partition: int
    stage: int
    """The stage of all messages; -1 where a field of theirs says it."""
    path: str
    first_line: int
    payload: bytes
    """Complete lines; only the last may lack its newline. Empty where the messages are in `rows`."""
    file_ended: bool
    """This block is the last of `path`."""
    ended: bool
    """Nothing will come from this partition after this block, which may be empty."""
    kind: Literal["json", "csv", "arrow"] = "json"
    """How the messages are written: JSON objects, CSV records, or rows of columns."""
    header: tuple[str, ...] = ()
    """Names of a CSV record's fields."""
    delimiter: str = ","
    """Between a CSV record's fields."""
    rows: Any = None
    """The messages of kind `arrow`, a `pyarrow.RecordBatch`."""
    numbers: NDArray[np.int64] | None = None
    """The number of each line, where they are not consecutive: offsets in a topic."""
    reasons: Mapping[int, str] = field(default_factory=dict)
    """By line, from 0: why it is refused, where its source knows better than who reads it."""
    latest_ms: NDArray[np.int64] | None = None
    """By line: an event that says it happens behind this is refused; None where nothing is known of that."""
    original: Callable[[int], Original] | None = None
    """The message of a line, from 0, for dead letters; None where lines hold all there is."""
    idle: bool = False
    """All that this partition has was given out, and nothing came for long: it holds nobody up until it brings more."""

    def numbers_of(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """The numbers of lines or rows that stand at these places in the block, from 0."""
        return self.first_line + places if self.numbers is None else self.numbers[places]

    def number_of(self, place: int) -> int:
        """The number of one of them."""
        return self.first_line + place if self.numbers is None else int(self.numbers[place])


class Source(Protocol):
    """Where events come from: partitions of messages that are in order within themselves."""

    @property
    def partitions(self) -> int:
        """How many partitions there are; more may come, behind those that are there."""
        ...

    def poll(self, partition: int) -> RawBlock:
        """The next block, of this partition or of one that was idle; `ended` when there is no more.

        Where nothing has come yet, an empty block after a short while.
        """
        ...

    def positions(self) -> str:
        """JSON of where the next `poll` of each partition reads: what a snapshot keeps."""
        ...

    def seek(self, positions: str) -> None:
        """Go to what `positions` said.

        Raises:
            DataError: a file is gone, shorter than before, or no longer the same.
        """
        ...

    def close(self) -> None:
        """Give back files and sockets."""
        ...


class Sink(Protocol):
    """An append-only log of records: dead letters, metrics."""

    def write(self, records: list[dict[str, Any]]) -> None:
        """Append; on disk after `flush`."""
        ...

    def flush(self) -> str:
        """Make everything durable; how far it goes, as a text that a snapshot keeps."""
        ...

    def truncate(self, extent: str) -> None:
        """Go on behind what `flush` said, or from nothing where that is empty; what came after it is forgotten."""
        ...

    def close(self) -> None:
        """Flush and give the file back."""
        ...


class SampleSink(Protocol):
    """The emission log, kept."""

    def write(self, batch: SampleBatch) -> None:
        """Append rows; on disk after `flush`."""
        ...

    def flush(self) -> str:
        """Make everything durable; how far it goes, as a text that a snapshot keeps."""
        ...

    def truncate(self, extent: str) -> None:
        """Go on behind what `flush` said, or from nothing where that is empty; what came after it is forgotten."""
        ...

    def close(self) -> None:
        """Flush and give the file back."""
        ...


class ScoreSink(Protocol):
    """The scores of roots, kept."""

    def write(self, ordinal: NDArray[np.int64], logits_NS: NDArray[np.float32]) -> None:
        """Append the conditional logits of N roots, by the ordinals of their first rows; on disk after `flush`."""
        ...

    def flush(self) -> str:
        """Make everything durable; how far it goes, as a text that a snapshot keeps."""
        ...

    def truncate(self, extent: str) -> None:
        """Go on behind what `flush` said, or from nothing where that is empty; what came after it is forgotten."""
        ...

    def close(self) -> None:
        """Flush and give the file back."""
        ...


def pack_text(text: str) -> NDArray[np.uint8]:
    """A text as an array that snapshots can hold."""
    return np.frombuffer(text.encode(), np.uint8)


def unpack_text(array: NDArray[Any]) -> str:
    """The text that `pack_text` packed."""
    return array.tobytes().decode()
