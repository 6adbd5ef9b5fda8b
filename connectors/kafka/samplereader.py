"""The emission log as a topic, read back in the order of the ordinals."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import orjson

from connectors.kafka.client import OutOfRangeError, Place, name_of, open_client
from connectors.kafka.config import KafkaConfig
from connectors.kafka.contact import Contact
from connectors.kafka.gaps import gap_of
from connectors.kafka.rounds import ANEW, Round, read_headers, refuse_others, rows_of, samples_topic
from streamctr.errors import ContactError, DataError, LoginError, TopicError
from streamctr.samples import SampleBatch

_POLL_MS: Final = 300


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
        self._run, self._topic, self._most_bytes = run, samples_topic(config), config.buffer_bytes
        try:
            self._client = open_client(config, [self._topic])
        except TopicError:
            raise TopicError(
                f"kafka: there is no topic {self._topic} yet; start streamctr join, which creates it"
            ) from None
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
        try:
            ends = self._client.ends()
        except (ContactError, LoginError):  # they are asked again when they are back
            return False
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
            raise DataError(f"kafka: {self._topic} had {len(offsets)} partitions and has {len(self._parts)}; {ANEW}")
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
                f"there; {ANEW}"
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
        refuse_others(one, Round(self._run, self._log or one.log, len(self._parts)), self._topic)
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
                raise DataError(f"kafka: {gap}; {ANEW}")
