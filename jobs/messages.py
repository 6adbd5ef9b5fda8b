"""Event files as messages, in the order of event time: what `produce` sends.

Legend: N messages, P partitions of the event files.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from connectors.files import FilePartition, FileSource
from jobs.progress import Gauge
from jobs.runfile import RunConfig
from jobs.wiring import decoder
from streamctr.decode.csv import parse_csv
from streamctr.decode.rows import parse_rows
from streamctr.hashing import U64, hash_bytes
from streamctr.names import Names
from streamctr.order import FIRST_MS, LAST_MS
from streamctr.ports import LINE_LIMIT_BYTES, RawBlock
from streamctr.schema import CsvConfig, RejectsConfig

I64 = NDArray[np.int64]

_BLANK: Final = b" \t\r"
_WHOLE: Final = 1 << 62
"""No row has so many bytes."""


@dataclass(frozen=True, slots=True)
class Messages:
    """Messages of event files, as columns, (N,) each."""

    value: NDArray[Any]
    """Their bytes."""
    key: U64
    """The root's hash; of a message that cannot be read, its bytes' hash."""
    stage: I64
    time_ms: I64
    """The event's; of a message that cannot be read, the newest before it in its partition, or `FIRST_MS`."""
    order_ms: I64
    """The newest time so far in its partition: messages in the order of this keep the order of their files."""
    partition: I64
    """Of the files."""
    readable: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.value)

    def take(self, index: Any) -> "Messages":
        """The messages that `index` (places, a mask or a slice) names, in its order."""
        return Messages(*(getattr(self, column.name)[index] for column in fields(self)))

    def behind(self, others: "Messages") -> "Messages":
        """These behind the others."""
        pairs = ((getattr(others, column.name), getattr(self, column.name)) for column in fields(self))
        return Messages(*(np.concatenate(pair) for pair in pairs))


class MessageReader:
    """Reads event files side by side and gives their messages in the order of event time.

    Messages of one partition stay in the order of their files, also where their times do not.
    """

    def __init__(self, config: RunConfig, partitions: Sequence[FilePartition]) -> None:
        self._source = FileSource(partitions, config.event_files, config.csv)
        # However much is malformed is sent all the same: who reads the topics judges it.
        self._decoder = decoder(config.model_copy(update={"rejects": RejectsConfig(share=1.0)}), Names(()))
        self._csv, self._funnel = config.csv, config.tree
        self._gauge = Gauge(partitions, config.event_files)
        self._newest_ms_P = np.full(len(partitions), FIRST_MS, np.int64)

    @property
    def size_bytes(self) -> int:
        """Of the files; 0 where that is not known."""
        return self._gauge.total

    @property
    def read_bytes(self) -> int:
        """How much of it was read."""
        return self._gauge.read(self._source.positions())

    def close(self) -> None:
        """Give back the files."""
        self._source.close()

    def batches(self) -> Iterator[Messages]:
        """All messages, a batch for each block that was read.

        Raises:
            DataError: a file is gone or damaged, or changed while it was read.
        """
        waiting = self._newest_ms_P.copy()  # of partitions that go on: the newest time; nothing older will come
        held = self._messages(RawBlock(0, 0, "", 1, b"", False, False))
        while (waiting < LAST_MS).any():
            block = self._source.poll(int(waiting.argmin()))
            held = self._messages(block).behind(held)
            waiting[block.partition] = LAST_MS if block.ended else self._newest_ms_P[block.partition]
            order = np.lexsort((held.partition, held.order_ms))
            ready = int(np.searchsorted(held.order_ms[order], waiting.min(), side="right"))
            yield held.take(order[:ready])
            held = held.take(np.sort(order[ready:]))

    def _messages(self, block: RawBlock) -> Messages:
        texts = message_texts(block, self._csv)
        values, lines = list(texts.values()), block.first_line + np.fromiter(texts, np.int64, len(texts))
        # The decoder is not told that files end: one without a good message is to be sent, not refused.
        decoded = self._decoder.decode(replace(block, file_ended=False, ended=False))
        at = np.searchsorted(lines, decoded.lines)
        readable = np.zeros(len(values), np.bool_)
        readable[at] = True
        key, time_ms = np.zeros(len(values), np.uint64), np.zeros(len(values), np.int64)
        stage = self._said_stages(block, lines, decoded.letters)
        key[at], stage[at], time_ms[at] = decoded.events.root, decoded.events.stage, decoded.events.time_ms
        key[~readable] = hash_bytes([value for value, good in zip(values, readable, strict=True) if not good])
        newest_ms = self._newest_ms_P[block.partition]
        order_ms = np.maximum.accumulate(np.append(newest_ms, np.where(readable, time_ms, FIRST_MS)))
        self._newest_ms_P[block.partition] = order_ms[-1]
        time_ms = np.where(readable, time_ms, order_ms[1:])
        partition = np.full(len(values), block.partition)
        return Messages(_column(values), key, stage, time_ms, order_ms[1:], partition, readable)

    def _said_stages(self, block: RawBlock, lines: I64, letters: list[dict[str, Any]]) -> I64:
        """The stage of each message as far as its file or its letter says it, else the root's."""
        names = list(self._funnel.names)
        stage = np.full(len(lines), block.stage if block.stage >= 0 else self._funnel.tellers[0], np.int64)
        for letter in letters:
            if letter["stage"] in names:
                stage[np.searchsorted(lines, letter["line"])] = names.index(letter["stage"])
        return stage


def _column(values: list[bytes]) -> NDArray[Any]:
    column = np.empty(len(values), object)
    column[:] = values
    return column


def message_texts(block: RawBlock, csv: CsvConfig) -> dict[int, bytes]:
    r"""The messages of a block by line or row (from 0): lines as they stand there, records and rows as JSON objects.

    What is no record stays as it is, and blank lines are no messages. The cells of records stay texts, which the
    decoder takes for the numbers and times that they are; a column `a.b` becomes the field `b` of an object `a`.

    >>> block = RawBlock(0, 0, "view.csv", 2, b"1,red\n\n2\n", True, True, "csv", ("id", "imp.ad"))
    >>> message_texts(block, CsvConfig())
    {0: b'{"id":"1","imp":{"ad":"red"}}', 2: b'2'}
    """
    if block.kind == "json":
        lines = block.payload.split(b"\n")
        return {place: line for place, line in enumerate(lines) if line.strip(_BLANK)}
    if block.kind == "arrow":
        of_rows = parse_rows(block, ())
        rows = (orjson.loads(of_rows.text(place, _WHOLE)) for place in range(len(block.rows)))
        return {place: orjson.dumps(_nested(row)) for place, row in enumerate(rows)}
    records = parse_csv(block, block.header, csv)
    columns = [records.cells[name].arrays[0].to_pylist() for name in block.header]
    found = zip(records.places.tolist(), zip(*columns, strict=True), strict=True)
    texts = {place: orjson.dumps(_nested(dict(zip(block.header, cells, strict=True)))) for place, cells in found}
    texts |= {place: records.text(place, LINE_LIMIT_BYTES + 1) for place in records.refused}
    return dict(sorted(texts.items()))


def _nested(row: dict[str, Any]) -> dict[str, Any]:
    """Names with dots as objects within objects, as JSON messages have them."""
    message: dict[str, Any] = {}
    for path in sorted(row, key=lambda name: name.count(".")):
        *above, name = path.split(".")
        here = message
        for step in above:
            if not isinstance(here.get(step), dict):
                here[step] = {}
            here = here[step]
        here[name] = row[path]
    return message
