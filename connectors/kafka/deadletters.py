"""Dead letters as a topic: messages as they came, with headers that say where they stood and what is wrong.

A letter is a dict as `streamctr.decode` makes it. Behind the message's own headers follow `streamctr-reason`,
`streamctr-stage`, `streamctr-topic`, `streamctr-partition`, `streamctr-offset`, `streamctr-time` (of the message, in
ms) and `streamctr-run`; the record's own timestamp is when it was sent, so that retention counts from then on.
"""

import base64
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from typing import Any, Final

from kafka import errors
from kafka.admin import ConfigResource, KafkaAdminClient

from connectors.kafka.client import open_client
from connectors.kafka.config import KafkaConfig
from connectors.kafka.fence import BATCH_BYTES, Fence, Record
from connectors.kafka.login import Overheard, connect, in_words
from streamctr.errors import ContactError, LostError, TopicError
from streamctr.ports import Original

Letter = dict[str, Any]
Headers = tuple[tuple[str, bytes], ...]

_OURS: Final = "streamctr-"
_FIRST: Final = "streamctr-reason"
_CUT: Final = "streamctr-cut"
"""How long the value was, where only its first part is there."""
_NO_KEY: Final = "streamctr-no-key"
"""There was no key: one is sent where there is no value either, since the client sends nothing else."""
_WAITING_BYTES: Final = 1 << 24
_LONGEST_BYTES: Final = 1 << 25
_RECORD_BYTES: Final = 256
"""What a record takes besides what is in it, at most; a header takes `_HEADER_BYTES`."""
_HEADER_BYTES: Final = 12
_REASON_BYTES: Final = 1 << 12
_POLL_MS: Final = 300
_SILENT: Final = 10
"""After so many polls in a row without a record or an answer, brokers are gone."""


class DeadLetterTopic:
    """A sink of letters: they are sent in a transaction, so that those of a fenced owner are seen by nobody.

    After a crash a letter may stand there twice; `read_dead_letters` gives it once.

    Args:
        fence: the owner's.
        topic: where they go.
        run: by what letters of this run are told from others'.

    Raises:
        TopicError: there is no such topic, or it does not keep letters.
        StreamctrError: the brokers cannot be reached, or refuse.
    """

    def __init__(self, fence: Fence, topic: str, run: str) -> None:
        self._fence, self._topic, self._run = fence, topic, run
        self._partitions, self._limit_bytes = _look_at(fence.config, topic)
        self._waiting: list[Record] = []
        self._waiting_bytes = 0
        self._tried_bytes = 0  # so many waited when brokers were silent last
        self._extent = ""

    def write(self, records: list[Letter]) -> None:
        """Keep letters until `flush`, or send them where they are many; brokers that are silent are tried again later.

        Raises:
            FencedError: a newer owner exists.
            StreamctrError: they could not be sent; they wait all the same.
        """
        for letter in records:
            record = self._record(letter)
            self._waiting.append(record)
            self._waiting_bytes += _RECORD_BYTES + _size(record.value, record.key, record.headers)
        if self._waiting_bytes > self._tried_bytes + _WAITING_BYTES:
            try:
                self._send()
            except LostError:
                raise
            except ContactError:  # what is read is bounded without them, too; a snapshot waits for them
                self._tried_bytes = self._waiting_bytes

    def flush(self) -> str:
        """Have every letter acknowledged; the topic knows how far it goes, so this is what `truncate` was given.

        Raises:
            FencedError: a newer owner exists.
            StreamctrError: they could not be sent; they wait, and another call tries again.
        """
        self._send()
        return self._extent

    def truncate(self, extent: str) -> None:
        """Go on with nothing that waits; letters are sent again, and read once.

        The extent is of a folder where the run left letters before, if it did, and will be so again.
        """
        self._waiting, self._waiting_bytes, self._tried_bytes = [], 0, 0
        self._extent = extent

    def close(self) -> None:
        """Give up what waits, of which no snapshot knows; the fence is another's to close."""
        self._waiting = []

    def _send(self) -> None:
        if self._waiting:
            self._fence.send(self._waiting)
        self._waiting, self._waiting_bytes, self._tried_bytes = [], 0, 0

    def _record(self, letter: Letter) -> Record:
        topic, _, partition = letter["path"].rpartition("/")
        said = {
            _FIRST: letter["reason"].encode()[:_REASON_BYTES].decode(errors="ignore"),
            "streamctr-stage": letter["stage"],
            "streamctr-topic": topic,
            "streamctr-partition": partition,
            "streamctr-offset": letter["line"],
            "streamctr-time": letter["time_ms"],
            "streamctr-run": self._run,
        }
        value, key = _bytes(letter["bytes"]), _bytes(letter["key"])
        if value is None and key is None:
            said, key = said | {_NO_KEY: ""}, b""
        theirs = tuple((name, _bytes(text) or b"") for name, text in letter["headers"])
        # of one partition in their order
        whole = Record(self._topic, key, value, theirs, partition=int(partition) % self._partitions)
        return _with_headers(_fitted(whole, said, self._limit_bytes), said)


def _fitted(record: Record, said: dict[str, Any], limit_bytes: int) -> Record:
    """The record as it came, or as much of it as the topic takes: then `said` tells how long it was."""
    room = limit_bytes - _RECORD_BYTES - _size(None, None, _as_headers(said | {_CUT: limit_bytes}))
    if _size(record.value, record.key, record.headers) <= room:
        return record
    said[_CUT] = len(record.value or b"")
    if _size(None, record.key, record.headers) > room // 2:
        record = replace(record, key=None if record.key is None else record.key[: room // 4], headers=())
    value = record.value and record.value[: room - _size(None, record.key, record.headers)]
    return replace(record, value=value)


def _with_headers(record: Record, said: dict[str, Any]) -> Record:
    return replace(record, headers=record.headers + _as_headers(said))


def _as_headers(said: dict[str, Any]) -> Headers:
    return tuple((name, str(what).encode()) for name, what in said.items())


def _size(value: bytes | None, key: bytes | None, headers: Headers) -> int:
    named = sum(len(name.encode()) + len(what) + _HEADER_BYTES for name, what in headers)
    return len(value or b"") + len(key or b"") + named


def _look_at(config: KafkaConfig, topic: str) -> tuple[int, int]:
    """The number of its partitions, and the bytes that its longest record may take.

    Raises:
        TopicError: there is none, or it does not keep letters.
        StreamctrError: the brokers cannot be reached, or refuse.
    """
    with (
        closing(Overheard()) as heard,
        connect(KafkaAdminClient, config, heard) as admin,
        in_words(config, heard),
    ):
        described = admin.describe_topics([topic])[0]
        kind = errors.for_code(described["error_code"])
        if kind is errors.UnknownTopicOrPartitionError:
            raise _no_topic(topic)
        if kind is not errors.NoError:
            raise kind([topic])
        asked = [ConfigResource("TOPIC", topic)]
        settings = admin.describe_configs(asked, config_filter="all")["topic"][topic]
    limit_bytes = int(settings["max.message.bytes"]["value"])
    if limit_bytes < 2 * BATCH_BYTES:
        raise TopicError(
            f"kafka.dead_letters: {topic} takes no message of more than {limit_bytes} bytes; set its max.message.bytes "
            f"to {2 * BATCH_BYTES} at least, and to that of the topics of events to keep every message whole"
        )
    if "compact" in settings["cleanup.policy"]["value"]:
        raise TopicError(
            f"kafka.dead_letters: {topic} keeps only the last letter of each key; set its cleanup.policy to delete"
        )
    return len(described["partitions"]), min(limit_bytes, _LONGEST_BYTES)


def _no_topic(topic: str) -> TopicError:
    return TopicError(
        f"kafka.dead_letters: there is no topic {topic}; create it (kafka-topics.sh --create --topic {topic}, with "
        "--config max.message.bytes as the topics of events have it, and retention.ms as long as letters are to be "
        "kept), or correct the name"
    )


def read_dead_letters(config: KafkaConfig, topic: str, run: str | None) -> Iterator[Letter]:
    """The letters that the topic holds now, each place of a stage once: as in a folder, with a `run`.

    A letter that had to be cut has `cut`, the length of its whole value in bytes.

    Args:
        config: where the brokers are.
        topic: of the letters.
        run: of which run; None for all.

    Raises:
        TopicError: there is no such topic.
        ContactError: no broker answers, any more.
        StreamctrError: the brokers refuse.
    """
    done: set[tuple[str, ...]] = set()
    for message in _messages(config, topic):
        letter = _letter(message)
        if letter is None or (run is not None and letter["run"] != run):
            continue
        place = letter["run"], letter["path"], str(letter["line"]), letter["stage"]
        if place not in done:
            done.add(place)
            yield letter


def _messages(config: KafkaConfig, topic: str) -> Iterator[Original]:
    """What the topic holds now, as far as it was committed."""
    try:
        client = open_client(config, [topic])
    except TopicError:
        raise _no_topic(topic) from None
    with closing(client):
        begins, ends = client.beginnings(), client.ends()
        left = {place: begins[place] for place, end in ends.items() if begins[place] < end}
        if left:
            client.go_to(begins)
        silent = 0
        while left:
            polled = client.poll(_POLL_MS)
            for records in polled:
                yield from map(records.original, range(len(records.values)))
            silent = 0 if polled or client.answers() else silent + 1
            if silent == _SILENT:
                raise ContactError(f"kafka: no broker at {', '.join(config.servers)} answers any more; try again")
            left = {place: offset for place, offset in left.items() if client.position(place) < ends[place]}


def _letter(message: Original) -> Letter | None:
    """The letter that became this message; None where it is none."""
    names = [name for name, _ in message.headers]
    if _FIRST not in names:
        return None
    first = len(names) - 1 - names[::-1].index(_FIRST)  # what came may have been a letter itself
    ours = {name.removeprefix(_OURS): (what or b"").decode() for name, what in message.headers[first:]}
    with suppress(KeyError, ValueError):
        cut = {"cut": int(ours["cut"])} if "cut" in ours else {}
        return {
            "reason": ours["reason"],
            "stage": ours["stage"],
            "path": f"{ours['topic']}/{ours['partition']}",
            "line": int(ours["offset"]),
            "bytes": _text(message.value),
            "kind": "json",
            "key": None if "no-key" in ours else _text(message.key),
            "headers": [[name, _text(what)] for name, what in message.headers[:first]],
            "time_ms": int(ours["time"]),
            "run": ours["run"],
        } | cut
    return None


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


def _text(content: bytes | None) -> str | None:
    return None if content is None else base64.b64encode(content).decode()
