"""Messages into topics: topics are created or looked at first, and nothing that was sent goes unconfirmed."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Final

from kafka import KafkaProducer, TopicPartition, errors
from kafka.admin import ConfigResource, KafkaAdminClient, OffsetSpec

from connectors.kafka.config import KafkaConfig
from connectors.kafka.login import Overheard, connection, in_words
from streamctr.errors import DataError, TopicError
from streamctr.schema import instant_text

Message = tuple[str, bytes, bytes, int]
"""Topic, key, value, and the time of the record in ms."""

_IN_FLIGHT_BYTES: Final = 1 << 25
"""The client itself has no bound: what is sent faster than it is confirmed would fill the memory."""
_RECORD_BYTES: Final = 1 << 10
"""What a record in flight takes besides its value, about."""
_BATCH_BYTES: Final = 1 << 18
_DELIVERY_S: Final = 120
_PATIENCE_S: Final = 150
"""More than the client takes to give up a message by itself."""
_CLOSE_S: Final = 5
_DAY_MS: Final = 86_400_000

_FOREVER: Final = {
    "retention.ms": "-1",
    "cleanup.policy": "delete",
    "message.timestamp.type": "CreateTime",
    "message.timestamp.after.max.ms": str((1 << 63) - 1),  # the events of a world that is ahead of the clock, too
}
"""Of topics that are created here: what happened long ago stays, and keeps its time."""
_TOO_BIG: Final = (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)
_NOT_CREATED: Final = (
    errors.InvalidPartitionsError,
    errors.InvalidReplicationFactorError,
    errors.InvalidConfigurationError,
    errors.PolicyViolationError,
)


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as the brokers have it."""

    name: str
    partitions: int
    created: bool
    """It was not there before."""
    empty: bool
    """It holds no message."""
    settings: Mapping[str, str]
    """All of them, as texts."""

    def warnings(self, oldest_ms: int, now_ms: int) -> Iterator[str]:
        """What the brokers will do to messages from `oldest_ms` on that are sent at `now_ms`."""
        kept_ms, policy = int(self.settings["retention.ms"]), self.settings["cleanup.policy"]
        if "delete" in policy and 0 <= kept_ms < now_ms - oldest_ms:
            yield (
                f"topic {self.name} keeps records for {kept_ms / _DAY_MS:.4g} days and will delete what is sent from "
                f"{instant_text(oldest_ms)} on; set its retention.ms to -1"
            )
        if "compact" in policy:
            yield f"topic {self.name} keeps only the last message of each key; set its cleanup.policy to delete"
        if self.settings["message.timestamp.type"] != "CreateTime":
            yield f"topic {self.name} takes no times of events; set its message.timestamp.type to CreateTime"


def ensure_topics(config: KafkaConfig, names: Sequence[str], partitions: int) -> list[Topic]:
    """The named topics; those that are not there are created, without an end to what they keep.

    Args:
        config: where the brokers are.
        names: of the topics.
        partitions: of each topic that is created.

    Raises:
        TopicError: one cannot be created.
        StreamctrError: the brokers cannot be reached, or refuse.
    """
    with (
        closing(Overheard()) as heard,
        in_words(config, heard),
        closing(KafkaAdminClient(**connection(config))) as admin,
    ):
        there = set(admin.list_topics())
        missing = [name for name in names if name not in there]
        _create(admin, missing, partitions)
        counts = {topic["name"]: len(topic["partitions"]) for topic in admin.describe_topics(list(names))}
        asked = [ConfigResource("TOPIC", name) for name in names]
        found = admin.describe_configs(asked, config_filter="all")["topic"]
        full = _with_messages(admin, counts)
    settings = {name: {key: setting["value"] for key, setting in found[name].items()} for name in names}
    return [Topic(name, counts[name], name in missing, name not in full, settings[name]) for name in names]


def _with_messages(admin: Any, counts: Mapping[str, int]) -> set[str]:
    """Which of some topics, given with their numbers of partitions, hold any."""
    parts = [TopicPartition(name, part) for name, count in counts.items() for part in range(count)]
    first, end = (
        admin.list_partition_offsets(dict.fromkeys(parts, spec)) for spec in (OffsetSpec.EARLIEST, OffsetSpec.LATEST)
    )
    return {part.topic for part in parts if first[part].offset < end[part].offset}


def _create(admin: Any, names: Sequence[str], partitions: int) -> None:
    new = {"num_partitions": partitions, "replication_factor": -1, "configs": _FOREVER}
    try:
        if names:
            admin.create_topics(dict.fromkeys(names, new), wait_for_metadata=True)
    except _NOT_CREATED as error:
        raise TopicError(
            f"kafka: {', '.join(names)} cannot be created: {error}; create them by other means, with retention.ms=-1"
        ) from None


class Producer:
    """Sends messages: those of one key go to one partition, in their order, each once.

    Args:
        config: where the brokers are.
        topics: that will be sent to.

    Raises:
        StreamctrError: the brokers cannot be reached, or refuse.
    """

    def __init__(self, config: KafkaConfig, topics: Sequence[Topic]) -> None:
        # The client splits a batch that is too big for a topic, and then takes back sequence numbers that are in use.
        biggest = min(int(topic.settings["max.message.bytes"]) for topic in topics)
        self._config, self._heard = config, Overheard()
        with self._asking():
            self._client = KafkaProducer(
                **connection(config),
                acks="all",
                linger_ms=20,
                batch_size=min(_BATCH_BYTES, biggest),
                compression_type="zstd",
                delivery_timeout_ms=_DELIVERY_S * 1000,
                max_request_size=config.max_message_bytes + _RECORD_BYTES,
                allow_auto_create_topics=False,
            )
        self._topic = ""
        """Of the message that is sent or confirmed now."""
        self._pending: deque[tuple[Any, str, int]] = deque()
        """Of each message in flight, its future, topic and size."""
        self._pending_bytes = 0

    def send(self, messages: Iterable[Message]) -> None:
        """Send messages one after the other; waits while too much is on its way.

        Raises:
            DataError: a topic takes no message of this size, or of the time of one.
            StreamctrError: a message, maybe one of an earlier call, could not be delivered.
        """
        with self._asking():
            for topic, key, value, time_ms in messages:
                self._topic = topic
                future = self._client.send(topic, key=key, value=value, timestamp_ms=time_ms)
                size_bytes = len(value) + _RECORD_BYTES
                self._pending.append((future, topic, size_bytes))
                self._pending_bytes += size_bytes
                while self._pending and (self._pending[0][0].is_done or self._pending_bytes > _IN_FLIGHT_BYTES):
                    self._confirm()

    def flush(self) -> None:
        """Wait until the brokers have everything.

        Raises:
            StreamctrError: as `send`.
        """
        with self._asking():
            while self._pending:
                self._confirm()

    def close(self) -> None:
        """Give back the connection; what was not flushed may be lost."""
        try:
            self._client.close(timeout=_CLOSE_S)
        except (
            errors.KafkaError
        ):  # something is still in flight: it is given up, or the end of the program waits for it
            self._client._sender.force_close()
            self._client.close(timeout=_CLOSE_S)
        self._heard.close()

    def _confirm(self) -> None:
        future, self._topic, size_bytes = self._pending.popleft()
        self._pending_bytes -= size_bytes
        future.get(timeout=_PATIENCE_S)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """The client's exceptions in the words of this program."""
        with in_words(self._config, self._heard):
            try:
                yield
            except _TOO_BIG as error:
                raise DataError(
                    f"topic {self._topic} takes no message as big as one of these: {error}; {_BIGGER}"
                ) from None
            except errors.InvalidTimestampError as error:
                raise DataError(f"topic {self._topic} refuses the time of an event: {error}; {_LATER}") from None


_BIGGER: Final = "raise max.message.bytes of the topic and kafka.max_message_bytes, or leave the message out"
_LATER: Final = "raise message.timestamp.after.max.ms of the topic"
