"""kafka-python's consumer with its traps closed: it is never given a deserialiser, and partitions are never paused.

After an exception in a deserialiser its `poll` would not return again; a paused partition may be lost for ever.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any, Final

import numpy as np
from kafka import KafkaConsumer, TopicPartition, errors
from kafka.admin import KafkaAdminClient

from connectors.kafka.batches import BATCHES_AT_ONCE, Batch, WholeBatches
from connectors.kafka.client import FETCH_WAIT_MS, OutOfRangeError, Place, Records, name_of, size_of
from connectors.kafka.config import KafkaConfig
from connectors.kafka.login import REQUEST_MS, Overheard, connect, in_words, no_topic
from streamctr.errors import ContactError, DataError, LoginError
from streamctr.ports import Original

_CLOSE_MS: Final = 3_000
_POLL_BYTES: Final = 1 << 20
"""Unpacked at a time, about."""
_ANSWER_MS: Final = 1_000
"""Short: a signal that comes meanwhile is to be seen soon."""


class KafkaPythonClient:
    """The client that is always there, as `Client` says.

    Args:
        config: where the brokers are, and by what one is let in.
        topics: all that is read.
    """

    def __init__(self, config: KafkaConfig, topics: Sequence[str]) -> None:
        self._config, self._topics = config, list(topics)
        self._log = Overheard()
        try:
            self.places, self._topic_ids = self._describe()
            self._consumer = connect(
                KafkaConsumer,
                config,
                self._log,
                auto_offset_reset="none",  # never read on elsewhere without a word
                enable_auto_commit=False,
                allow_auto_create_topics=False,
                isolation_level="read_committed",
                max_poll_records=BATCHES_AT_ONCE,  # for it, a batch is a record; `poll` asks for fewer
                fetch_max_wait_ms=FETCH_WAIT_MS,
                max_partition_fetch_bytes=config.fetch_bytes,
                fetch_max_bytes=max(config.fetch_bytes, config.buffer_bytes),
            )
        except BaseException:
            self._log.close()
            raise
        self._log.lines.clear()  # of attempts before the one that succeeded
        self._consumer._fetcher.PartitionRecords = WholeBatches
        self._most, self._poll_bytes = 1, min(_POLL_BYTES, config.buffer_bytes // 8)
        self._consumer.assign(self._all())

    def beginnings(self) -> dict[Place, int]:
        """As `Client` says."""
        with self._asking():
            return _by_place(self._consumer.beginning_offsets(self._all(), timeout_ms=REQUEST_MS))

    def ends(self) -> dict[Place, int]:
        """As `Client` says."""
        with self._asking():
            return _by_place(self._consumer.end_offsets(self._all(), timeout_ms=REQUEST_MS))

    def since(self, time_ms: int) -> dict[Place, int]:
        """As `Client` says."""
        ends = self.ends()
        with self._asking():
            found = self._consumer.offsets_for_times(dict.fromkeys(self._all(), time_ms), timeout_ms=REQUEST_MS)
        return {place: end if found[place] is None else found[place].offset for place, end in ends.items()}

    def go_to(self, offsets: Mapping[Place, int]) -> None:
        """As `Client` says."""
        for place, offset in offsets.items():
            self._consumer.seek(TopicPartition(*place), offset)

    def read_only(self, offsets: Mapping[Place, int]) -> None:
        """As `Client` says."""
        self._consumer.assign([TopicPartition(*place) for place in offsets])
        self.go_to(offsets)

    def poll(self, timeout_ms: int) -> list[Records]:
        """As `Client` says."""
        with self._asking():
            try:
                polled = self._consumer.poll(timeout_ms=timeout_ms, max_records=self._most)
            except errors.OffsetOutOfRangeError as error:
                raise OutOfRangeError({tuple(place): offset for place, offset in error.args[0].items()}) from None
            except errors.UnsupportedCodecError as error:
                raise DataError(f"kafka: {_missing(str(error))}; {self._next()}") from None
            except errors.CorruptRecordError as error:
                raise DataError(f"kafka: a message cannot be unpacked: {error}; {self._next()}") from None
        found = [_columns((at.topic, at.partition), record) for at, records in polled.items() for record in records]
        if found:
            batch_bytes = max(1, sum(records.size_bytes for records in found) // len(found))
            self._most = min(max(1, self._poll_bytes // batch_bytes), BATCHES_AT_ONCE)
        return [records for records in found if len(records.offsets)]

    def position(self, place: Place) -> int:
        """As `Client` says."""
        with self._asking():
            return int(self._consumer.position(TopicPartition(*place), timeout_ms=REQUEST_MS))

    def look_for_places(self) -> list[Place]:
        """As `Client` says."""
        if self.answers():  # which does not take long where nobody does
            with suppress(ContactError, LoginError):  # one that dies just now may look like one that refuses
                places, self._topic_ids = self._describe()
                self.places = self._known(places)
        return self.places

    def topic_ids(self) -> dict[str, str]:
        """As `Client` says."""
        return dict(self._topic_ids)

    def answers(self) -> bool:
        """As `Client` says."""
        try:
            self._consumer.end_offsets(self._all(), timeout_ms=_ANSWER_MS)
        except errors.AuthorizationError:
            return True
        except errors.KafkaError:
            return False
        return True

    def close(self) -> None:
        """As `Client` says."""
        self._consumer.close(autocommit=False, timeout_ms=_CLOSE_MS)
        self._log.close()

    def _all(self) -> list[TopicPartition]:
        return [TopicPartition(*place) for place in self.places]

    def _asking(self) -> AbstractContextManager[None]:
        return in_words(self._config, self._log)

    def _next(self) -> str:
        assigned = sorted(self._consumer.assignment())
        at = ", ".join(f"{name_of(place)} at {self._consumer.position(place)}" for place in assigned)
        return f"it is one of those next to be read: {at}"

    def _known(self, places: Sequence[Place]) -> list[Place]:
        """Those that the consumer has heard of; of the others it hears because it is asked for them, and fails."""
        known = [at for at in places if at in self.places or at[1] in self._consumer.partitions_for_topic(at[0])]
        if len(known) < len(places):
            unknown = [TopicPartition(*place) for place in places if place not in known]
            with suppress(KeyError, errors.KafkaError):
                self._consumer.beginning_offsets(unknown, timeout_ms=_ANSWER_MS)
        return known

    def _describe(self) -> tuple[list[Place], dict[str, str]]:
        """All partitions of the topics, by topic and number; and the topics' ids.

        Raises:
            AccessError: a topic may not be read.
            TopicError: there is no such topic.
        """
        with connect(KafkaAdminClient, self._config, self._log) as admin, in_words(self._config, self._log):
            described = admin.describe_topics(self._topics)
            wrong: dict[Any, list[str]] = {}
            for topic in described:
                wrong.setdefault(errors.for_code(topic["error_code"]), []).append(topic["name"])
            wrong.pop(errors.NoError, None)
            if missing := wrong.pop(errors.UnknownTopicOrPartitionError, None):
                raise no_topic(missing)
            for kind, names in wrong.items():
                raise kind(names)
        places = [(topic["name"], part["partition_index"]) for topic in described for part in topic["partitions"]]
        return sorted(places), {topic["name"]: topic["topic_id"] for topic in described if topic["topic_id"]}


def _by_place(offsets: Mapping[TopicPartition, int]) -> dict[Place, int]:
    return {(place.topic, place.partition): offset for place, offset in offsets.items()}


def _columns(place: Place, record: Any) -> Records:
    """A batch, or a message of an older format."""
    batch = record.value
    if isinstance(batch, Batch):
        values = batch.values()
        return Records(place, values, batch.offsets, batch.times_ms, batch.original, size_of(values))
    alone = Original(batch, record.key, tuple(record.headers), record.timestamp)
    offsets, times_ms = (np.array([number], np.int64) for number in (record.offset, record.timestamp))
    return Records(place, [batch], offsets, times_ms, lambda _: alone, size_of([batch]))


def _missing(error: str) -> str:
    """What to install for a codec, by the client's own words for it."""
    known = re.search(r"Libraries for (\w+) compression codec", error)
    if known is None:
        return f"a message cannot be unpacked: {error}"
    return (
        f"a message is packed by {known[1]}, which is not installed here; "
        f'pip install "kafka-python[{known[1]}]", or take kafka.client: confluent'
    )
