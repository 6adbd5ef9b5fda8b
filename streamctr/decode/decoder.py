"""Blocks to events: messages are parsed, parted by stage and read, and what is malformed becomes a letter."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple, assert_never

import numpy as np
from numpy.typing import NDArray

from streamctr.decode.cells import Cells, Parsed
from streamctr.decode.csv import parse_csv
from streamctr.decode.faults import shown
from streamctr.decode.jsonlines import JsonLines
from streamctr.decode.rows import parse_rows
from streamctr.decode.spans import Fields, Spans
from streamctr.decode.stages import StageReader, Told
from streamctr.decode.tally import Tally
from streamctr.decode.values import ids, texts
from streamctr.events import EventBatch
from streamctr.hashing import hash_text
from streamctr.names import Names
from streamctr.ports import Arrays, Original, RawBlock
from streamctr.schema import FeaturesConfig, Funnel, MessagesConfig

I64 = NDArray[np.int64]

OTHER: Final = "(other)"
"""In the place of a stage: messages that are of none."""
_LETTER_BYTES: Final = 1 << 16
"""A longer malformed line is kept as its first bytes."""
_IGNORED: Final = -1
_REFUSED: Final = -2


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a block held: events in the order of their lines, and a letter for each malformed one.

    The counts are (K + 1,): by stage, then of messages whose stage is not known; blank lines are no messages.
    """

    events: EventBatch
    """One for each good message."""
    derived: EventBatch
    """Events that fields of these messages tell of; late or not as their message."""
    line_of: I64
    """By which of `events` each derived one was told, (D,), ascending."""
    lines: I64
    """Line or row, from 1, of each of `events` in its file, (N,)."""
    letters: list[dict[str, Any]]
    """`reason`, `stage`, `path`, `line` (from 1), `bytes` (base64), `kind`, in the order of lines.

    Those of CSV records also have their `header` and `delimiter`; those of topics, where `path` is the topic and the
    partition and `line` the offset, `key` (base64), `headers` (names and base64) and `time_ms` of the record, and all
    of its `bytes`; null stands for none."""
    read: I64
    """Messages of the stage, and events of it that other messages told of."""
    rejected: I64
    skipped: I64

    def since(self, start_ms: int, stages: Sequence[str]) -> "Decoded":
        """The same with what happened before that moment skipped; so are letters of messages stored before it."""
        n, kept = len(self.read), self.events.time_ms >= start_ms
        told = kept[self.line_of]
        before = np.array([0 <= letter.get("time_ms", -1) < start_ms for letter in self.letters], np.bool_)
        refused = [stages.index(self.letters[place]["stage"]) for place in np.flatnonzero(before).tolist()]
        passed = np.concatenate([self.events.stage[~kept], self.derived.stage[~told], np.array(refused, np.int64)])
        return replace(
            self,
            events=self.events.take(kept),
            derived=self.derived.take(told),
            line_of=(np.cumsum(kept) - 1)[self.line_of[told]],
            lines=self.lines[kept],
            letters=[self.letters[place] for place in np.flatnonzero(~before).tolist()],
            rejected=self.rejected - np.bincount(np.array(refused, np.int64), minlength=n),
            skipped=self.skipped + np.bincount(passed, minlength=n),
        )


class _Fault(NamedTuple):
    """What is to become a letter."""

    line: int
    """Or row, in the block, from 0."""
    stage: int
    """At which it counts as rejected."""
    derived: bool
    """It is about an event that the message tells of; the message itself is good."""
    reason: str


class Decoder:
    """Turns blocks into event columns by one rule of what a good message is (see `values`).

    What comes out depends on each message alone, never on how messages were cut into blocks.
    """

    def __init__(self, config: MessagesConfig, funnel: Funnel, features: FeaturesConfig, names: Names) -> None:
        self._config = config
        self._stages = (*funnel.names, OTHER)
        self._readers = {place: StageReader(config, funnel, features, place, names) for place in funnel.tellers}
        self._fields = {place: reader.fields() for place, reader in self._readers.items()} | {-1: self._all_fields()}
        self._json = {place: JsonLines(fields) for place, fields in self._fields.items()}
        self._none = EventBatch.empty(features.event_id_columns, features.event_number_columns)
        called = {text: place for place in self._readers for text in funnel.stages[place].config.called}
        self._meant = called | {funnel.names[place]: place for place in self._readers}
        ignored = dict.fromkeys(config.ignore, _IGNORED)
        self._hashed = {hash_text(text): place for text, place in (ignored | self._meant).items()}
        keys = " and ".join(f'"{name}"' for name in config.key)
        self.rejected_times = 0
        """Messages and events so far whose time is no good."""
        self._tally = Tally(config.rejects, f'the key in {keys} and the time in "{config.time.field}"')

    def decode(self, block: RawBlock) -> Decoded:
        """The events and letters of one block.

        Raises:
            DataError: a file ended, and every message in it was malformed; or too many of the last messages were.
        """
        parsed = self._parse(block)
        stage_N, unlisted = self._stages_of(block, parsed)
        place = block.stage if block.stage >= 0 else len(self._stages) - 1
        refused = [
            _Fault(line, place, False, block.reasons.get(line, reason)) for line, reason in parsed.refused.items()
        ]
        faults = refused + unlisted
        told = []
        for place in np.unique(stage_N[stage_N >= 0]).tolist():
            rows = np.flatnonzero(stage_N == place)
            lines = parsed.places[rows]
            latest_ms = None if block.latest_ms is None else block.latest_ms[lines]
            cells = _taken(parsed.cells, self._fields[place], rows, len(stage_N))
            part = self._readers[place].read(cells, len(rows), latest_ms)
            faults += [_Fault(int(lines[row]), place, False, reason) for row, reason in part.reasons.items()]
            faults += [_Fault(int(lines[row]), stage, True, reason) for row, stage, reason in part.early]
            told.append((part, rows))
        faults.sort()
        self.rejected_times += sum(fault.reason.startswith("time ") for fault in faults)
        letters = [self._letter(block, parsed, fault) for fault in faults]
        self._count_malformed(block, parsed, faults, letters)
        events, derived, line_of, rows_N = self._in_order(told)
        lines_N = block.numbers_of(parsed.places[rows_N])
        not_messages = [fault.stage for fault in faults if fault.derived]
        read = self._counted([fault.stage for fault in refused], stage_N, derived.stage, not_messages)
        rejected = self._counted([fault.stage for fault in faults])
        skipped = self._counted(stage_N[stage_N == _IGNORED])
        return Decoded(events, derived, line_of, lines_N, letters, read, rejected, skipped)

    def state(self) -> Arrays:
        """What was malformed so far."""
        return self._tally.state() | {"rejected_times": np.array([self.rejected_times])}

    def restore(self, arrays: Arrays) -> None:
        """Become what `state` described."""
        self.rejected_times = int(arrays["rejected_times"][0])
        self._tally.restore(arrays)

    def forget(self) -> None:
        """Messages of other partitions follow: what was malformed so far is not counted against them."""
        self._tally.forget()

    def _all_fields(self) -> tuple[str, ...]:
        """The fields of messages of all stages, and the one that says which."""
        fields = [field for reader in self._readers.values() for field in reader.fields()]
        return tuple(dict.fromkeys(fields if self._config.stage is None else [self._config.stage, *fields]))

    def _parse(self, block: RawBlock) -> Parsed:
        match block.kind:
            case "json":
                return self._json[block.stage].parse(block.payload)
            case "csv":
                return parse_csv(block, self._fields[block.stage], self._config.csv)
            case "arrow":
                return parse_rows(block, self._fields[block.stage])
            case _:
                assert_never(block.kind)

    def _stages_of(self, block: RawBlock, parsed: Parsed) -> tuple[I64, list[_Fault]]:
        """The stage of each message, (N,), or that it is ignored or refused, and why."""
        n, name = len(parsed.places), self._config.stage
        if block.stage >= 0 or name is None:
            return np.full(n, block.stage, np.int64), []
        column, stage_N = ids(parsed.cells[name], n), np.full(n, _REFUSED, np.int64)
        for value, place in self._hashed.items():
            stage_N[column.values == value] = place
        rows = np.flatnonzero(stage_N == _REFUSED)
        if len(rows) == 0:
            return stage_N, []
        found, reasons = texts(parsed.cells[name].take(rows), len(rows))
        wanted = f"none of {', '.join(self._meant)}" + (" nor of ignore" if self._config.ignore else "")
        words = ["is missing" if value is None else f"is {shown(value)}, {wanted}" for value in found.to_pylist()]
        why = [reasons.get(row, word) for row, word in enumerate(words)]
        lines, other = parsed.places[rows].tolist(), len(self._stages) - 1
        return stage_N, [
            _Fault(line, other, False, f'stage "{name}" {fault}') for line, fault in zip(lines, why, strict=True)
        ]

    def _in_order(self, told: list[tuple[Told, I64]]) -> tuple[EventBatch, EventBatch, I64, I64]:
        """All events in the order of their messages, those derived, by which event each was told; the events' rows."""
        if not told:
            return self._none, self._none, np.zeros(0, np.int64), np.zeros(0, np.int64)
        rows = np.concatenate([rows[part.good] for part, rows in told])
        events = EventBatch.concat([part.events for part, _ in told])
        if len(told) > 1:
            order = np.argsort(rows)
            rows, events = rows[order], events.take(order)
        tellings = [(batch, rows_of[which]) for part, rows_of in told for batch, which in part.derived]
        if not tellings:
            return events, self._none, np.zeros(0, np.int64), rows
        derived = EventBatch.concat([batch for batch, _ in tellings])
        line_of = np.searchsorted(rows, np.concatenate([which for _, which in tellings]))
        order = np.lexsort((derived.stage, line_of))
        return events, derived.take(order), line_of[order], rows

    def _letter(self, block: RawBlock, parsed: Parsed, fault: _Fault) -> dict[str, Any]:
        letter = {
            "reason": fault.reason,
            "stage": self._stages[fault.stage],
            "path": block.path,
            "line": block.number_of(fault.line),
            "bytes": base64.b64encode(parsed.text(fault.line, _LETTER_BYTES)).decode(),
            "kind": block.kind,
        }
        if block.original is not None:
            letter |= _as_it_came(block.original(fault.line))
        csv = {"header": list(block.header), "delimiter": block.delimiter}
        return letter | csv if block.kind == "csv" else letter

    def _count_malformed(
        self, block: RawBlock, parsed: Parsed, faults: list[_Fault], letters: list[dict[str, Any]]
    ) -> None:
        numbered: list[tuple[int, dict[str, Any]]] = []
        if faults:
            lines = np.sort(np.append(parsed.places, np.array(list(parsed.refused), np.int64)))
            numbers = np.searchsorted(lines, [fault.line for fault in faults]).tolist()
            paired = zip(numbers, faults, letters, strict=True)
            numbered = [(number, letter) for number, fault, letter in paired if not fault.derived]
        self._tally.count(block, parsed.messages, numbered)

    def _counted(self, *places: Any) -> I64:
        """How often each stage occurs, (K + 1,); what is of none counts last."""
        n = len(self._stages)
        listed = np.concatenate([np.asarray(column, np.int64) for column in places])
        return np.bincount(np.where(listed < 0, n - 1, listed), minlength=n).astype(np.int64)


def _as_it_came(message: Original) -> dict[str, Any]:
    """What a letter says of a message of which its line is not all."""
    headers = [[name, _base64(value)] for name, value in message.headers]
    return {
        "bytes": _base64(message.value),
        "key": _base64(message.key),
        "headers": headers,
        "time_ms": message.time_ms,
    }


def _base64(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()


def _taken(
    cells: dict[str, Cells] | Fields, fields: Iterable[str], rows: I64, n: int
) -> Mapping[str, Cells] | Mapping[str, Spans]:
    """The fields of some of the `n` messages."""
    if len(rows) == n:
        return cells
    return cells.take(rows) if isinstance(cells, Fields) else {name: cells[name].take(rows) for name in fields}
