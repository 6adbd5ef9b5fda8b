"""Rounds: how rows of the emission log stand in messages of a topic. Legend: P partitions.

A round holds the rows with ordinals in [first, end): one message for every partition, sent in one transaction, so that
a reader either finds all of them or none. How rounds are cut means nothing: readers go by the ordinals.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa

from connectors.columns import from_arrow, to_arrow
from connectors.kafka.config import KafkaConfig
from streamctr.errors import DataError
from streamctr.samples import SampleBatch

Headers = Sequence[tuple[str, bytes | None]]

_ROUND: Final = "streamctr-round"
_FACTS: Final = "streamctr-facts"
ANEW: Final = "join into a new topic with --fresh, with retention.ms=-1 or more than a learner may be away"
"""What to do where rows are gone."""
_PACKED: Final = pa.ipc.IpcWriteOptions(compression="zstd")


@dataclass(frozen=True, slots=True)
class Silence:
    """A partition of events that was not waited for: what it brings from `number` on, older than this W, is late."""

    topic: str
    partition: int
    number: int
    """The offset of its next message."""
    watermark_ms: int


@dataclass(frozen=True, slots=True)
class Round:
    """What every message of a round says of it."""

    run: str
    """Of which run it is."""
    log: str
    """Drawn when the log was begun: another one of the same run is told from it."""
    partitions: int
    """Of the topic: a row stands in the one that its root's hash names, modulo this."""
    first: int = 0
    end: int = 0
    watermark_ms: int = 0
    """W: all events before it were released when this was sent."""
    silent: tuple[Silence, ...] = ()
    """Partitions of events that were silent since the last round."""

    def headers(self, facts: bytes | None) -> list[tuple[str, bytes]]:
        """Of a message; `facts` go with that of partition 0."""
        own = (_ROUND, orjson.dumps(asdict(self)))
        return [own] if facts is None else [own, (_FACTS, facts)]


def values_of(batch: SampleBatch, partitions: int) -> list[bytes]:
    """The rows of each partition, in order, as an Arrow stream; empty where it has none. P values."""
    of_row = (batch.root % np.uint64(partitions)).astype(np.int64)
    return [_packed(batch.take(of_row == partition)) for partition in range(partitions)]


def rows_of(value: bytes | None) -> SampleBatch | None:
    """The rows of a message; None where it has none."""
    if not value:
        return None
    with pa.ipc.open_stream(value) as stream:
        return from_arrow(stream.read_next_batch())


def read_headers(headers: Headers, where: str) -> tuple[Round, dict[str, Any] | None]:
    """What the message at `where` says of its round, and the facts of partition 0.

    Raises:
        DataError: it is not of a round.
    """
    found: Mapping[str, bytes | None] = dict(headers)
    try:
        said = orjson.loads(found[_ROUND] or b"")
        silent = tuple(Silence(**one) for one in said.pop("silent"))
        facts = found.get(_FACTS)
        return Round(**said, silent=silent), None if facts is None else orjson.loads(facts)
    except (KeyError, TypeError, orjson.JSONDecodeError):
        message = f"kafka: {where} is no part of an emission log; name another topic as kafka.samples"
        raise DataError(message) from None


def samples_topic(config: KafkaConfig) -> str:
    """Its name, where there is one."""
    assert config.samples is not None
    return config.samples


def refuse_others(one: Round, known: Round, topic: str) -> None:
    """A round of another run or log, or of a topic with other partitions.

    Raises:
        DataError: it is such a one.
    """
    if one.run != known.run:
        raise DataError(
            f"kafka: {topic} holds the emission log of another run ({one.run}, this is {known.run}); name a topic of "
            "its own as kafka.samples, or delete that one"
        )
    if one.log != known.log:
        raise DataError(f"kafka: {topic} was written anew since; start anew with --fresh")
    if one.partitions != known.partitions:
        raise DataError(
            f"kafka: {topic} had {one.partitions} partitions when it was written and has {known.partitions}, so rows "
            f"would be looked for in the wrong ones; {ANEW}"
        )


def _packed(batch: SampleBatch) -> bytes:
    if not len(batch):
        return b""
    records, out = to_arrow(batch), pa.BufferOutputStream()
    with pa.ipc.new_stream(out, records.schema, options=_PACKED) as stream:
        stream.write_batch(records)
    packed: bytes = out.getvalue().to_pybytes()
    return packed
