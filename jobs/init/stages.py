"""Which stages a log tells of: by files, by a field of mixed lines, or by flags and late times. Legend: N lines."""

import dataclasses
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from jobs.init.fields import Field, Lines
from jobs.init.read import Beginning, read_beginning
from jobs.init.times import late_times, time_field
from jobs.init.words import LABELS, STAGE_FIELDS, stage_in, stage_meant, tokens
from streamctr.errors import DataError

MOST_LINES: Final = 10_000
_LOOK_LINES: Final = 100
_MOST_STAGES: Final = 30
_NESTED: Final = 0.99


@dataclass(frozen=True)
class StageGuess:
    """A stage, with the lines that tell of it: its own, or the root's for one that is told by flags or a late time."""

    name: str
    rank: int
    lines: Lines
    paths: tuple[str, ...] = ()
    folder: str | None = None
    """What holds its files and nothing else, where that and not their names says the stage."""
    called: str | None = None
    when: tuple[str, ...] = ()
    at: str | None = None
    question: str | None = None

    @property
    def derived(self) -> bool:
        """Whether fields of the root's lines tell of it."""
        return bool(self.when) or self.at is not None

    @property
    def happened(self) -> NDArray[np.bool_]:
        """(N,) for a derived stage: in which of the root's lines it happened."""
        told = [self.lines.fields[name].is_set for name in (*self.when, *([self.at] if self.at else []))]
        happened: NDArray[np.bool_] = np.logical_and.reduce(told)
        return happened

    @property
    def count(self) -> int:
        """How many of it the sample holds."""
        return int(self.happened.sum()) if self.derived else self.lines.count


@dataclass(frozen=True)
class Layout:
    """How the log tells its stages apart; the root comes first."""

    stages: tuple[StageGuess, ...]
    paths: tuple[str, ...]
    """Files with events."""
    beginnings: tuple[Beginning, ...] = ()
    stage_field: str | None = None
    ignore: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    """Files whose names say no stage, where those of others do."""
    tables: tuple[Beginning, ...] = ()
    """The first lines of files without times: perhaps tables of items or users."""

    @property
    def root(self) -> StageGuess:
        """What is scored."""
        return self.stages[0]


def find_layout(paths: Sequence[str]) -> Layout:
    """Read the beginnings of the files and guess the stages.

    Raises:
        DataError: a file cannot be read, or none holds a message.
    """
    named: dict[str, _Named] = {}
    unused: list[str] = []
    above = os.path.commonpath([Path(path).parent for path in paths])
    for path in paths:
        said = _said(path, above)
        if said is None:
            unused.append(path)
        else:
            named.setdefault(said[0], said[1]).paths.append(path)
    if len(named) == 1 and unused:
        unused = _root_before(named, unused)
    return _one_file_each(list(named.values()), unused) if len(named) > 1 else _one_log(paths)


@dataclass(frozen=True)
class _Named:
    """Files that say one stage, by their names or by a folder's."""

    rank: int
    word: str
    folder: str | None = None
    paths: list[str] = dataclasses.field(default_factory=list)


def _said(path: str, above: str) -> tuple[str, _Named] | None:
    """The usual name of the stage that a file's name says, or else one of the folders below `above`, the last first."""
    parts = Path(os.path.relpath(path, above)).parts
    for depth in range(len(parts), 0, -1):
        stage = stage_in(parts[depth - 1])
        if stage:
            rank, name, word = stage
            folder = None if depth == len(parts) else str(Path(above, *parts[:depth]))
            return name, _Named(rank, word, folder)
    return None


def _root_before(named: dict[str, _Named], others: list[str]) -> list[str]:
    """Where files say one stage that cannot come first, those of another name with times are the root; what is left."""
    words = {path: (tokens(Path(path).name.split(".")[0]) or [""])[0] for path in others}
    timed = [path for path in others if time_field(Lines.of(read_beginning(path, _LOOK_LINES).rows))]
    (name,) = {words[path] for path in timed} if len({words[path] for path in timed}) == 1 else {""}
    if not name or min(stage.rank for stage in named.values()) == 0:
        return others
    named[name] = _Named(0, name, paths=timed)
    return [path for path in others if path not in timed]


def _file_name(path: str) -> str:
    return re.split(r"[/\\]", path)[-1]


def _read(paths: Sequence[str], most: int) -> list[Beginning]:
    beginnings: list[Beginning] = []
    for path in paths:
        left = most - sum(len(beginning.rows) for beginning in beginnings)
        beginnings += [read_beginning(path, left)] if left > 0 else []
    return beginnings


def _lines(beginnings: Sequence[Beginning]) -> Lines:
    return Lines.of(row for beginning in beginnings for row in beginning.rows)


def _one_file_each(named: Sequence[_Named], unused: Sequence[str]) -> Layout:
    stages: list[StageGuess] = []
    beginnings: list[Beginning] = []
    for said in named:
        read = _read(said.paths, MOST_LINES)
        one = said.word.removesuffix("s")
        own = one if stage_in(one) or not stage_in(said.word) else said.word
        stages.append(StageGuess(own, said.rank, _lines(read), tuple(said.paths), said.folder))
        beginnings += read
    stages.sort(key=lambda stage: (stage.rank, -stage.count))
    if not stages[0].lines.count:
        raise DataError(f"{stages[0].paths[0]} holds no message, though its name says {stages[0].name}: name a log")
    events = tuple(path for stage in stages for path in stage.paths)
    return Layout(tuple(stages), events, tuple(beginnings), unused=tuple(unused))


def _one_log(paths: Sequence[str]) -> Layout:
    looks = [look for look in (read_beginning(path, _LOOK_LINES) for path in paths) if look.rows]
    timed = [look.path for look in looks if time_field(Lines.of(look.rows))]
    events = timed or [look.path for look in looks]
    if not events:
        raise DataError(
            f"{paths[0]} holds no message: JSON lines, CSV (called .csv or .tsv), Parquet and Arrow files can be read"
        )
    read = _read(events, MOST_LINES)
    lines = _lines(read)
    tables = tuple(look for look in looks if look.path not in events)
    field = _stage_field(lines)
    layout = _mixed(lines, field) if field else _told_by_fields(lines, events[0])
    return replace(layout, paths=tuple(events), beginnings=tuple(read), tables=tables)


def _stage_field(lines: Lines) -> Field | None:
    """The text of few values, two of which mean stages; or else one whose name says so."""
    texts = [f for f in lines.fields.values() if f.kind == "text" and f.share > 0.95]
    few = [f for f in texts if 2 <= len(f.distinct) <= _MOST_STAGES and not f.moments]
    meaning = {f.name: len({stage_meant(value) for value in f.distinct} - {None}) for f in few}
    best = max(few, key=lambda f: (meaning[f.name], tokens(f.name)[-1] in STAGE_FIELDS), default=None)
    return best if best is not None and meaning[best.name] > 1 else None


def _mixed(lines: Lines, field: Field) -> Layout:
    """Values that mean no stage are ignored; of several that mean the same, the commonest counts."""
    counts = Counter(text for text in field.texts if text is not None)
    values: dict[str, tuple[int, str]] = {}
    ignore: list[str] = []
    for value, _ in counts.most_common():
        meant = stage_meant(value)
        if meant is None or meant[1] in values:
            ignore.append(value)
        else:
            values[meant[1]] = (meant[0], value)
    stages = []
    for rank, value in sorted(values.values(), key=lambda found: (found[0], -counts[found[1]])):
        own = lines.only(np.array([text == value for text in field.texts], dtype=bool))
        name = stage_name(value)
        stages.append(StageGuess(name, rank, own, called=None if name == value else value))
    return Layout(tuple(stages), (), stage_field=field.name, ignore=tuple(ignore))


def stage_name(text: str) -> str:
    """`text` as the funnel can name a stage.

    >>> stage_name("Add to cart")
    'Add_to_cart'
    """
    name = re.sub(r"[^\w.-]+", "_", text).strip("_")
    return name if re.match(r"[^\W\d]", name) else f"stage_{name}"


def _told_by_fields(lines: Lines, path: str) -> Layout:
    named = stage_in(_file_name(path))
    time = time_field(lines)
    told = _late_stages(lines, time) if time else []
    told += [stage for stage in _flag_stages(lines) if stage.name not in {late.name for late in told}]
    told = told or _labelled(lines)
    is_root = named is not None and all(named[0] < stage.rank for stage in told)
    name = named[1] if named and is_root else "impression"
    told.sort(key=lambda stage: (stage.rank, -stage.count))
    if len(told) == 1 and told[0].when:
        told += _deeper(lines, told[0])
    return Layout((StageGuess(name, 0, lines), *told), ())


def _late_stages(lines: Lines, time: str) -> list[StageGuess]:
    stages: dict[str, StageGuess] = {}
    for field in late_times(lines, time):
        words = [word for word in tokens(field.name.rsplit(".", 1)[-1]) if word not in ("time", "at", "ts", "date")]
        rank, name = stage_meant(field.name) or (3, "_".join(words) or "outcome")
        stages.setdefault(name, StageGuess(stage_name(name), max(1, rank), lines, at=field.name))
    stages.pop("impression", None)
    return list(stages.values())


def _flag_stages(lines: Lines) -> list[StageGuess]:
    flags = [(field, stage_meant(field.name)) for field in lines.fields.values() if field.kind == "flag"]
    found = {
        meant[1]: StageGuess(meant[1], meant[0], lines, when=(f.name,)) for f, meant in flags if meant and meant[0]
    }
    return list(found.values())


def _labelled(lines: Lines) -> list[StageGuess]:
    """A flag that is called a label, or that is the only one."""
    flags = [field for field in lines.fields.values() if field.kind == "flag"]
    labels = [field for field in flags if set(tokens(field.name)) & LABELS] or flags[: len(flags) == 1]
    asked = "what does it say: a click, a conversion? name the stage so"
    return [StageGuess("click", 1, lines, when=(f.name,), question=asked) for f in labels[:1]]


def _deeper(lines: Lines, stage: StageGuess) -> list[StageGuess]:
    """A flag that is set almost only where the only stage has happened: perhaps what people go on to."""
    found = []
    for field in lines.fields.values():
        both = field.is_set & stage.happened
        inside = both.sum() / max(1, field.is_set.sum())
        if field.kind == "flag" and field.name not in stage.when and inside >= _NESTED and both.mean() >= 0.01:
            asked = f"{field.name} is nearly always behind {stage.name}: is it the outcome that matters?"
            name = stage_name(re.sub(r"^(is|has)_", "", field.name.rsplit(".", 1)[-1]))
            found.append(StageGuess(name, stage.rank + 1, lines, when=(*stage.when, field.name), question=asked))
    return sorted(found, key=lambda deeper: -deeper.count)[:1]
