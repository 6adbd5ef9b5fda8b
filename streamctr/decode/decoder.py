"""Bytes to columns: a block of lines becomes a batch of events and the letters of what is malformed."""

import base64
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from streamctr.decode.fields import Columns, Fields, choose_schema, read_block, read_messages
from streamctr.decode.lines import Lines
from streamctr.decode.moments import EARLIEST_MS, LATEST_MS, NO_TIME, times_ms
from streamctr.errors import DataError
from streamctr.events import EventBatch
from streamctr.hashing import MISSING_ID, U64, combine, hash_bytes
from streamctr.names import Names
from streamctr.ports import Arrays, RawBlock, pack_text, unpack_text
from streamctr.schema import FeaturesConfig, Funnel, MessagesConfig

_SAMPLE: Final = 8
"""Messages from which the types of a block's fields are chosen first."""
_LETTER_BYTES: Final = 1 << 16
"""A longer malformed line is kept as its first bytes."""
_EXAMPLE: Final = 400
"""Characters of base64 of the example that an error shows; a multiple of four."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a block held: events in the order of their lines, and a letter for each malformed one.

    The counts are (K + 1,): by stage, then of messages whose stage is not known; blank lines are no messages.
    """

    events: EventBatch
    """One for each good message."""
    derived: EventBatch
    """Events that fields of these messages tell of; late or not as their message."""
    line_of: NDArray[np.int64]
    """By which of `events` each derived one was told, (D,)."""
    letters: list[dict[str, Any]]
    """`reason`, `stage`, `path`, `line` (from 1), `bytes` (base64), in the order of lines."""
    read: NDArray[np.int64]
    """Messages of the stage, and events of it that other messages told of."""
    rejected: NDArray[np.int64]
    skipped: NDArray[np.int64]


@dataclass(slots=True)
class _FileTally:
    """What the file that a partition is at has given so far."""

    good: int = 0
    reasons: dict[str, tuple[int, int, str]] = field(default_factory=dict)
    """How often, the first one's line and its first bytes (base64); kept only while nothing was good."""


class Decoder:
    """Turns blocks of JSON lines into event columns by one rule of what a good message is (see `fields`).

    What comes out depends on each line alone, never on how lines were cut into blocks.
    """

    def __init__(self, config: MessagesConfig, funnel: Funnel, features: FeaturesConfig, names: Names) -> None:
        self._config, self._names, self._features = config, names, features
        self._stages = funnel.names
        users = config.user
        seconds = config.time.unit == "s"
        texts = tuple(dict.fromkeys((*users, *features.id)))
        self._root = Fields(config.key[0], config.time.field, seconds, texts, features.numbers)
        self._child = Fields(config.key[0], config.time.field, seconds, (), ())
        self._seen: dict[str, Any] = {}
        self._tallies: dict[int, _FileTally] = {}

    def decode(self, block: RawBlock) -> Decoded:
        """The events and letters of one block.

        Raises:
            DataError: a file ended, and every message in it was malformed.
        """
        fields = self._child if block.stage else self._root
        lines = Lines(block.payload)
        sample = lines.parse(lines.kept[:_SAMPLE])
        columns = self._at_once(lines, fields, sample) or self._one_by_one(lines, fields)
        events = self._events(columns, block.stage, fields)
        lines.refuse({int(lines.kept[row]): reason for row, reason in columns.reasons.items()})
        letters = [
            {
                "reason": reason,
                "stage": self._stages[block.stage],
                "path": block.path,
                "line": block.first_line + line,
                "bytes": base64.b64encode(lines.text(line, _LETTER_BYTES)).decode(),
            }
            for line, reason in sorted(lines.refused.items())
        ]
        self._count(block, len(events), letters)
        n = len(self._stages) + 1
        read, rejected = (np.bincount([block.stage], [count], n) for count in (lines.messages, len(letters)))
        none = events.take(slice(0, 0))
        counts = read.astype(np.int64), rejected.astype(np.int64), np.zeros(n, np.int64)
        return Decoded(events, none, np.zeros(0, np.int64), letters, *counts)

    def state(self) -> Arrays:
        """What the files that are being read have given so far, as JSON."""
        tallies = {place: (tally.good, tally.reasons) for place, tally in self._tallies.items()}
        return {"tallies": pack_text(orjson.dumps(tallies, option=orjson.OPT_NON_STR_KEYS).decode())}

    def restore(self, arrays: Arrays) -> None:
        """Become what `state` described."""
        tallies = orjson.loads(unpack_text(arrays["tallies"]))
        self._tallies = {
            int(place): _FileTally(good, {reason: tuple(first) for reason, first in reasons.items()})
            for place, (good, reasons) in tallies.items()
        }

    def _at_once(self, lines: Lines, fields: Fields, sample: list[dict[str, Any]]) -> Columns | None:
        """The columns of the whole block; None where it is empty, or one value is not of its field's type."""
        schema = choose_schema(sample, fields, self._seen)
        if schema is None or len(lines.kept) == 0:
            return None
        columns = read_block(lines.payload(), schema, fields)
        return columns if columns is not None and len(columns.key) == len(lines.kept) else None

    def _one_by_one(self, lines: Lines, fields: Fields) -> Columns:
        """The columns of the lines that the strict parser takes; at once where it shows what was wrong."""
        messages = lines.parse(lines.kept)
        return self._at_once(lines, fields, messages) or read_messages(messages, fields)

    def _events(self, columns: Columns, stage: int, fields: Fields) -> EventBatch:
        """Events of the messages that are good; `columns.reasons` gets those that are not."""
        time_ms = np.max([times_ms(column, self._config.time) for column in columns.times], axis=0)
        _refuse_values(columns, time_ms, fields)
        if columns.reasons:
            good = np.ones(len(time_ms), np.bool_)
            good[list(columns.reasons)] = False
            columns, time_ms = columns.take(np.flatnonzero(good)), time_ms[good]
        root, _, _ = _hash(columns.key)
        hashed = {name: self._identities(name, column) for name, column in columns.texts.items()}
        missing = np.full(len(time_ms), MISSING_ID, np.uint64)
        user = hashed.get(self._config.user[0], missing) if self._config.user else missing
        ids = [hashed.get(name, missing) for name in self._features.id]
        absent = np.full(len(time_ms), np.nan)
        numbers = [columns.numbers.get(name, absent) for name in self._features.number]
        bits = [number.view(np.uint64) for number in numbers]
        return EventBatch(
            time_ms=time_ms,
            stage=np.full(len(time_ms), stage, np.int64),
            root=root,
            user=user,
            ids_NF=_table(ids, len(time_ms), np.uint64),
            numbers_NM=_table(numbers, len(time_ms), np.float64),
            content=combine([time_ms.view(np.uint64), missing + np.uint64(stage), root, user, *ids, *bits]),
            value=absent,
            weight=np.ones(len(time_ms)),
        )

    def _identities(self, name: str, column: Any) -> U64:
        ids, distinct, texts = _hash(column)
        if self._names.wants(name):
            self._names.offer(name, {key: text.decode() for key, text in zip(distinct.tolist(), texts, strict=True)})
        return ids

    def _count(self, block: RawBlock, good: int, letters: list[dict[str, Any]]) -> None:
        """Add to the tally of the block's file; a file that ends without a good message stops the run."""
        tally = self._tallies.setdefault(block.partition, _FileTally())
        tally.good += good
        if tally.good:
            tally.reasons.clear()
        else:
            for letter in letters:
                times, line, text = tally.reasons.get(letter["reason"], (0, letter["line"], letter["bytes"][:_EXAMPLE]))
                tally.reasons[letter["reason"]] = (times + 1, line, text)
        if not block.file_ended:
            return
        if not block.ended:  # the last file may grow: what it gave counts then too
            del self._tallies[block.partition]
        if tally.reasons:
            reason, (times, line, text) = max(tally.reasons.items(), key=lambda item: item[1][0])
            read = sum(first[0] for first in tally.reasons.values())
            raise DataError(
                f"{block.path}: every one of its {read} messages is malformed, {times} of them because: {reason}. "
                f"Line {line} is {base64.b64decode(text)!r}. Wanted is one JSON object a line, with the key in "
                f'"{self._config.key[0]}" and the time in "{self._config.time.field}": mend the file or the run file'
            )


def _refuse_values(columns: Columns, time_ms: NDArray[np.int64], fields: Fields) -> None:
    """Give reasons for values that have the right type and are not good: the first one of a message counts."""
    key, time = f'key "{fields.key}"', f'time "{fields.time}"'
    no_key = _null(columns.key)
    no_time = np.all([_null(column) for column in columns.times], axis=0)
    faults = {
        f"{key} is missing": no_key,
        f"{key} is empty": pc.equal(columns.key.cast(pa.string()), "").fill_null(False).to_numpy(zero_copy_only=False),
        f"{time} is missing": no_time,
        f"{time} is not ISO-8601 such as 2022-04-26T00:00:00Z": ~no_time & (time_ms == NO_TIME),
        f"{time} is outside 2000 to 2100 (a number counts as {'s' if fields.seconds else 'ms'})": (time_ms != NO_TIME)
        & ((time_ms < EARLIEST_MS) | (time_ms >= LATEST_MS)),
    }
    for reason, faulty in faults.items():
        for row in np.flatnonzero(faulty).tolist():
            columns.reasons.setdefault(row, reason)


def _null(column: Any) -> NDArray[np.bool_]:
    return np.asarray(column.is_null().to_numpy(zero_copy_only=False))


def _hash(column: Any) -> tuple[U64, U64, list[bytes]]:
    """The ids of a column of texts, integers or booleans; the distinct ones without missing; and their texts."""
    encoded = column.dictionary_encode()
    texts = encoded.dictionary.cast(pa.string()).cast(pa.binary()).to_pylist()
    hashes = hash_bytes(texts)
    places = encoded.indices.fill_null(len(texts)).to_numpy()
    return np.append(hashes, np.uint64(MISSING_ID))[places], hashes, texts


def _table(columns: list[Any], n_rows: int, kind: type) -> NDArray[Any]:
    return np.stack(columns, axis=1) if columns else np.empty((n_rows, 0), kind)
