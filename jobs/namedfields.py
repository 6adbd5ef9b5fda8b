"""Fields that a run file names against those that its messages have: what is nowhere, and what cannot be read."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from jobs.featurechecks import read_fields
from jobs.runfile import RunConfig
from jobs.sample import Beginning, Decoded, Seen, parse
from jobs.yamlmarks import Document, Mistake, Path, Word, did_you_mean
from streamctr.decode.values import times
from streamctr.schema import Stage, TimeConfig


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


def absent_fields(document: Document, config: RunConfig, seen: Sequence[Seen]) -> tuple[list[Mistake], list[str]]:
    """Fields that no message of the sample has: what looks like a slip of the pen, and notes on what may still come."""
    mistakes, notes = [], []
    for named in named_fields(document, config):
        of, name = seen[named.stage], named.word.text
        if not of.messages or name in of.fields:
            continue
        events = "messages" if named.stage < 0 else f"{config.tree.names[named.stage]} events"
        message = f'field "{name}" is in none of {of.messages:,} {events}'
        hint = did_you_mean(name, sorted(of.fields))
        if named.sparse and not of.fixed and not hint.startswith("did"):
            notes.append(message)
        else:
            if name in ("hour", "weekday"):
                hint = f"parts of the time are made where features.time lists them: time: [{name}]"
            mistakes.append(document.wrong(named.word, message, hint))
    return mistakes, notes


def unreadable(
    document: Document, config: RunConfig, decoded: Decoded, beginnings: Sequence[Beginning]
) -> list[Mistake]:
    """Stages of whose sample nothing could be read: a replay would stop there."""
    names = (*config.tree.names, "(other)")
    stages_of: dict[str, list[str]] = {}
    for place, stage in enumerate(names):
        if decoded.rejected[place] and not decoded.accepted[place] and not decoded.skipped[place]:
            stages_of.setdefault(next(iter(decoded.reasons(stage)), ""), []).append(stage)
    found = []
    for reason, those in stages_of.items():
        if those == ["(other)"]:
            what, rest = "no message is of a stage of the funnel", decoded.accepted[:-1].sum()
            if rest:
                continue
        else:
            what = f"no {' and no '.join(stage for stage in those if stage != '(other)')} event can be read"
        path = _place(document, config, reason)
        found.append(document.mistake(path, f"{what}: {reason}", _unit_hint(config, reason, beginnings)))
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
        time = TimeConfig(field=field, unit=unit, zone=config.time.zone)  # type: ignore[arg-type]
        read = [
            times(parsed.cells[field], len(parsed.places), time)
            for block in (block for beginning in beginnings for block in beginning.blocks[:1])
            for parsed in [parse(block, [field], config)]
        ]
        if not any(column.faults for column in read) and any(np.any(~column.missing) for column in read):
            return f"with unit: {unit} they lie within: time: {{field: {field}, unit: {unit}}}"
    return ""


def told_by(config: RunConfig, stage: Stage) -> str | None:
    """The stage whose messages tell of another; None where it has messages of its own."""
    tree = config.tree
    teller = tree.names[stage.told_by]
    return None if teller == stage.name else teller
