"""By which field each stage's lines name the root, and which field names the user."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations
from typing import Final

import numpy as np

from jobs.init.fields import Field, Lines
from jobs.init.stages import Layout, StageGuess
from jobs.init.words import CALENDAR, IDENTITY, ITEMS, stage_in, tokens, user_rank

_UNIQUE: Final = 0.95
_NAMED: Final = 0.3
"""So many of a child's values must be the root's, where its times are those of the sample."""


@dataclass(frozen=True)
class KeyGuess:
    """The root's key; and that of each stage with messages of its own that calls it otherwise."""

    fields: tuple[str, ...]
    others: Mapping[str, tuple[str, ...]]
    question: str | None = None


def find_key(layout: Layout, times: dict[str, str | None], outcomes: Sequence[str]) -> KeyGuess | None:
    """The key, if anything can be one.

    Args:
        layout: the stages.
        times: each stage's time field, by the stage's name.
        outcomes: fields of the root's lines that are known only later.
    """
    root, children = layout.root, [stage for stage in layout.stages[1:] if not stage.derived]
    usable = [field for field in _usable(root.lines) if field.name not in outcomes]
    if not children:
        return _alone(root.lines, usable, times[root.name])
    cut = {child.name: _until(child, times[child.name], root, times[root.name]) for child in children}
    single = [field for field in usable if len(field.distinct) >= _UNIQUE * len(field.present)]
    best: tuple[float, KeyGuess] | None = None
    for field in single:
        fits = {name: max((_fit(field, other, root.name), other.name) for other in _usable(lines) or [field])
                for name, lines in cut.items()}  # fmt: skip
        if all(fit >= _NAMED for fit, _ in fits.values()):
            others = {name: (other,) for name, (_, other) in fits.items() if other != field.name}
            total = sum(fit for fit, _ in fits.values()) + bool(IDENTITY & set(tokens(field.name)))
            best = max(best or (0.0, KeyGuess((), {})), (total, KeyGuess((field.name,), others)), key=lambda b: b[0])
    return best[1] if best else _shared(root.lines, usable, cut) or _asked(single)


def _usable(lines: Lines) -> list[Field]:
    """Fields that can be a key or a part of it: in every line, texts or whole numbers, and no time."""
    return [
        field
        for field in lines.fields.values()
        if field.share > 0.99 and field.kind in ("text", "whole") and len(field.distinct) > 1
        if not (field.moments and (field.called_a_time or field.kind == "text"))
        if not set(tokens(field.name)) & (CALENDAR - {"time", "timestamp"})
    ]


def _until(child: StageGuess, child_time: str | None, root: StageGuess, root_time: str | None) -> Lines:
    """The child's lines up to the last root of the sample: later ones name roots that were not read."""
    if child_time is None or root_time is None:
        return child.lines
    at, of = child.lines.fields[child_time].moments, root.lines.fields[root_time].moments
    if at is None or of is None:
        return child.lines
    return child.lines.only(at.ms <= np.nanmax(of.ms))


def _fit(key: Field, other: Field, root: str) -> float:
    """How many of the other's values are keys, and more where its name says that they are."""
    overlap = len(other.distinct & key.distinct) / max(1, len(other.distinct))
    if overlap < _NAMED:
        return overlap * 0.1
    words, own = set(tokens(other.name)), stage_in(root)
    about = any((meant := stage_in(word)) and own and meant[1] == own[1] for word in words)
    return overlap + 0.5 * (other.name == key.name) + 0.5 * about


def _alone(lines: Lines, usable: Sequence[Field], time: str | None) -> KeyGuess | None:
    """A unique field; or else the user, the item and the time, and then the fewest fields that tell lines apart."""
    unique = [f for f in usable if len(f.distinct) >= _UNIQUE * lines.count and IDENTITY & set(tokens(f.name))]
    if unique:
        return KeyGuess((unique[0].name,), {})
    ids = [field for field in usable if len(field.distinct) < _UNIQUE * lines.count or user_rank(field.name)]
    user = [name for name in find_user(lines)[:1] if name in {field.name for field in ids}]
    item = [f.name for f in ids if ITEMS & set(tokens(f.name)) and f.name not in user][:1]
    field = lines.fields[time] if time else None
    last = [field.name] if field and field.kind != "decimal" and not isinstance(field.present[0], datetime) else []
    chosen = [*user, *item, *last]
    target = _different(lines, [*dict.fromkeys([*(f.name for f in ids), *last])]) * 0.9995
    rest = [field.name for field in ids if field.name not in chosen]
    while _different(lines, chosen) < target and rest:
        more = max(rest, key=lambda name: _different(lines, [*chosen, name]))
        chosen.insert(len(chosen) - len(last), more)
        rest.remove(more)
    if not chosen:
        return None
    repeats = lines.count - _different(lines, chosen)
    asked = f"no single field is unique; {repeats:,} of {lines.count:,} lines repeat another's key: repeats count once"
    return KeyGuess(tuple(chosen), {}, asked)


def _shared(root: Lines, usable: Sequence[Field], children: dict[str, Lines]) -> KeyGuess | None:
    """The fewest fields that together are unique, under one name in every stage."""
    names = [f.name for f in usable if all(f.name in (g.name for g in _usable(c)) for c in children.values())]
    for size in (1, 2, 3):
        for chosen in combinations(names[:12], size):
            if _different(root, chosen) >= _UNIQUE * root.count:
                return KeyGuess(chosen, {}, _doubt(root, chosen, children))
    return None


def _doubt(root: Lines, chosen: Sequence[str], children: dict[str, Lines]) -> str:
    """What to ask of a key that hardly any child's line has."""
    own = {_whole(text) for text in root.fields[chosen[0]].distinct}
    theirs = {_whole(text) for lines in children.values() for text in lines.fields[chosen[0]].distinct}
    if len(chosen) == 1 and len(own & theirs) >= _NAMED * len(theirs):
        return f"07 and 7 are two texts: are they one id? then add types: {{{chosen[0]}: integer}}"
    return "is a root meant by these? too few of the sample's lines show it"


def _whole(text: str) -> str:
    return text.lstrip("0") if text.isdecimal() else text


def _asked(single: Sequence[Field]) -> KeyGuess | None:
    named = [field for field in single if IDENTITY & set(tokens(field.name))]
    return KeyGuess((named[0].name,), {}, "which field names the root in the other stages?") if named else None


def _different(lines: Lines, names: Sequence[str]) -> int:
    return len(set(zip(*(lines.fields[name].texts for name in names), strict=True))) if names else 0


def find_user(lines: Lines) -> list[str]:
    """Fields that may name the user, the likeliest first: called so, and repeated by not too few values."""
    ranked = [
        (rank, field.name)
        for field in _usable(lines)
        if (rank := user_rank(field.name)) is not None
        if min(10, lines.count / 5) <= len(field.distinct) < 0.98 * len(field.present)
    ]
    if lines.count >= 1000:  # ios and android are no users
        ranked = [(rank, name) for rank, name in ranked if len(lines.fields[name].distinct) >= 0.005 * lines.count]
    return [name for _, name in sorted(ranked, key=lambda found: found[0])]
