"""The emission log as a topic: written in rounds, read back in the order of the ordinals."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final
from uuid import uuid4

import numpy as np
import orjson

from connectors.kafka.client import Client, OutOfRangeError, Place, name_of, open_client
from connectors.kafka.config import KafkaConfig
from connectors.kafka.contact import Contact
from connectors.kafka.fence import Fence, Record
from connectors.kafka.gaps import gap_of
from connectors.kafka.producer import Topic, ensure_topics
from connectors.kafka.rounds import Round, Silence, read_headers, rows_of, values_of
from streamctr.errors import ContactError, DataError
from streamctr.order import FIRST_MS
from streamctr.samples import SampleBatch

_POLL_MS: Final = 300
_HEADERS_BYTES: Final = 1 << 11
"""What a message takes besides value, round and facts, and more."""
_AGAIN_S: Final = 5.0
_PATIENCE_S: Final = 120.0
"""Brokers that fail for longer end the join: who starts it again also gets a new fence."""


@dataclass(frozen=True, slots=True)
class Cuts:
    """When a round goes out, and into how many partitions of a topic that is not there yet."""

    partitions: int = 4
    rows: int = 16_384
    every_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Said:
    """What a round says besides its rows."""

    watermark_ms: int
    facts: dict[str, Any]
    """As JSON can hold them."""


class SampleTopic:
    """Writes the emission log of one run; rows that the topic has already are not written again.

    Nothing is sent before `truncate` has read what earlier owners left.

    Args:
        fence: of the run's one owner; it knows the brokers, and `kafka.samples` the topic.
        run: whose log it is.
        cuts: how rows are cut into rounds.
        now_s: a clock.

    Raises:
        DataError: the topic holds the log of another run, or is no emission log.
        TopicError: the topic is not there and cannot be created.
        StreamctrError: the brokers cannot be reached, or refuse.
    """

    def __init__(
        self, fence: Fence, run: str, cuts: Cuts = Cuts(), now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._fence, self._run, self._cuts, self._now_s = fence, run, cuts, now_s
        name = _named(fence.config)
        self.topic: Topic = ensure_topics(fence.config, [name], cuts.partitions)[0]
        self.describe: Callable[[], Said] = lambda: Said(FIRST_MS, {})
        """Asked before each round."""
        self.last: Round | None = None
        """The newest round that `truncate` found."""
        self.facts: dict[str, Any] = {}
        """What that one said."""
        self._client = open_client(fence.config, [name])
        self._place = (name, 0)
        self._log = ""
        self._next = 0  # rows below are in the topic
        self._seen = 0  # rows below were written, by this owner or before
        self._waiting: list[SampleBatch] = []
        self._silent: dict[tuple[str, int, int], int] = {}  # silences that were not sent yet; W by the rest
        self._told = b""  # the facts of the newest round that was sent
        self._fits = cuts.rows  # so many rows in a round, none of whose messages is too big
        self._sent_s = now_s()
        self._failing_s: float | None = None

    def note(self, silence: Silence) -> None:
        """The next round says this of a partition of events, too."""
        key = silence.topic, silence.partition, silence.number
        self._silent[key] = max(silence.watermark_ms, self._silent.get(key, FIRST_MS))

    def write(self, batch: SampleBatch) -> None:
        """Take the next rows; those that the topic has are dropped."""
        if not len(batch):
            return
        first = int(batch.ordinal[0])
        self._seen = first + len(batch)
        if self._seen > self._next:
            self._waiting.append(batch.take(slice(max(0, self._next - first), None)))

    def pulse(self) -> None:
        """Send what waits, if that is much, or a while has passed since the last round.

        Raises:
            FencedError: there is a newer owner.
            ContactError: brokers have not answered for long.
            DataError: a row is too big for the topic.
        """
        due = self._now_s() - self._sent_s >= self._cuts.every_s or self._rows() >= self._cuts.rows
        if not self._waiting or not due or self._fails_now():
            return
        try:
            self._send()
            self._failing_s = None
        except ContactError:
            self._failing_s = self._now_s() if self._failing_s is None else self._failing_s
            if self._now_s() - self._failing_s > _PATIENCE_S:
                raise
        self._sent_s = self._now_s()

    def flush(self) -> str:
        """Send all that is to be said; how far the log goes.

        Raises:
            StreamctrError: as `pulse`, and ContactError at once.
        """
        self._send()
        offset = self._client.ends()[self._place]
        return orjson.dumps({"log": self._log, "next": self._next, "seen": self._seen, "offset": offset}).decode()

    def truncate(self, extent: str) -> None:
        """Find what was said behind `extent`, or at all where that is empty: it stays said.

        Raises:
            DataError: it is gone, or of another run, or the topic has other partitions.
        """
        begin = self._client.beginnings()[self._place]
        said: dict[str, Any] = orjson.loads(extent) if extent else {"log": "", "next": 0, "seen": 0, "offset": begin}
        self._log, self._next, self._seen = said["log"], said["next"], said["seen"]
        end = self._client.ends()[self._place]
        if gap := gap_of(self._place, said["offset"], begin, end):
            raise DataError(f"kafka: {gap}; {_ANEW}")
        for where, headers in _headers_of(self._client, self._place, said["offset"], end):
            self.last, facts = read_headers(headers, where)
            _refuse_others(self.last, self._known(self.last.log), self._place[0])
            self._log, self._next = self.last.log, max(self._next, self.last.end)
            self.facts = facts or {}
            for one in self.last.silent:
                self.note(one)
        self._log = self._log or uuid4().hex
        self._client.read_only({})  # what is written from here on need not come back

    @property
    def silences(self) -> list[Silence]:
        """Behind `truncate`, of which partitions that was said: it still holds."""
        return [Silence(*key, watermark_ms) for key, watermark_ms in self._silent.items()]

    def close(self) -> None:
        """Leave the brokers; what was not flushed is not said."""
        self._client.close()

    def _known(self, log: str) -> Round:
        """A round as it would be of this log, or of any where none is known yet."""
        return Round(self._run, self._log or log, self.topic.partitions)

    def _rows(self) -> int:
        return sum(map(len, self._waiting))

    def _fails_now(self) -> bool:
        return self._failing_s is not None and self._now_s() - self._sent_s < _AGAIN_S

    def _send(self) -> None:
        said = self.describe()
        facts = orjson.dumps(said.facts)
        if not self._waiting and (facts == self._told or self._seen < self._next):
            return
        rows = SampleBatch.concat(self._waiting) if self._waiting else None
        self._fence.send(self._records(rows, said.watermark_ms, facts))
        self._next, self._waiting, self._told = self._next + (0 if rows is None else len(rows)), [], facts
        self._silent.clear()

    def _records(self, rows: SampleBatch | None, watermark_ms: int, facts: bytes) -> Iterator[Record]:
        """Of one round, or of several where one would be too big, or of none but facts."""
        silent, begin, behind = tuple(self.silences), 0, 0 if rows is None else len(rows)
        while True:
            values, fit = self._cut(rows, begin, len(facts))
            first = self._next + begin
            one = replace(self._known(""), first=first, end=first + fit, watermark_ms=watermark_ms, silent=silent)
            for partition, value in enumerate(values):
                headers = tuple(one.headers(facts if partition == 0 else None))
                yield Record(self.topic.name, None, value, headers, None, partition)
            begin += fit
            if begin >= behind:
                return

    def _cut(self, rows: SampleBatch | None, begin: int, facts_bytes: int) -> tuple[list[bytes], int]:
        """The messages of the next rows, as many as fit, and how many these are.

        Raises:
            DataError: one alone is too big.
        """
        if rows is None:
            return [b""] * self.topic.partitions, 0
        most = int(self.topic.settings["max.message.bytes"]) - _HEADERS_BYTES - facts_bytes
        most -= 200 * len(self._silent)
        while True:
            part = rows.take(slice(begin, begin + self._fits))
            values = values_of(part, self.topic.partitions)
            if max(map(len, values)) <= most:
                return values, len(part)
            if len(part) == 1:
                raise DataError(f"topic {self.topic.name} takes no row of {max(map(len, values))} bytes; {_BIGGER}")
            self._fits = len(part) // 2


@dataclass(slots=True)
class _Message:
    offset: int
    round: Round
    rows: SampleBatch | None
    facts: dict[str, Any] | None
    size_bytes: int
    """As it came."""


@dataclass(slots=True)
class _Partition:
    place: Place
    next: int
    """The offset behind the last message that came."""
    waiting: deque[_Message] = field(default_factory=deque)
    reached: int = -1
    """Where the round of that message ends."""


@dataclass(frozen=True, slots=True)
class Next:
    """Rows that are next, and what was known when they were said."""

    rows: SampleBatch | None
    """None where nothing but facts came."""
    facts: dict[str, Any]


class SampleReader:
    """Reads the emission log of one run from its topic: every row once, in order, whatever the partitions bring first.

    Args:
        config: where the brokers are; `kafka.samples` names the topic.
        run: whose log it is.
        tell: is given words for who watches: brokers that are silent, and their return.

    Raises:
        StreamctrError: the brokers or the topic cannot be read.
    """

    def __init__(self, config: KafkaConfig, run: str, tell: Callable[[str], None] = lambda _: None) -> None:
        self._run, self._topic, self._most_bytes = run, _named(config), config.buffer_bytes
        self._client = open_client(config, [self._topic])
        self.next = 0
        """The ordinal of the next row."""
        self.facts: dict[str, Any] = {}
        """What was known when the newest row that `poll` gave was said."""
        self._contact = Contact(tell, config.silence / 1000)
        begins = self._client.beginnings()
        self._parts = [_Partition(place, begins[place]) for place in self._client.places]
        self._log = ""
        self._read = set(self._client.places)
        """Partitions that are not left out."""
        self._client.go_to(begins)

    def poll(self) -> Next | None:
        """The rows of the next round; None where there is none yet.

        Raises:
            DataError: rows are gone, or a message is no part of this run's log.
        """
        found = self._ready()
        if found is None:
            self._fetch()
            found = self._ready()
        return found

    def at_end(self) -> bool:
        """Whether the topic holds nothing behind what `poll` gave, as the brokers say now."""
        if any(part.waiting for part in self._parts) or len(self._read) < len(self._parts):
            return False
        ends = self._client.ends()
        return all(self._client.position(place) >= end for place, end in ends.items())

    def offsets(self) -> dict[Place, int]:
        """Where each partition goes on behind what `poll` gave."""
        return {part.place: part.waiting[0].offset if part.waiting else part.next for part in self._parts}

    def positions(self) -> str:
        """JSON of where `poll` goes on, and of the facts."""
        offsets = [(number, offset) for (_, number), offset in self.offsets().items()]
        said = {"log": self._log, "next": self.next, "offsets": offsets, "facts": self.facts}
        return orjson.dumps(said).decode()

    def seek(self, positions: str) -> None:
        """Go to what `positions` said.

        Raises:
            DataError: what is next is gone.
        """
        said = orjson.loads(positions)
        self._log, self.next, self.facts = said["log"], said["next"], said["facts"]
        offsets = {(self._topic, number): offset for number, offset in said["offsets"]}
        if offsets.keys() != {part.place for part in self._parts}:
            raise DataError(f"kafka: {self._topic} had {len(offsets)} partitions and has {len(self._parts)}; {_ANEW}")
        self._refuse_gaps(offsets)
        self._parts = [_Partition(place, offset) for place, offset in offsets.items()]
        self._client.go_to(offsets)

    def close(self) -> None:
        """Leave the brokers."""
        self._client.close()

    def _ready(self) -> Next | None:
        """What the first round says that all partitions have reached.

        Raises:
            DataError: some of its rows are not there.
        """
        first, reached = self._parts[0], min(part.reached for part in self._parts)
        if not first.waiting or first.waiting[0].round.end > reached:
            return None
        end = first.waiting[0].round.end
        taken: list[_Message] = []
        for part in self._parts:
            while part.waiting and part.waiting[0].round.end <= end:
                taken.append(part.waiting.popleft())
        facts = [message.facts for message in taken if message.facts is not None]
        self.facts = facts[-1]
        rows = [message.rows for message in taken if message.rows is not None]
        return Next(self._in_order(rows, end), self.facts)

    def _in_order(self, batches: list[SampleBatch], end: int) -> SampleBatch | None:
        if end <= self.next:
            return None  # of rows that came before
        rows = SampleBatch.concat(batches) if batches else None
        if rows is not None:
            order = np.argsort(rows.ordinal, kind="stable")
            rows = rows.take(order[rows.ordinal[order] >= self.next])
        if rows is None or len(rows) != end - self.next:
            raise DataError(
                f"kafka: {self._topic} lacks rows between {self.next:,} and {end:,}: they are gone, or were never all "
                f"there; {_ANEW}"
            )
        self.next = end
        return rows

    def _fetch(self) -> None:
        self._leave_out()
        try:
            came = self._client.poll(_POLL_MS)
        except OutOfRangeError as error:
            self._refuse_gaps(error.wanted)
            self._client.go_to(error.wanted)
            return
        now_s = time.monotonic()
        if came or self._client.answers():
            self._contact.heard(now_s)
        else:
            self._contact.unheard(now_s)
        parts = {part.place: part for part in self._parts}
        for records in came:
            part = parts[records.place]
            for place, value in enumerate(records.values):
                self._take(part, int(records.offsets[place]), value, records.original(place).headers)

    def _take(self, part: _Partition, offset: int, value: bytes | None, headers: Any) -> None:
        one, facts = read_headers(headers, f"{name_of(part.place)} at {offset}")
        _refuse_others(one, Round(self._run, self._log or one.log, len(self._parts)), self._topic)
        self._log = one.log
        if one.end > self.next or facts is not None:
            part.waiting.append(_Message(offset, one, rows_of(value), facts, len(value or b"")))
        part.reached, part.next = one.end, offset + 1

    def _leave_out(self) -> None:
        """Where much waits, read those partitions only that all others wait for."""
        wait_bytes = sum(message.size_bytes for part in self._parts for message in part.waiting)
        behind = min(part.reached for part in self._parts)
        much = wait_bytes > self._most_bytes
        read = {part.place for part in self._parts if part.reached == behind or not much}
        if read != self._read:
            self._client.read_only({part.place: part.next for part in self._parts if part.place in read})
            self._read = read

    def _refuse_gaps(self, offsets: dict[Place, int]) -> None:
        begins, ends = self._client.beginnings(), self._client.ends()
        for place, offset in offsets.items():
            if gap := gap_of(place, offset, begins[place], ends[place]):
                raise DataError(f"kafka: {gap}; {_ANEW}")


_ANEW: Final = "join into a new topic with --fresh, with retention.ms=-1 or more than a learner may be away"
_BIGGER: Final = "raise its max.message.bytes"


def _named(config: KafkaConfig) -> str:
    assert config.samples is not None
    return config.samples


def _refuse_others(one: Round, known: Round, topic: str) -> None:
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
            f"would be looked for in the wrong ones; {_ANEW}"
        )


def _headers_of(client: Client, place: Place, begin: int, end: int) -> Iterator[tuple[str, Any]]:
    """The headers of one partition's messages in [begin, end), and where each stands.

    Raises:
        ContactError: brokers bring nothing.
    """
    client.read_only({place: begin})
    heard_s = time.monotonic()
    while client.position(place) < end:
        for records in client.poll(_POLL_MS):
            heard_s = time.monotonic()
            for i, offset in enumerate(records.offsets):
                yield f"{name_of(place)} at {offset}", records.original(i).headers
        if time.monotonic() - heard_s > _PATIENCE_S:
            raise ContactError(f"kafka: {name_of(place)} brings nothing up to {end}; start it again")
