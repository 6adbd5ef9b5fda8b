"""Events and logs in memory: real implementations of the ports, which tests and notebooks use."""

from dataclasses import dataclass, field
from typing import Any

import orjson

from streamctr.ports import RawBlock
from streamctr.samples import SampleBatch


@dataclass(frozen=True, slots=True)
class Partition:
    """Lines of one stage, in order."""

    stage: int
    lines: tuple[bytes, ...]


class MemorySource:
    """Partitions of lines, polled a few at a time.

    >>> source = MemorySource([Partition(0, (b"{}", b"[]"))], block_lines=1)
    >>> source.poll(0).payload, source.poll(0).ended
    (b'{}\\n', True)
    """

    def __init__(self, partitions: list[Partition], block_lines: int = 1000) -> None:
        self._partitions, self._block_lines = partitions, block_lines
        self._next = [0] * len(partitions)

    @property
    def partitions(self) -> int:
        """How many there are."""
        return len(self._partitions)

    def poll(self, partition: int) -> RawBlock:
        """The next few lines of one partition."""
        begin, lines = self._next[partition], self._partitions[partition].lines
        end = self._next[partition] = min(begin + self._block_lines, len(lines))
        return RawBlock(
            partition=partition,
            stage=self._partitions[partition].stage,
            path=f"memory-{partition}",
            first_line=begin + 1,
            payload=b"".join(line + b"\n" for line in lines[begin:end]),
            file_ended=end == len(lines),
            ended=end == len(lines),
        )

    def positions(self) -> str:
        """The next line of each partition, as JSON."""
        return orjson.dumps(self._next).decode()

    def seek(self, positions: str) -> None:
        """Go to what `positions` said; partitions that came after it stand behind the others."""
        said = orjson.loads(positions)
        self._next = said + [0] * (len(self._partitions) - len(said))

    def close(self) -> None:
        """Nothing to give back."""


@dataclass
class MemoryLog:
    """Records in a list; how many there are says how far it goes."""

    records: list[dict[str, Any]] = field(default_factory=list)

    def write(self, records: list[dict[str, Any]]) -> None:
        """Append."""
        self.records += records

    def flush(self) -> str:
        """The number of records."""
        return str(len(self.records))

    def truncate(self, extent: str) -> None:
        """Keep the first records only."""
        del self.records[int(extent or 0) :]

    def close(self) -> None:
        """Nothing to give back."""


@dataclass
class MemorySamples:
    """The emission log as a list of batches; how many there are says how far it goes."""

    batches: list[SampleBatch] = field(default_factory=list)

    def write(self, batch: SampleBatch) -> None:
        """Append rows."""
        self.batches.append(batch)

    def flush(self) -> str:
        """The number of batches."""
        return str(len(self.batches))

    def truncate(self, extent: str) -> None:
        """Keep the first batches only."""
        del self.batches[int(extent or 0) :]

    def close(self) -> None:
        """Nothing to give back."""
