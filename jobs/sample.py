"""The beginning of a log, as `check` reads it: which fields its messages have, and what can be decoded of them.

Legend: K stages, N events.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from connectors.files import FilePartition, FileSource
from jobs.runfile import RunConfig
from jobs.wiring import decoder
from streamctr.decode import reason_kind
from streamctr.decode.cells import Parsed
from streamctr.decode.csv import parse_csv
from streamctr.decode.jsonlines import JsonLines
from streamctr.decode.rows import parse_rows
from streamctr.decode.values import stamp_texts
from streamctr.events import EventBatch
from streamctr.names import Names
from streamctr.ports import RawBlock
from streamctr.schema import Funnel, RejectsConfig

MESSAGES: Final = 1_000
"""Read of each stage, or of a log with all of them."""
_PARTITIONS: Final = 10
"""Of one stage are read at most, and files looked into for their first times."""
_BLOCK_BYTES: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Beginning:
    """The first messages of one partition."""

    stage: int
    """-1 where a field of theirs says it."""
    blocks: tuple[RawBlock, ...]
    whole: bool
    """There is no more of it."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What messages of one stage were seen to have."""

    messages: int
    fields: frozenset[str]
    """Dotted paths that any of them has."""
    fixed: bool
    """They are columns: what is not there will not come later."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """What could be read of beginnings; counts are (K + 1,), by stage, then of what is of none."""

    events: EventBatch
    """Of messages, then of those that fields of others tell of."""
    read: NDArray[np.int64]
    rejected: NDArray[np.int64]
    skipped: NDArray[np.int64]
    letters: list[dict[str, Any]]
    behind_ms: NDArray[np.int64]
    """How much older each event is than the newest one before it in its partition; 0 for those told of by others."""

    @property
    def accepted(self) -> NDArray[np.int64]:
        """Events by stage that can be joined, (K + 1,)."""
        return self.read - self.rejected - self.skipped

    def of(self, stage: int) -> EventBatch:
        """The events of one stage."""
        return self.events.take(self.events.stage == stage)

    def reasons(self, stage: str | None = None) -> dict[str, int]:
        """Why messages, of a stage or of all, were rejected: the commonest first, each with the value of the first."""
        letters = [letter["reason"] for letter in self.letters if stage in (None, letter["stage"])]
        kinds = Counter(map(reason_kind, letters))
        first = {reason_kind(reason): reason for reason in reversed(letters)}
        return {first[kind]: times for kind, times in kinds.most_common()}


def read_beginnings(partitions: Sequence[FilePartition], config: RunConfig) -> list[Beginning]:
    """The first messages of each stage; where it has several partitions, of the first ones.

    Raises:
        DataError: a file cannot be read.
    """
    sharing = Counter(part.stage for part in partitions)
    source = FileSource(partitions, config.event_files, config.csv, _BLOCK_BYTES)
    begun: Counter[int] = Counter()
    beginnings = []
    for place, part in enumerate(partitions):
        begun[part.stage] += 1
        if begun[part.stage] <= _PARTITIONS:
            messages = max(MESSAGES // sharing[part.stage], MESSAGES // _PARTITIONS)
            beginnings.append(_beginning(source, place, part.stage, messages))
    source.close()
    return beginnings


def _beginning(source: FileSource, partition: int, stage: int, messages: int) -> Beginning:
    blocks: list[RawBlock] = []
    left, ended = messages, False
    while left > 0 and not ended:
        block = source.poll(partition)
        taken, size = _first(block, left)
        blocks.append(taken)
        left, ended = left - size, block.ended
    return Beginning(stage, tuple(blocks), whole=ended and left >= 0)


def _first(block: RawBlock, messages: int) -> tuple[RawBlock, int]:
    """At most so many messages of a block, which does not end anything, and how many the block had."""
    if block.rows is not None:
        rows, size = block.rows.slice(0, messages), len(block.rows)
        return dataclasses.replace(block, rows=rows, file_ended=False, ended=False), size
    lines = block.payload.split(b"\n")
    size = len(lines) - (lines[-1] == b"")
    payload = b"".join(line + b"\n" for line in lines[: min(messages, size)])
    return dataclasses.replace(block, payload=payload, file_ended=False, ended=False), size


def decode(beginnings: Sequence[Beginning], config: RunConfig, names: Names) -> Decoded:
    """What could be read, by the decoder of the run, which is not to stop where much is rejected."""
    lenient = config.model_copy(update={"rejects": RejectsConfig(share=1.0)})
    by_run = decoder(lenient, names)
    batches, derived, behind, letters = [], [], [], []
    counts = np.zeros((3, len(config.funnel) + 1), np.int64)
    features = config.features
    for beginning in beginnings:
        empty = EventBatch.empty(features.event_id_columns, features.event_number_columns)
        found = [by_run.decode(block) for block in beginning.blocks]
        events = EventBatch.concat([empty, *(one.events for one in found)])
        newest_ms = np.maximum.accumulate(events.time_ms)
        batches.append(events)
        behind.append(newest_ms - events.time_ms)
        derived += [one.derived for one in found]
        letters += [letter for one in found for letter in one.letters]
        for one in found:
            counts += np.stack([one.read, one.rejected, one.skipped])
    events = EventBatch.concat([*batches, *derived])
    behind_ms = np.zeros(len(events), np.int64)
    told = sum(map(len, batches))
    behind_ms[:told] = np.concatenate(behind)
    return Decoded(events, counts[0], counts[1], counts[2], letters, behind_ms)


def seen_fields(beginnings: Sequence[Beginning], config: RunConfig) -> list[Seen]:
    """What the messages of each stage have; in the last place, what any message has."""
    messages = [0] * (len(config.tree.stages) + 1)
    fields: list[set[str]] = [set() for _ in messages]
    fixed = False
    for beginning in beginnings:
        for block in beginning.blocks:
            for stage, names, count in _named(block, beginning.stage, config):
                for place in {stage, -1}:
                    messages[place] += count
                    fields[place] |= names
            fixed = fixed or block.kind != "json"
    return [Seen(count, frozenset(names), fixed) for count, names in zip(messages, fields, strict=True)]


def callings(funnel: Funnel) -> dict[str, int]:
    """Of which stage a message is, by the value of its stage field."""
    stages = {place: funnel.stages[place] for place in funnel.tellers}
    return {name: place for place, stage in stages.items() for name in (*stage.config.called, stage.name)}


def _named(block: RawBlock, stage: int, config: RunConfig) -> Iterator[tuple[int, set[str], int]]:
    """Stage (-1 for none), fields and number of messages: of each JSON object, or of all rows of a stage."""
    meant = callings(config.tree)
    if block.kind == "json":
        for line in block.payload.split(b"\n"):
            message = _object(line)
            if message is not None:
                of = stage if config.stage is None else meant.get(str(_value(message, config.stage)), -1)
                yield of, set(_paths(message)), 1
        return
    names = set(block.header) if block.kind == "csv" else set(_columns(block.rows.schema))
    if config.stage is None:
        yield stage, names, len(block.rows) if block.rows is not None else block.payload.count(b"\n")
        return
    parsed = parse(block, [config.stage], config)
    of_rows = Counter(meant.get(str(value), -1) for value in values(parsed, config.stage))
    yield from ((of, names, count) for of, count in of_rows.items())


def parse(block: RawBlock, fields: Sequence[str], config: RunConfig) -> Parsed:
    """Fields of a block's messages as they stand there."""
    if block.kind == "csv":
        return parse_csv(block, fields, config.csv)
    if block.kind == "arrow":
        return parse_rows(block, fields)
    return JsonLines(dict.fromkeys(fields, False)).parse(block.payload)


def messages_of(
    beginnings: Sequence[Beginning], place: int, fields: Sequence[str], config: RunConfig
) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Fields of the messages of a stage, as they stand there, with the path and line (or row) of each."""
    meant = callings(config.tree)
    wanted = dict.fromkeys([*fields, config.stage] if config.stage is not None else fields)
    for block in (block for beginning in beginnings if beginning.stage in (place, -1) for block in beginning.blocks):
        parsed = parse(block, list(wanted), config)
        columns = {field: values(parsed, field) for field in wanted}
        for row, line in enumerate(parsed.places.tolist()):
            message = {field: column[row] for field, column in columns.items()}
            if config.stage is None or meant.get(str(message[config.stage])) == place:
                yield block.path, block.first_line + line, message


def text_of(value: Any) -> str:
    """A plain value as people read it; nothing in it moves a terminal's cursor."""
    if value is None:
        return "missing"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return "".join(char if char.isprintable() else " " for char in text)


def values(parsed: Parsed, field: str) -> list[Any]:
    """One field of all messages of a small block as plain values, timestamps as texts; None for missing."""
    cells = parsed.cells[field]
    rows: list[Any] = [None] * len(parsed.places)
    for array in cells.arrays:
        array = stamp_texts(array) if pa.types.is_timestamp(array.type) else array
        rows = [old if new is None else new for old, new in zip(rows, array.to_pylist(), strict=True)]
    for row, what in cells.strange.items():
        rows[row] = what
    return rows


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        message = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return message if isinstance(message, dict) else None


def _paths(message: dict[str, Any], above: str = "") -> Iterator[str]:
    for name, value in message.items():
        yield above + name
        if isinstance(value, dict):
            yield from _paths(value, f"{above}{name}.")


def _columns(fields: Any, above: str = "") -> Iterator[str]:
    """Names of an Arrow schema's columns, those within structs by path."""
    for field in fields:
        yield above + field.name
        if field.type.num_fields and not hasattr(field.type, "value_type"):
            yield from _columns([field.type.field(i) for i in range(field.type.num_fields)], f"{above}{field.name}.")


def _value(message: dict[str, Any], path: str) -> Any:
    here: Any = message
    for name in path.split("."):
        here = here.get(name) if isinstance(here, dict) else None
    return here


def named_roots(child: EventBatch, root: EventBatch) -> tuple[int, int]:
    """Of the child events up to the last root of the sample: how many name a root in it, and how many there are."""
    if len(root) == 0:
        return 0, 0
    due = child.time_ms <= root.time_ms.max()
    return int(np.isin(child.root[due], root.root).sum()), int(due.sum())


def overlapping(partitions: Sequence[FilePartition], config: RunConfig) -> list[tuple[str, str]]:
    """Files of one partition of which the second begins before what the beginning of the first already holds.

    Raises:
        DataError: a file cannot be read.
    """
    found = []
    for part in (part for part in partitions if len(part.paths) > 1):
        apart = [FilePartition(part.stage, (path,)) for path in part.paths[:_PARTITIONS]]
        source = FileSource(apart, config.event_files, config.csv, _BLOCK_BYTES)
        times = []
        for place in range(len(apart)):
            beginning = _beginning(source, place, part.stage, MESSAGES // _PARTITIONS)
            times.append(decode([beginning], config, Names(())).events.time_ms)
        source.close()
        newest_ms, newest = 0, ""
        for path, time_ms in zip(part.paths, times, strict=False):
            if len(time_ms) and int(time_ms.min()) < newest_ms - config.lateness:
                found.append((newest, path))
            if len(time_ms) and int(time_ms.max()) > newest_ms:
                newest_ms, newest = int(time_ms.max()), path
    return found
