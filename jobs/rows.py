"""Where a learner's rows come from: files that a join has left, or the topic of one that goes on."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from connectors.logs import read_samples
from jobs.joined import JoinEnd
from jobs.owner import Offsets
from jobs.runfile import RunConfig
from streamctr.errors import ConfigError, DataError
from streamctr.samples import SampleBatch

if TYPE_CHECKING:
    from connectors.kafka.samplereader import SampleReader

_ELSEWHERE: Final = (
    "kafka.samples: samples came from {was} and come from {now} now; take the change back, or learn anew with --fresh"
)
_NOTHING: Final = JoinEnd(0, 0, [], {}, {"final": 0, "open": 0}, {"offered": {}, "claimed": {}}, {})


class Rows(Protocol):
    """The emission log, from its first row on."""

    @property
    def joined(self) -> JoinEnd:
        """What is known of the events behind the rows that `batch` gave, at least."""
        ...

    def batch(self, first: int) -> SampleBatch | None:
        """The next rows, of which `first` is the first; None where there are none, or none yet.

        Raises:
            DataError: they are gone.
        """
        ...

    def is_over(self) -> bool:
        """Where `batch` gave None: whether it always will."""
        ...

    def again(self) -> Iterator[SampleBatch]:
        """All rows, from the first one on.

        Raises:
            ConfigError: they come only once.
        """
        ...

    def refused(self, rows: int, exactly: bool) -> list[str]:
        """In words, that there are fewer rows than before, or not exactly as many."""
        ...

    def positions(self) -> str:
        """Where `batch` goes on, besides the ordinal of the first row: what a snapshot keeps."""
        ...

    def seek(self, positions: str) -> None:
        """Go to what `positions` said.

        Raises:
            ConfigError: it was of rows that came from elsewhere.
            DataError: what is next is gone.
        """
        ...

    def offsets(self) -> Offsets:
        """Of a topic, what is read next."""
        ...

    def close(self) -> None:
        """Give back files and sockets."""
        ...


class FileRows:
    """Rows in a folder, as far as the last join said."""

    def __init__(self, folder: Path, joined: JoinEnd) -> None:
        self.joined, self._folder = joined, folder
        self._batches: Iterator[SampleBatch] | None = None

    def batch(self, first: int) -> SampleBatch | None:
        """As in `Rows`."""
        if self._batches is None:
            self._batches = self._from(first)
        batch = next(self._batches, None)
        if batch is None:
            self._batches = None
        return batch

    def is_over(self) -> bool:
        """As in `Rows`."""
        return True

    def again(self) -> Iterator[SampleBatch]:
        """As in `Rows`."""
        return self._from(0)

    def refused(self, rows: int, exactly: bool) -> list[str]:
        """As in `Rows`."""
        now = self.joined.rows
        return [f"{self._folder}: {rows:,} rows are now {now:,}"] if now < rows or (exactly and now != rows) else []

    def positions(self) -> str:
        """As in `Rows`."""
        return ""

    def seek(self, positions: str) -> None:
        """As in `Rows`."""
        if positions:
            raise ConfigError(_ELSEWHERE.format(was="a topic", now="files"))

    def offsets(self) -> Offsets:
        """As in `Rows`."""
        return {}

    def close(self) -> None:
        """As in `Rows`."""

    def _from(self, first: int) -> Iterator[SampleBatch]:
        end = self.joined.rows
        for batch in read_samples(self._folder, first, end):
            if batch.ordinal[0] != first:
                break
            first = int(batch.ordinal[-1]) + 1
            yield batch
        if first < end:
            raise DataError(
                f"{self._folder} lacks row {first:,} of the {end:,} that were joined; run streamctr join again"
            )


class TopicRows:
    """Rows of a topic, in which a join goes on publishing.

    Args:
        reader: of the topic.
        config: of this learner.
        topic: its name.
        until_end: whether the end of the join's input is the end.
    """

    def __init__(self, reader: "SampleReader", config: RunConfig, topic: str, until_end: bool) -> None:
        self.joined = _NOTHING
        self._reader, self._config, self._topic, self._until_end = reader, config, topic, until_end

    def batch(self, first: int) -> SampleBatch | None:
        """As in `Rows`; what a round says is known before its rows are learned."""
        came = self._reader.poll()
        if came is None:
            return None
        self._learn_facts()
        return came.rows

    def is_over(self) -> bool:
        """As in `Rows`."""
        return self._until_end and bool(self._reader.facts.get("ended")) and self._reader.at_end()

    def again(self) -> Iterator[SampleBatch]:
        """As in `Rows`."""
        raise ConfigError(
            f"--epochs: the samples come from topic {self._topic}, once; for several epochs join into files, without "
            "kafka.samples"
        )

    def refused(self, rows: int, exactly: bool) -> list[str]:
        """As in `Rows`: the reader misses what is gone."""
        return []

    def positions(self) -> str:
        """As in `Rows`."""
        return self._reader.positions()

    def seek(self, positions: str) -> None:
        """As in `Rows`."""
        if not positions:
            raise ConfigError(_ELSEWHERE.format(was="files", now="a topic"))
        self._reader.seek(positions)
        if self._reader.facts:
            self._learn_facts()

    def offsets(self) -> Offsets:
        """As in `Rows`."""
        return self._reader.offsets()

    def close(self) -> None:
        """As in `Rows`."""
        self._reader.close()

    def _learn_facts(self) -> None:
        """Take over what the newest round said.

        Raises:
            ConfigError: it was joined with another config.
        """
        said = replace(JoinEnd.of(self._reader.facts), rows=self._reader.next)
        if said.config != self.joined.config:
            said.refuse_others(self._config, f"topic {self._topic}")
        self.joined = said
