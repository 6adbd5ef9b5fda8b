"""Record batches as columns: kafka-python unpacks them record by record in Python, which costs ten times the rest.

Everything else of a fetch stays the client's: codecs, checksums, transactions, positions. Legend: N records.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from kafka import errors
from kafka.consumer.fetcher import Fetcher
from numpy.typing import NDArray

from streamctr.kernel import kernel
from streamctr.ports import Original

BATCHES_AT_ONCE: Final = 500
"""How many a poll unpacks, at most: a batch is what a producer sent at a time, one record or a MiB of them."""

_OFFSET, _TIME, _KEY, _KEY_SIZE, _VALUE, _VALUE_SIZE, _REST = range(7)


class Batch:
    """The records of one batch from an offset on, in order.

    Args:
        batch: the client's, of format 2.
        first: the offset.

    Raises:
        CorruptRecordError: it holds no records.
        UnsupportedCodecError: it is packed by a codec that is not here.
    """

    def __init__(self, batch: Any, first: int) -> None:
        batch._maybe_uncompress()
        self._data = bytes(batch._buffer)
        self._bytes = np.frombuffer(self._data, np.uint8)
        columns_NC = np.empty((batch.records_count, _REST + 1), np.int64)
        if not scan(self._bytes, batch._pos, columns_NC):
            raise errors.CorruptRecordError(f"a batch at offset {batch.base_offset} holds no records of format 2")
        self._columns_NC = columns_NC[columns_NC[:, _OFFSET] >= first - batch.base_offset]
        self.offsets: NDArray[np.int64] = batch.base_offset + self._columns_NC[:, _OFFSET]
        stored = batch.timestamp_type == batch.LOG_APPEND_TIME
        given_ms = batch.first_timestamp + self._columns_NC[:, _TIME]
        self.times_ms: NDArray[np.int64] = np.full_like(given_ms, batch.max_timestamp) if stored else given_ms

    def __len__(self) -> int:
        return len(self.offsets)

    def values(self) -> list[bytes | None]:
        """N values; None for a tombstone."""
        data, begin, size = self._data, self._columns_NC[:, _VALUE], self._columns_NC[:, _VALUE_SIZE]
        found: list[bytes | None] = [data[b:e] for b, e in zip(begin.tolist(), (begin + size).tolist(), strict=True)]
        for place in np.flatnonzero(size < 0).tolist():
            found[place] = None
        return found

    def original(self, place: int) -> Original:
        """All of one record."""
        _, _, key, key_size, value, value_size, rest = self._columns_NC[place].tolist()
        headers = []
        count, at = number_at(self._bytes, rest, len(self._bytes))
        for _ in range(count):
            name, at = self._sized(at)
            content, at = self._sized(at)
            headers.append(((name or b"").decode(errors="replace"), content))
        whole, named = (self._data[b : b + n] if n >= 0 else None for b, n in ((value, value_size), (key, key_size)))
        return Original(whole, named, tuple(headers), int(self.times_ms[place]))

    def _sized(self, at: int) -> tuple[bytes | None, int]:
        size, at = number_at(self._bytes, at, len(self._bytes))
        return (None, at) if size < 0 else (self._data[at : at + size], at + size)


class WholeBatches(Fetcher.PartitionRecords):  # type: ignore[misc]
    """What was fetched of one partition; takes the place of the client's own, and gives a `Batch` for each value."""

    def _unpack_records(self, place: Any, records: Any, *deserialisers: Any) -> Any:
        return super()._unpack_records(place, _Unopened(records, self.fetch_offset), *deserialisers)


class _Unopened:
    """The client's batches, those with messages of format 2 as if each held one record: all of them."""

    def __init__(self, records: Any, first: int) -> None:
        self._records, self._first = records, first

    def next_batch(self) -> Any:
        batch = self._records.next_batch()
        if batch is None or batch.magic < 2 or batch.is_control_batch:
            return batch
        return _AsOne(batch, self._first)


class _AsOne:
    """A batch that gives itself as its only record."""

    def __init__(self, batch: Any, first: int) -> None:
        self._batch, self._first = batch, first

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator["_Whole"]:
        batch = self._batch
        if batch.records_count:
            yield _Whole(Batch(batch, self._first), batch.last_offset, batch.max_timestamp, batch.size_in_bytes)


@dataclass(frozen=True, slots=True)
class _Whole:
    """What the client takes for a record."""

    value: Batch
    offset: int
    timestamp: int
    size_in_bytes: int
    timestamp_type: int = 0
    key: None = None
    headers: tuple[()] = ()
    checksum: None = None

    def validate_crc(self) -> bool:
        """The batch's was checked."""
        return True


@kernel
def number_at(data: NDArray[np.uint8], at: int, end: int) -> tuple[int, int]:
    """A number, zigzag-encoded in sevens of bits, the lowest first; and the place behind it, -1 where it has no end."""
    number = shift = 0
    while at < end and shift < 64:
        byte = int(data[at])
        number |= (byte & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if byte < 0x80:
            return ((number >> 1) & 0x7FFFFFFFFFFFFFFF) ^ -(number & 1), at
    return 0, -1


@kernel
def scan(data: NDArray[np.uint8], at: int, columns_NC: NDArray[np.int64]) -> bool:
    """Where the parts of N records stand: a column each, as the names above say; whether there are so many.

    A record is its size, attributes (a byte), and as numbers the time and the offset behind the batch's, then key and
    value, each behind its size (-1: none), and headers. Source: Kafka protocol guide, record batch, format 2.
    """
    for row in range(len(columns_NC)):
        size, at = number_at(data, at, len(data))
        if at < 0 or size < 1 or at + size > len(data):
            return False
        behind = at + size
        columns_NC[row, _TIME], at = number_at(data, at + 1, behind)
        if at >= 0:
            columns_NC[row, _OFFSET], at = number_at(data, at, behind)
        for column in (_KEY, _VALUE):
            if at < 0:
                return False
            size, at = number_at(data, at, behind)
            columns_NC[row, column], columns_NC[row, column + 1] = at, size
            at = at + max(size, 0) if at >= 0 and size >= -1 else -1
            if at > behind:
                return False
        columns_NC[row, _REST] = at
        at = behind
    return True
