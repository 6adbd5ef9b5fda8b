"""Kafka topics as a source: every message once and in order in each partition, from positions that the caller keeps."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import orjson

from connectors.kafka.client import KafkaClient, OutOfRangeError, Place, gap_of, name_of
from connectors.kafka.config import KafkaConfig
from connectors.kafka.contact import Contact
from connectors.kafka.records import lines_of
from connectors.kafka.topics import stages_of
from streamctr.errors import DataError
from streamctr.ports import RawBlock
from streamctr.schema import Funnel

_POLL_MS: Final = 300


@dataclass(slots=True)
class _Partition:
    place: Place
    stage: int
    next: int
    """The offset behind the last message that `KafkaSource.poll` gave out, and behind offsets without one."""
    end: int | None
    """Where reading ends; None for a log that goes on."""
    waiting: list[Any] = field(default_factory=list)
    """Records that came with those of another partition."""
    told: bool = False
    """Whether a block said that it has ended."""

    @property
    def ended(self) -> bool:
        return self.end is not None and self.next >= self.end and not self.waiting


class KafkaSource:
    """Reads all partitions of the topics; a block is of one partition and has a message a line, each by its offset.

    A message's line breaks become carriage returns, which mean the same in JSON. One without a value becomes `null`
    and a blank one `""`: neither is an object, so each is rejected and counted.

    Args:
        config: the topics, and where they are.
        funnel: whose stages they are.
        mixed: a field of the messages says of which stage they are.
        until: `end`: up to what the topics hold now; None: for ever.
        on_gap: where to go on when messages that are next are gone: nowhere, at the oldest that is left, or at the end.
        tell: is given words for who watches: what was skipped, brokers that are silent, and their return.

    Raises:
        DataError: the topics do not fit the funnel.
        ContactError, LoginError, AccessError, TopicError, ConfigError: as `KafkaClient` says.
    """

    def __init__(
        self,
        config: KafkaConfig,
        funnel: Funnel,
        mixed: bool,
        until: Literal["end"] | None = None,
        on_gap: Literal["stop", "earliest", "latest"] = "stop",
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        stages = stages_of(config, funnel, mixed)
        self._limit_bytes, self._on_gap, self._tell = config.max_message_bytes, on_gap, tell
        self.gaps: list[str] = []
        """What was skipped, in words, where `on_gap` says to go on."""
        self._client = KafkaClient(config, list(stages))
        try:
            ends = self._client.ends() if until == "end" else {}
            starts = self._start(config)
        except BaseException:
            self._client.close()
            raise
        self._partitions = [
            _Partition(place, stages[place[0]], starts[place], ends.get(place)) for place in self._client.places
        ]
        self._client.go_to(starts)
        self._contact = Contact(self._client.answers, tell, config.silence / 1000)

    @property
    def partitions(self) -> int:
        """Those that the topics had at the start, by topic and number; or, after a `seek`, as its positions say."""
        return len(self._partitions)

    def poll(self, partition: int) -> RawBlock:
        """The next messages, of this partition if there are any, else of another one; an empty block after a while.

        Raises:
            DataError: messages that are next are gone, or a message is damaged; no `poll` may follow.
            AccessError: a topic may no longer be read.
        """
        asked = self._partitions[partition]
        if asked.told:
            return self._block(partition, [])
        ready = self._ready(partition)
        if ready is None:
            self._fetch()
            ready = self._ready(partition)
        if ready is None:
            return self._block(partition, [])
        at = self._partitions[ready]
        records, at.waiting = at.waiting, []
        return self._block(ready, records)

    def positions(self) -> str:
        """JSON of each partition's topic, number and next offset."""
        return orjson.dumps([(*at.place, at.next) for at in self._partitions]).decode()

    def seek(self, positions: str) -> None:
        """Go to what `positions` said; partitions that came after it stand behind the others, and begin at the start.

        Raises:
            DataError: messages that are next are gone, or a partition is.
        """
        said = {(topic, number): offset for topic, number, offset in orjson.loads(positions)}
        known = {at.place: at for at in self._partitions}
        if gone := said.keys() - known.keys():
            names = ", ".join(name_of(place) for place in sorted(gone))
            raise DataError(f"kafka: {names} was read and is not there now; name its topic, or start with --fresh")
        new = sorted(known.keys() - said.keys())
        begins = self._client.beginnings()
        self._go_to(said | {place: begins[place] for place in new})
        self._partitions = [known[place] for place in (*said, *new)]

    def close(self) -> None:
        """Leave the brokers."""
        self._client.close()

    def _start(self, config: KafkaConfig) -> dict[Place, int]:
        if config.start == "earliest":
            return self._client.beginnings()
        return self._client.ends() if config.start == "latest" else self._client.since(config.start)

    def _ready(self, partition: int) -> int | None:
        """A partition that has messages, or an end to tell of: the one asked for before all others."""
        order = (partition, *range(len(self._partitions)))
        return next((p for p in order if (at := self._partitions[p]).waiting or (at.ended and not at.told)), None)

    def _fetch(self) -> None:
        try:
            polled = self._client.poll(_POLL_MS)
        except OutOfRangeError as error:
            self._go_to(error.wanted)
            return
        if polled:
            self._contact.came()
        else:
            self._contact.nothing_came()
        for at in self._partitions:
            at.waiting = _before(at.end, polled.get(at.place, []))
            if at.end is not None and not at.waiting and not at.ended:  # what is left may be offsets without a message
                at.next = max(at.next, min(at.end, self._client.position(at.place)))

    def _block(self, partition: int, records: list[Any]) -> RawBlock:
        at = self._partitions[partition]
        first = records[0].offset if records else at.next
        at.next = records[-1].offset + 1 if records else at.next
        at.told = at.ended
        lines = lines_of(records, self._limit_bytes)
        return RawBlock(
            partition=partition,
            stage=at.stage,
            path=name_of(at.place),
            first_line=first,
            payload=lines.payload,
            file_ended=False,  # a log goes on
            ended=at.ended,
            numbers=lines.numbers,
            reasons=lines.reasons,
        )

    def _go_to(self, offsets: dict[Place, int]) -> None:
        """Read these partitions from there on, if it is still there.

        Raises:
            DataError: it is not, and `on_gap` says to stop.
        """
        begins, ends = self._client.beginnings(), self._client.ends()
        gaps = {place: gap_of(place, offset, begins[place], ends[place]) for place, offset in offsets.items()}
        found = [gap for gap in gaps.values() if gap]
        if found and self._on_gap == "stop":
            raise DataError(f"kafka: {'; '.join(found)}. {_CHOICES}")
        self.gaps += found
        for gap in found:
            self._tell(gap)
        elsewhere = begins if self._on_gap == "earliest" else ends
        offsets = {place: elsewhere[place] if gaps[place] else offset for place, offset in offsets.items()}
        self._client.go_to(offsets)
        for at in self._partitions:
            if at.place in offsets:
                at.next, at.waiting, at.told = offsets[at.place], [], False


_CHOICES: Final = (
    "Go on without them with --on-gap earliest (at the oldest message that is left) or --on-gap latest (at the next "
    "one to come), or start anew with --fresh"
)


def _before(end: int | None, records: list[Any]) -> list[Any]:
    """Those below the end."""
    if end is None or not records or records[-1].offset < end:
        return records
    return [record for record in records if record.offset < end]
