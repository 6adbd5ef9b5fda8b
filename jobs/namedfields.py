"""Fields that a run file names against those that its messages have: what is nowhere, and what cannot be read."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from jobs.featurechecks import read_fields
from jobs.runfile import RunConfig
from jobs.sample import Beginning, Decoded, Seen, parse
from jobs.yamlmarks import Document, Mistake, Path, Word, did_you_mean
from streamctr.decode import OTHER
from streamctr.decode.values import times
from streamctr.schema import TimeConfig

_DELIMITERS: Final = {";": ";", "\t": "tab", "|": "|", ",": ",", " ": " "}
"""What may part the fields of a record, and how the run file writes it."""
_NOT_JSON: Final = "wanted is one JSON object a line; CSV is told by the name .csv, or by format: csv"
_SHOWN: Final = 60
"""Characters of a header that are shown."""


@dataclass(frozen=True, slots=True)
class Named:
    """A field that messages of a stage should have."""

    word: Word
    stage: int
    """-1: any message, whatever its stage."""
    sparse: bool = False
    """Only some of them: it may come later."""


def named_fields(document: Document, config: RunConfig) -> Iterator[Named]:
    """All fields of messages that the run file names."""
    funnel = config.tree
    for place in funnel.tellers:
        path: Path = ("funnel", funnel.names[place])
        time = document.words(("time", "field")) or document.words(("time",))
        for words in (document.words((*path, "key")) or document.words(("key",)), time):
            yield from (Named(word, place) for word in document.words((*path, "time")) if words is time)
            if words is not time or not document.words((*path, "time")):
                yield from (Named(word, place) for word in words)
    for stage in funnel.stages:
        for key in ("value", "when", "at"):
            words = document.words(("funnel", stage.name, key))
            yield from (Named(word, stage.told_by, sparse=True) for word in words)
    yield from (Named(word, 0) for word in document.words(("user",)))
    yield from (Named(word, 0, sparse=True) for word in document.words(("weight",)))
    yield from (Named(word, -1) for word in document.words(("stage",)))
    made = {*config.features.taken, *config.features.time, *config.features.bucket}
    yield from (Named(word, 0) for word, _ in read_fields(document) if word.text not in made)


def absent_fields(
    document: Document, config: RunConfig, seen: Sequence[Seen], beginnings: Sequence[Beginning]
) -> tuple[list[Mistake], list[str]]:
    """Fields that no message of the sample has: what looks like a slip of the pen, and notes on what may still come."""
    named = [named for named in named_fields(document, config) if seen[named.stage].messages]
    absent = [named for named in named if named.word.text not in seen[named.stage].fields]
    mistakes, notes = [], []
    for place in dict.fromkeys(named.stage for named in absent):
        words = [named.word for named in absent if named.stage == place]
        of_file = None
        if seen[place].fixed and {n.word.text for n in named if n.stage == place} == {word.text for word in words}:
            of_file = _other_columns(document, config, place, beginnings)
        at_once = of_file or _swapped(document, config, seen, place, [word.text for word in words])
        if at_once is not None:
            mistakes.append(at_once)
            absent = [named for named in absent if named.stage != place]
    for one in absent:
        of, name = seen[one.stage], one.word.text
        events = "messages" if one.stage < 0 else f"{config.tree.names[one.stage]} events"
        message = f'field "{name}" is in none of {of.messages:,} {events}'
        hint = did_you_mean(name, sorted(of.fields))
        if one.sparse and not of.fixed and not hint.startswith("did"):
            notes.append(message)
        else:
            if name in ("hour", "weekday"):
                hint = f"parts of the time are made where features.time lists them: time: [{name}]"
            mistakes.append(document.wrong(one.word, message, hint))
    return mistakes, notes


def _other_columns(
    document: Document, config: RunConfig, place: int, beginnings: Sequence[Beginning]
) -> Mistake | None:
    """A table of whose columns none is named: its delimiter is another, or its first line is no header."""
    blocks = [block for beginning in beginnings if beginning.stage in (place, -1) for block in beginning.blocks]
    block = next((block for block in blocks if block.header), None)
    if block is None:
        return None
    line = block.delimiter.join(block.header)
    hint = "where that is no header, name the columns: csv: {columns: [...]}"
    other = max(_DELIMITERS, key=line.count)
    if len(block.header) == 1 and other in line:
        hint = f'write csv: {{delimiter: "{_DELIMITERS[other]}"}}'
    shown = line if len(line) <= _SHOWN else f"{line[:_SHOWN]}..."
    of = "messages" if place < 0 else config.tree.names[place]
    return document.mistake(("files",), f'no field of {of} is a column of {block.path}, which begins "{shown}"', hint)


def _swapped(
    document: Document, config: RunConfig, seen: Sequence[Seen], place: int, names: Sequence[str]
) -> Mistake | None:
    """A root whose fields another stage has."""
    distinct = set(names)
    if place != 0 or len(distinct) < 2:
        return None
    root, *others = config.tree.names
    other = next((other for k, other in enumerate(others, start=1) if distinct <= seen[k].fields), None)
    if other is None:
        return None
    message = f"{root} stands first and is the root, but its events lack {', '.join(sorted(distinct))}, as {other} has"
    return document.mistake(
        ("funnel", root), message, f"is {other} the event that is scored? Then it stands first", True
    )


def unreadable(
    document: Document, config: RunConfig, decoded: Decoded, beginnings: Sequence[Beginning]
) -> list[Mistake]:
    """Stages of whose sample nothing could be read: a replay would stop there."""
    tree = config.tree
    stages_of: dict[str, list[int]] = {}
    for place in tree.tellers:
        if decoded.rejected[place] and not decoded.accepted[place]:
            stages_of.setdefault(next(iter(decoded.reasons(tree.names[place])), ""), []).append(place)
    found = []
    for reason, places in stages_of.items():
        path = _place(document, config, reason)
        what = f"no {' and no '.join(tree.names[place] for place in places)} event can be read"
        here = [beginning for beginning in beginnings if beginning.stage in (*places, -1)]
        hint = _NOT_JSON if reason.startswith("not JSON") else _unit_hint(config, reason, here)
        found.append(document.mistake(path, f"{what}: {reason}", hint))
    if decoded.rejected[-1] and not decoded.read[:-1].sum():
        reason = next(iter(decoded.reasons(OTHER)))
        found.append(document.mistake(_place(document, config, reason), f"no message can be read: {reason}"))
    return found


def _place(document: Document, config: RunConfig, reason: str) -> Path:
    """Where the run file names the field that a reason is about."""
    quoted = re.findall(r'"([^"]+)"', reason)
    if quoted:
        path = next((named.word.path for named in named_fields(document, config) if named.word.text == quoted[0]), ())
        if path[:1] == ("time",) and "outside 2000" in reason and document.has(("time", "unit")):
            return "time", "unit"
        if path:
            return path
    return ("files",)


def _unit_hint(config: RunConfig, reason: str, beginnings: Sequence[Beginning]) -> str:
    """Of times out of bounds: the unit in which they would lie within."""
    if "outside 2000" not in reason:
        return ""
    field = re.findall(r'"([^"]+)"', reason)[0]
    for unit in ("s", "ms", "us"):
        time = TimeConfig(field=field, unit=unit, zone=config.time.zone)
        read = [
            times(parsed.cells[field], len(parsed.places), time)
            for block in (block for beginning in beginnings for block in beginning.blocks[:1])
            for parsed in [parse(block, [field], config)]
        ]
        if not any(column.faults for column in read) and any(np.any(~column.missing) for column in read):
            return f"with unit: {unit} they lie within: time: {{field: {field}, unit: {unit}}}"
    return ""
