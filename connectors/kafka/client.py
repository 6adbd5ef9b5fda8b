"""kafka-python's consumer with its traps closed: partitions read from offsets that the caller sets, nothing committed.

It is never given a deserialiser: after an exception in one, its `poll` would not return again.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

from kafka import KafkaConsumer, TopicPartition, errors
from kafka.admin import KafkaAdminClient

from connectors.kafka.config import KafkaConfig
from connectors.kafka.login import REQUEST_MS, Overheard, connect, in_words
from streamctr.errors import DataError, TopicError

Place = tuple[str, int]
"""A partition: its topic and its number."""

_CLOSE_MS: Final = 3_000
_ANSWER_MS: Final = 1_000
"""Short: a signal that comes meanwhile is to be seen soon."""


class OutOfRangeError(Exception):
    """The brokers do not have what is to be read next; `wanted` are its offsets."""

    def __init__(self, wanted: Mapping[Place, int]) -> None:
        super().__init__(wanted)
        self.wanted = dict(wanted)


class KafkaClient:
    """All partitions of some topics; of messages in transactions those that were committed.

    Args:
        config: where the brokers are, and by what one is let in.
        topics: all that is read.

    Raises:
        ContactError: no broker answers.
        LoginError: a broker refuses the login, or wants one.
        AccessError: a topic may not be read.
        TopicError: there is no such topic.
        ConfigError: a secret or a certificate cannot be read.
    """

    def __init__(self, config: KafkaConfig, topics: Sequence[str]) -> None:
        self._config = config
        self._log = Overheard()
        try:
            self.places = _partitions(config, self._log, topics)
            self._consumer = connect(
                KafkaConsumer,
                config,
                self._log,
                auto_offset_reset="none",  # never read on elsewhere without a word
                enable_auto_commit=False,
                allow_auto_create_topics=False,
                isolation_level="read_committed",
                max_poll_records=config.max_poll_records,
            )
        except BaseException:
            self._log.close()
            raise
        self._log.lines.clear()  # of attempts before the one that succeeded
        self._all = [TopicPartition(*place) for place in self.places]
        self._consumer.assign(self._all)

    def beginnings(self) -> dict[Place, int]:
        """The oldest offset of each partition."""
        with self._asking():
            return dict(self._consumer.beginning_offsets(self._all, timeout_ms=REQUEST_MS))

    def ends(self) -> dict[Place, int]:
        """One behind the newest offset of each partition, as far as its transactions are finished."""
        with self._asking():
            return dict(self._consumer.end_offsets(self._all, timeout_ms=REQUEST_MS))

    def answers(self) -> bool:
        """Whether a broker says soon where the partitions end; whatever else is wrong, `poll` says."""
        try:
            self._consumer.end_offsets(self._all, timeout_ms=_ANSWER_MS)
        except errors.AuthorizationError:
            return True
        except errors.KafkaError:
            return False
        return True

    def since(self, time_ms: int) -> dict[Place, int]:
        """The first offset of each partition that was stored at that time or later; its end where there is none."""
        ends = self.ends()
        with self._asking():
            found = self._consumer.offsets_for_times(dict.fromkeys(self._all, time_ms), timeout_ms=REQUEST_MS)
        return {place: end if found[place] is None else found[place].offset for place, end in ends.items()}

    def go_to(self, offsets: Mapping[Place, int]) -> None:
        """Read these partitions from there on."""
        for place, offset in offsets.items():
            self._consumer.seek(TopicPartition(*place), offset)

    def poll(self, timeout_ms: int) -> dict[Place, list[Any]]:
        """Records of some partitions, in order in each; none also while no broker answers.

        Raises:
            OutOfRangeError: the brokers do not have what is next.
            DataError: a message is damaged, or packed by a codec that is not here; no `poll` may follow.
            AccessError: a topic may not be read.
        """
        with self._asking():
            try:
                return dict(self._consumer.poll(timeout_ms=timeout_ms))
            except errors.OffsetOutOfRangeError as error:
                raise OutOfRangeError({tuple(place): offset for place, offset in error.args[0].items()}) from None
            except (errors.CorruptRecordError, errors.UnsupportedCodecError) as error:
                raise DataError(f"kafka: a message cannot be unpacked: {error}; {self._next()}") from None

    def position(self, place: Place) -> int:
        """The next offset of a partition: behind what `poll` gave, and behind offsets that hold no message."""
        with self._asking():
            return int(self._consumer.position(TopicPartition(*place), timeout_ms=REQUEST_MS))

    def close(self) -> None:
        """Leave the brokers."""
        self._consumer.close(autocommit=False, timeout_ms=_CLOSE_MS)
        self._log.close()

    def _asking(self) -> AbstractContextManager[None]:
        return in_words(self._config, self._log)

    def _next(self) -> str:
        at = ", ".join(f"{name_of(place)} at {self._consumer.position(place)}" for place in self._all)
        return f"it is one of those next to be read: {at}"


def name_of(place: Place) -> str:
    """A partition as messages name it."""
    return f"{place[0]}/{place[1]}"


def gap_of(place: Place, offset: int, begin: int, end: int) -> str:
    """What is wrong with reading on at an offset; empty where nothing is."""
    if offset < begin:
        return f"{name_of(place)} was read up to {offset} and now begins at {begin}: {begin - offset} messages are gone"
    if offset > end:
        return f"{name_of(place)} was read up to {offset} and now ends at {end}: the topic was created anew"
    return ""


def _partitions(config: KafkaConfig, log: Overheard, topics: Sequence[str]) -> list[Place]:
    """All partitions of the topics, by topic and number.

    Raises:
        AccessError: a topic may not be read.
        TopicError: there is no such topic.
    """
    with connect(KafkaAdminClient, config, log) as admin, in_words(config, log):
        described = admin.describe_topics(list(topics))
        wrong: dict[Any, list[str]] = {}
        for topic in described:
            wrong.setdefault(errors.for_code(topic["error_code"]), []).append(topic["name"])
        wrong.pop(errors.NoError, None)
        if missing := wrong.pop(errors.UnknownTopicOrPartitionError, None):
            raise TopicError(f"kafka: there is no topic {', '.join(missing)}; create it, or correct kafka.topic")
        for kind, names in wrong.items():
            raise kind(names)
    return sorted((topic["name"], part["partition_index"]) for topic in described for part in topic["partitions"])
