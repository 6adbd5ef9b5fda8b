"""Kafka topics as a source: every message once and in order in each partition, from positions that the caller keeps."""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Final, Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from connectors.kafka.backlog import Backlog, Given, Lag
from connectors.kafka.client import Place, Records, name_of, open_client
from connectors.kafka.config import KafkaConfig
from connectors.kafka.gaps import Gaps, OnGap
from connectors.kafka.reader import Patience, Reader
from connectors.kafka.records import lines_of
from connectors.kafka.topics import stages_of
from streamctr.errors import DataError
from streamctr.ports import Original, RawBlock
from streamctr.schema import Funnel

_BLOCK_BYTES: Final = 1 << 20
_CLOSE_S: Final = 2.0
_NONE: Final = np.zeros(0, np.int64)


class KafkaSource:
    """Reads all partitions of the topics; a block is of one partition and has a message a line, each by its offset.

    A message's line breaks become carriage returns, which mean the same in JSON. One without a value becomes `null`
    and a blank one `""`: neither is an object, so each is rejected and counted. A thread reads ahead from the first
    `poll` on; partitions that are ahead of what is asked for wait there, `config.buffer_bytes` of all at most, about.

    Args:
        config: the topics, and where they are.
        funnel: whose stages they are.
        mixed: a field of the messages says of which stage they are.
        until: `end`: up to what the topics hold now; None: for ever. A moment, in ms: for ever, but when it has passed
            and all partitions are idle they have ended, for nothing older than it is to come.
        on_gap: where to go on when messages that are next are gone: nowhere, at the oldest that is left, or at the end.
        tell: is given words for who watches: what was skipped, new partitions, brokers that are silent, their return.

    Raises:
        DataError: the topics do not fit the funnel.
        ContactError, LoginError, AccessError, TopicError, ConfigError: as `open_client` says.
    """

    look_s = 30.0
    """How often new partitions are looked for."""

    def __init__(
        self,
        config: KafkaConfig,
        funnel: Funnel,
        mixed: bool,
        until: Literal["end"] | int | None = None,
        on_gap: OnGap = "stop",
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._config, self._until, self._tell = config, until, tell
        self._stages = stages_of(config, funnel, mixed)
        self._words: deque[str] = deque()  # the reader's thread says them, who polls tells them
        self._client = open_client(config, list(self._stages))
        try:
            self._gaps = Gaps(self._client, on_gap, self._words.append)
            self._backlog = self._whole_topics()
        except BaseException:
            self._client.close()
            raise
        patience = Patience(config.idle / 1000, config.silence / 1000, None if until == "end" else self.look_s)
        self._reader = Reader(self._client, self._backlog, self._gaps, self._words.append, patience)

    @property
    def partitions(self) -> int:
        """Those of the topics, by topic and number, or, after a `seek`, as its positions say; new ones behind them."""
        return len(self._backlog)

    @property
    def gaps(self) -> list[str]:
        """What was skipped, in words, where `on_gap` says to go on."""
        return self._gaps.texts

    @property
    def waiting_bytes(self) -> int:
        """What was read and not given out: values, and what it takes to hold them, about."""
        with self._reader.changed:
            return self._backlog.waiting_bytes

    def poll(self, partition: int) -> RawBlock:
        """The next messages of this partition, or of one that was said to be idle and is not; or an empty block.

        Raises:
            DataError: messages that are next are gone, or a message is damaged; no `poll` may follow.
            AccessError: a topic may no longer be read.
        """
        self._reader.start()
        given = self._reader.give(partition, self._config.max_poll_records, _BLOCK_BYTES)
        self._add_found()
        self._say()
        return _block_of(given, self._config)

    def positions(self) -> str:
        """JSON of each partition's topic, number and next offset, and of what tells topics from later ones."""
        with self._reader.changed:
            ids, following = self._gaps.ids, [(*lag.place, lag.next) for lag in self._backlog.lag()]
        return orjson.dumps({"topics": ids, "next": following}).decode()

    def lag(self) -> list[Lag]:
        """How far each partition is, by what the brokers said last."""
        with self._reader.changed:
            return self._backlog.lag()

    def seek(self, positions: str) -> None:
        """Go to what `positions` said; partitions that came after it stand behind the others, and begin at the start.

        Raises:
            DataError: messages that are next are gone, or a partition is.
        """
        said = orjson.loads(positions)
        ids, following = (said["topics"], said["next"]) if isinstance(said, dict) else ({}, said)
        offsets: dict[Place, int] = {(topic, number): offset for topic, number, offset in following}
        known = {lag.place for lag in self.lag()}
        if gone := offsets.keys() - known:
            names = ", ".join(name_of(place) for place in sorted(gone))
            raise DataError(f"kafka: {names} was read and is not there now; name its topic, or start with --fresh")
        self._reader.halt()
        new = sorted(known - offsets.keys())
        begins = self._client.beginnings()
        mended = self._gaps.mend(offsets, self._gaps.anew(ids)) | {place: begins[place] for place in new}
        self._backlog.order([*offsets, *new])
        self._go_to(mended)

    def start_at(self, time_ms: int) -> None:
        """Go to where no message before tells of an event at that moment or later.

        An event may be ahead of when its message was stored; by how much, `config.ahead` says, if anything does.
        """
        self._reader.halt()
        ahead_ms = self._config.ahead
        stored_ms = 0 if ahead_ms is None else max(0, time_ms - ahead_ms)
        self._go_to(self._client.since(stored_ms) if stored_ms else self._client.beginnings())

    def close(self) -> None:
        """Leave the brokers, within a few seconds also where they do not answer."""
        if self._reader.halt(_CLOSE_S):  # else it waits for them, and ends with the process
            self._client.close()
        self._say()

    def _whole_topics(self) -> Backlog:
        """All partitions, as a new run reads them."""
        config, now_s, ends = self._config, time.monotonic(), self._client.ends()
        if isinstance(config.start, int):
            starts = self._client.since(config.start)
        else:
            starts = ends if config.start == "latest" else self._client.beginnings()
        backlog = Backlog(config.buffer_bytes, None if self._until == "end" else config.idle / 1000)
        for place in self._client.places:
            backlog.add(place, self._stages[place[0]], starts[place], ends[place], now_s)
        if self._until == "end":
            backlog.end_at(ends)
        return backlog

    def _go_to(self, offsets: Mapping[Place, int]) -> None:
        self._backlog.go_to(offsets, time.monotonic())
        self._say()

    def _add_found(self) -> None:
        """New partitions are seen between two blocks only; and a moment that has passed."""
        with self._reader.changed:
            for place, (begin, end) in self._reader.found.items():
                self._backlog.add(place, self._stages[place[0]], begin, end, time.monotonic())
                self._words.append(f"{name_of(place)} is new, and read from {begin} on")
            self._reader.found.clear()
            if isinstance(self._until, int) and time.time() * 1000 >= self._until + self._config.idle:
                self._backlog.finish_if_idle()

    def _say(self) -> None:
        while self._words:
            self._tell(self._words.popleft())


def _block_of(given: Given, config: KafkaConfig) -> RawBlock:
    """What was given out, a line a message."""
    records = given.records
    lines = lines_of(list(chain.from_iterable(some.values for some in records)), config.max_message_bytes)
    offsets = np.concatenate([_NONE, *(some.offsets for some in records)])
    return RawBlock(
        partition=given.partition,
        stage=given.stage,
        path=name_of(given.place),
        first_line=given.first,
        payload=lines.payload,
        file_ended=False,  # a log goes on
        ended=given.ended,
        numbers=None if (np.diff(offsets) == 1).all() else offsets,
        reasons=lines.reasons,
        latest_ms=None if config.ahead is None else _latest_ms(records, config.ahead),
        original=_original(records),
        idle=given.idle,
    )


def _latest_ms(records: Sequence[Records], ahead_ms: int) -> NDArray[np.int64]:
    times_ms = np.concatenate([_NONE, *(some.times_ms for some in records)])
    return np.where(times_ms < 0, np.iinfo(np.int64).max, times_ms + ahead_ms)


def _original(records: Sequence[Records]) -> Callable[[int], Original]:
    """The record of a line, from 0."""
    begins = np.cumsum([0, *(len(some.values) for some in records)])

    def original(line: int) -> Original:
        some = int(np.searchsorted(begins, line, "right")) - 1
        return records[some].original(line - int(begins[some]))

    return original
