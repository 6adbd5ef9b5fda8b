"""The emission log as a topic, written in rounds."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import uuid4

import orjson

from connectors.kafka.client import Client, Place, name_of, open_client
from connectors.kafka.fence import Fence, Record
from connectors.kafka.gaps import gap_of
from connectors.kafka.producer import Topic, ensure_topics
from connectors.kafka.rounds import ANEW, Round, Silence, read_headers, refuse_others, samples_topic, values_of
from streamctr.errors import ContactError, DataError, LostError
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
        name = samples_topic(fence.config)
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
            ContactError: brokers have not answered for long, or it is a LostError.
            DataError: a row is too big for the topic.
        """
        due = self._now_s() - self._sent_s >= self._cuts.every_s or self._rows() >= self._cuts.rows
        if not self._waiting or not due or self._fails_now():
            return
        try:
            self._send()
            self._failing_s = None
        except LostError:
            raise
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
        extent = {"log": self._log, "partitions": self.topic.partitions, "next": self._next, "seen": self._seen}
        # of what was just sent it may be known a moment later: then it is found again
        return orjson.dumps(extent | {"offset": self._client.ends()[self._place]}).decode()

    def truncate(self, extent: str) -> None:
        """Find what was said behind `extent`, or at all where that is empty: it stays said.

        Raises:
            DataError: it is gone, or of another run, or the topic has other partitions.
        """
        begin, end = (offsets[self._place] for offsets in (self._client.beginnings(), self._client.ends()))
        none = {"log": "", "partitions": self.topic.partitions, "next": 0, "seen": 0, "offset": begin}
        said: dict[str, Any] = orjson.loads(extent) if extent else none
        self._log, self._next, self._seen = said["log"], said["next"], said["seen"]
        refuse_others(Round(self._run, self._log, said["partitions"]), self._known(""), self._place[0])
        if gap := gap_of(self._place, said["offset"], begin, end):
            raise DataError(f"kafka: {gap}; {ANEW}")
        for where, headers in _headers_of(self._client, self._place, said["offset"], end):
            self.last, facts = read_headers(headers, where)
            refuse_others(self.last, self._known(self.last.log), self._place[0])
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


_BIGGER: Final = "raise its max.message.bytes"


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
