"""confluent-kafka's consumer: librdkafka fetches beside Python, at several times kafka-python's rate; an extra."""

import base64
import logging
import re
import time
import uuid
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import wait
from contextlib import suppress
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

import numpy as np

from connectors.kafka.client import FETCH_WAIT_MS, OutOfRangeError, Place, Records, name_of, size_of
from connectors.kafka.config import KafkaConfig
from connectors.kafka.login import (
    REQUEST_MS,
    Trouble,
    context_of,
    no_contact,
    no_right,
    no_topic,
    protocol_of,
    read_token,
    user_of,
)
from streamctr.errors import ConfigError, ContactError, DataError, LoginError, StreamctrError
from streamctr.ports import Original

try:
    from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicCollection, TopicPartition
    from confluent_kafka.admin import AdminClient
except ImportError:
    raise ConfigError(
        'kafka.client: confluent is not installed; pip install "streamctr[confluent]", or take kafka-python'
    ) from None

_OLDEST: Final = -2
_END: Final = -1
"""Asked for in place of a time, by the protocol: the first offset; the one behind the last finished transaction."""
_ANSWER_S: Final = 1.0
"""Short: a signal that comes meanwhile is to be seen soon."""
_AGAIN_S: Final = 0.1
_MESSAGE_BYTES: Final = 1000
_FETCH_MOST_BYTES: Final = 50_000_000
_GIANT_BYTES: Final = 100_000_000
"""A message that is larger than what is asked for comes all the same, up to this size."""
_TOKEN_S: Final = 30
"""A token is read again when it is this old, so that each login has one that stands there now, nearly."""
_DAMAGED: Final = (
    KafkaError._BAD_MSG,
    KafkaError._BAD_COMPRESSION,
    KafkaError._NOT_IMPLEMENTED,
    KafkaError.MSG_SIZE_TOO_LARGE,
)
_TROUBLES: Final[tuple[tuple[str, Trouble], ...]] = (
    ("certificate verify failed", "certificate"),
    ("connecting to a PLAINTEXT broker listener", "plain port"),
    ("Unsupported SASL mechanism", "mechanism"),
    ("not valid in current SASL state", "open port"),
    ("_AUTHENTICATION", "login"),
    ("Disconnected", "left"),
)
"""What is wrong by what the client says, the surest first."""
_REASON: Final = re.compile(
    r"certificate verify failed|(?:Connect to|Failed to resolve) .*?(?= \(after|$)", re.MULTILINE
)


class ConfluentClient:
    """librdkafka's client, as `Client` says.

    Args:
        config: where the brokers are, and by what one is let in.
        topics: all that is read.
    """

    def __init__(self, config: KafkaConfig, topics: Sequence[str]) -> None:
        self._config, self._topics = config, list(topics)
        self._heard: deque[str] = deque(maxlen=200)
        self._settings = _connection(config, self._heard)
        self.places, self._topic_ids = self._describe()
        self._consumer = Consumer(self._settings | _reading(config))
        self._next: dict[Place, int] = {}
        """Of those that are read."""
        self._error: Exception | None = None
        """It came with messages, and is raised behind them."""

    def beginnings(self) -> dict[Place, int]:
        """As `Client` says."""
        return self._offsets(_OLDEST)

    def ends(self) -> dict[Place, int]:
        """As `Client` says."""
        return self._offsets(_END)

    def since(self, time_ms: int) -> dict[Place, int]:
        """As `Client` says."""
        ends = self.ends()
        return {place: ends[place] if offset < 0 else offset for place, offset in self._offsets(time_ms).items()}

    def go_to(self, offsets: Mapping[Place, int]) -> None:
        """As `Client` says."""
        self._leave(offsets.keys() & self._next.keys())
        self._enter(offsets)

    def read_only(self, offsets: Mapping[Place, int]) -> None:
        """As `Client` says."""
        moved = {place: offset for place, offset in offsets.items() if self._next.get(place) != offset}
        self._leave(self._next.keys() - offsets.keys() | moved.keys() & self._next.keys())
        self._enter(moved)

    def poll(self, timeout_ms: int) -> list[Records]:
        """As `Client` says."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        messages = self._consume(timeout_ms / 1000)
        errors = [message for message in messages if message.error() is not None]
        if errors:
            messages = [message for message in messages if message.error() is None]
        polled = [_columns(place, some) for place, some in _by_place(messages).items()]
        self._next |= {records.place: int(records.offsets[-1]) + 1 for records in polled}
        self._take_in(errors)
        if self._error is not None and not polled:
            return self.poll(0)
        return polled

    def position(self, place: Place) -> int:
        """As `Client` says."""
        return self._next[place]

    def look_for_places(self) -> list[Place]:
        """As `Client` says."""
        if self.answers():  # which does not take long where nobody does
            with suppress(ContactError, LoginError):  # one that dies just now may look like one that refuses
                places, self._topic_ids = self._describe()
                with suppress(KafkaException):  # the consumer hears of new ones, or they are for another time
                    for topic in self._topics if places != self.places else ():
                        self._consumer.list_topics(topic, timeout=_ANSWER_S)
                    self.places = places
        return self.places

    def topic_ids(self) -> dict[str, str]:
        """As `Client` says."""
        return dict(self._topic_ids)

    def answers(self) -> bool:
        """As `Client` says."""
        try:
            self._ask(_END, _ANSWER_S)
        except KafkaException as error:
            return bool(error.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED)
        return True

    def close(self) -> None:
        """As `Client` says."""
        self._consumer.close()

    def _consume(self, timeout_s: float) -> list[Message]:
        """What is here, at once; where nothing is, what comes next."""
        most = self._config.max_poll_records
        try:
            messages = self._consumer.consume(most, 0)
            if not messages and timeout_s > 0:  # it would wait until there are as many as it may give
                messages = self._consumer.consume(1, timeout_s)
                if messages and most > 1:
                    messages += self._consumer.consume(most - 1, 0)
        except KafkaException as error:
            raise self._in_words(error) from None
        return messages

    def _take_in(self, errors: Iterable[Any]) -> None:
        """Ends that were reached, and what is wrong."""
        wanted: dict[Place, int] = {}
        for message in errors:
            error, place = message.error(), (message.topic() or "", message.partition() or 0)
            if place in self._next and error.code() == KafkaError._PARTITION_EOF:
                self._next[place] = max(self._next[place], message.offset())
            elif place in self._next and error.code() == KafkaError._AUTO_OFFSET_RESET:
                wanted[place] = self._next[place]
            elif error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                self._error = no_right([place[0]])
            elif error.code() in _DAMAGED:
                self._error = DataError(
                    f"kafka: a message cannot be unpacked: {error.str()}; it is the one at {name_of(place)} "
                    f"{message.offset()}"
                )
            else:
                self._heard.append(_text(error))
        if wanted and self._error is None:
            self._error = OutOfRangeError(wanted)

    def _leave(self, places: Collection[Place]) -> None:
        if places:
            self._consumer.incremental_unassign([TopicPartition(*place) for place in places])
        for place in places:
            del self._next[place]

    def _enter(self, offsets: Mapping[Place, int]) -> None:
        if offsets:
            self._consumer.incremental_assign([TopicPartition(*place, offset) for place, offset in offsets.items()])
        self._next |= offsets

    def _offsets(self, time_ms: int) -> dict[Place, int]:
        """By time; asked again while a partition has no leader."""
        give_up_s = time.monotonic() + REQUEST_MS / 1000
        while True:
            try:
                return self._ask(time_ms, max(_ANSWER_S, give_up_s - time.monotonic()))
            except KafkaException as error:
                if time.monotonic() >= give_up_s or error.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                    raise self._in_words(error) from None
            time.sleep(_AGAIN_S)

    def _ask(self, time_ms: int, timeout_s: float) -> dict[Place, int]:
        asked = [TopicPartition(*place, time_ms) for place in self.places]
        found = self._consumer.offsets_for_times(asked, timeout=timeout_s)
        for each in found:
            if each.error is not None:
                raise KafkaException(each.error)
        return {(each.topic, each.partition): each.offset for each in found}

    def _describe(self) -> tuple[list[Place], dict[str, str]]:
        """All partitions of the topics, by topic and number; and the topics' ids.

        Raises:
            StreamctrError: as `Client` says.
        """
        admin = AdminClient(self._settings)
        asked = admin.describe_topics(TopicCollection(self._topics), request_timeout=self._config.contact / 1000)
        while wait(asked.values(), _AGAIN_S).not_done:
            admin.poll(0)  # which is where its words, and its wish for a token, come out
        admin.poll(0)
        wrong = {name: error for name, future in asked.items() if (error := future.exception()) is not None}
        codes = {name: error.args[0].code() for name, error in wrong.items()}
        if missing := [name for name, code in codes.items() if code == KafkaError.UNKNOWN_TOPIC_OR_PART]:
            raise no_topic(missing)
        if locked := [name for name, code in codes.items() if code == KafkaError.TOPIC_AUTHORIZATION_FAILED]:
            raise no_right(locked)
        for error in wrong.values():
            raise self._in_words(error)
        self._heard.clear()  # of attempts before the one that succeeded
        described = [future.result() for future in asked.values()]
        places = [(topic.name, part.id) for topic in described for part in topic.partitions]
        return sorted(places), {topic.name: _uuid(str(topic.topic_id)) for topic in described}

    def _in_words(self, error: BaseException) -> StreamctrError:
        """A client's exception, by what was heard before it."""
        if error.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            return no_right(self._topics)
        log = "\n".join(self._heard)
        reasons = _REASON.findall(log)
        trouble: Trouble = next((trouble for words, trouble in _TROUBLES if words in log), "silence")
        if trouble == "left":  # who cannot be reached either has gone away
            trouble = "silence" if reasons else "left" if self._config.sasl is None else "login"
        return no_contact(self._config, trouble, reasons[-1] if reasons else error.args[0].str())


class _Overheard(logging.Handler):
    """What the client logs, in place of a console that it would flood."""

    def __init__(self, heard: deque[str]) -> None:
        super().__init__()
        self._heard = heard

    def emit(self, record: logging.LogRecord) -> None:
        self._heard.append(record.getMessage())


def _connection(config: KafkaConfig, heard: deque[str]) -> dict[str, Any]:
    """librdkafka's settings for any of its clients, with the secrets in them.

    Raises:
        ConfigError: a secret or a certificate cannot be read.
    """
    log = logging.Logger("librdkafka")  # it stands alone: nobody else hears it
    log.addHandler(_Overheard(heard))
    settings: dict[str, Any] = {
        "bootstrap.servers": ",".join(config.servers),
        "client.id": "streamctr",
        "security.protocol": protocol_of(config),
        "socket.timeout.ms": REQUEST_MS,
        "reconnect.backoff.max.ms": 1000,
        "logger": log,
        "error_cb": lambda error: heard.append(_text(error)),
    }
    if config.tls is not None:
        context_of(config.tls)  # which says what is wrong with the files, and where
        files = {"ca": config.tls.ca, "certificate": config.tls.cert, "key": config.tls.key}
        settings |= {f"ssl.{name}.location": path for name, path in files.items() if path is not None}
    if config.sasl is not None:
        settings["sasl.mechanisms"] = config.sasl.mechanism
        if config.sasl.token is not None:
            settings["oauth_cb"] = _tokens(config.sasl.token)
        else:
            settings["sasl.username"], settings["sasl.password"] = user_of(config.sasl)
    return settings


def _reading(config: KafkaConfig) -> dict[str, Any]:
    """The settings of the consumer alone."""
    fetch_bytes = min(max(config.fetch_bytes, config.buffer_bytes, _MESSAGE_BYTES), _FETCH_MOST_BYTES)
    return {
        "group.id": config.group or "streamctr",  # it must have one; it is no member of it
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",  # never read on elsewhere without a word
        "allow.auto.create.topics": False,
        "isolation.level": "read_committed",
        "enable.partition.eof": True,  # which tells of offsets that hold no message
        "check.crcs": True,
        "fetch.message.max.bytes": min(config.fetch_bytes, _FETCH_MOST_BYTES),
        "fetch.max.bytes": fetch_bytes,
        "message.max.bytes": _MESSAGE_BYTES,  # of a producer, and yet it may not be more than that
        "receive.message.max.bytes": _GIANT_BYTES,
        "queued.max.messages.kbytes": max(1, config.buffer_bytes >> 10),
        "fetch.wait.max.ms": FETCH_WAIT_MS,
        "fetch.queue.backoff.ms": 10,  # a full queue is looked at again this soon: 1000 starves who reads it
    }


def _tokens(reference: str) -> Callable[[str], tuple[str, float]]:
    """What the client asks for a token, and for when to ask again.

    Raises:
        ConfigError: it cannot be read.
    """
    read_token(reference)
    return lambda _: (read_token(reference), time.time() + _TOKEN_S)


def _by_place(messages: Sequence[Message]) -> dict[Place, list[Message]]:
    """Each partition's, in order."""
    places = zip(map(Message.topic, messages), map(Message.partition, messages), strict=True)
    found: dict[Place, list[Message]] = {}
    for place, some in groupby(zip(places, messages, strict=True), itemgetter(0)):
        found.setdefault(place, []).extend(map(itemgetter(1), some))
    return found


def _columns(place: Place, messages: Sequence[Message]) -> Records:
    values = list(map(Message.value, messages))

    def original(at: int) -> Original:
        message: Any = messages[at]
        return Original(message.value(), message.key(), tuple(message.headers() or ()), message.timestamp()[1])

    return Records(
        place,
        values,
        np.fromiter(map(Message.offset, messages), np.int64, len(messages)),
        np.array([time_ms for _, time_ms in map(Message.timestamp, messages)], np.int64),
        original,
        size_of(values),
    )


def _text(error: KafkaError) -> str:
    return f"{error.name()}: {error.str()}"


def _uuid(text: str) -> str:
    """A topic's id as Kafka's other clients write it."""
    return str(uuid.UUID(bytes=base64.urlsafe_b64decode(text + "==")))
