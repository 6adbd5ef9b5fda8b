"""Which stage follows which, and after how long: what the sample shows of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from jobs.init.fields import Lines
from jobs.init.stages import Layout, StageGuess
from jobs.init.times import readable_ms
from jobs.init.words import VALUES, tokens
from streamctr.schema import duration_text, parse_duration_ms

_FOLLOWS: Final = 0.8
_DEFAULTS: Final = ("30m", "1h")
_HEADROOM: Final = 1.5
"""The window holds so much more than the longest delay of the sample: a whole log has longer ones."""


@dataclass(frozen=True)
class StageDraft:
    """A stage as the run file will have it; the root has no windows."""

    guess: StageGuess
    parent: str
    after: str | None
    """Its parent, where that is not the stage above."""
    rate: float | None
    """How many of its parents it follows, where that can be seen."""
    observe_ms: int
    window_ms: int
    value: str | None
    why: str
    question: str | None


def draft_funnel(
    layout: Layout, times: Mapping[str, str | None], keys: Mapping[str, tuple[str, ...]]
) -> list[StageDraft]:
    """Parents and windows of the stages behind the root.

    Args:
        layout: the stages.
        times: each stage's time field, by the stage's name.
        keys: each stage's key fields.
    """
    firsts = {stage.name: _first_ms(stage, times[stage.name], keys[stage.name]) for stage in layout.stages}
    drafts: list[StageDraft] = []
    for place, stage in enumerate(layout.stages[1:], start=1):
        above = [before.name for before in layout.stages[:place]]
        parent = next((name for name in reversed(above[1:]) if _follows(firsts[stage.name], firsts[name])), above[0])
        delays = [ms - firsts[parent][key] for key, ms in firsts[stage.name].items() if key in firsts[parent]]
        observe_ms, window_ms, why, question = _windows(stage, [delay for delay in delays if delay >= 0], place)
        after = None if parent == above[-1] else parent
        value = None if stage.derived or place + 1 < len(layout.stages) else _value(stage.lines, layout.root.lines)
        asked = stage.question or _about_time(stage, times[stage.name], _form(layout.root, times[above[0]])) or question
        rate = len(delays) / len(firsts[parent]) if delays else None
        drafts.append(StageDraft(stage, parent, after, rate, observe_ms, window_ms, value, why, asked))
    return drafts


def positives(layout: Layout, keys: Mapping[str, tuple[str, ...]]) -> NDArray[np.bool_]:
    """(N,), the root's lines that some stage follows."""
    followed: set[str | None] = set()
    happened = np.zeros(layout.root.lines.count, dtype=bool)
    for stage in layout.stages[1:]:
        if stage.derived:
            happened |= stage.happened
        else:
            followed |= set(key_texts(stage.lines, keys[stage.name]))
    own = key_texts(layout.root.lines, keys[layout.root.name])
    happened |= np.array([key is not None and key in followed for key in own], dtype=bool)
    return happened


def key_texts(lines: Lines, names: tuple[str, ...]) -> list[str | None]:
    """The key of each line; None where a part is missing."""
    if not names or any(name not in lines.fields for name in names):
        return [None] * lines.count
    parts = zip(*(lines.fields[name].texts for name in names), strict=True)
    return [None if None in part else ":".join(map(str, part)) for part in parts]


def _first_ms(stage: StageGuess, time: str | None, key: tuple[str, ...]) -> dict[str, float]:
    """When the stage first happened to each key of the sample."""
    field = stage.lines.fields.get(stage.at or time or "")
    if field is None or field.moments is None:
        return {}
    there = stage.happened if stage.derived else np.ones(stage.lines.count, dtype=bool)
    first: dict[str, float] = {}
    for text, ms, happened in zip(key_texts(stage.lines, key), field.moments.ms, there, strict=True):
        if text is not None and happened and not np.isnan(ms):
            first[text] = min(ms, first.get(text, ms))
    return first


def _follows(child: Mapping[str, float], parent: Mapping[str, float]) -> bool:
    """Whether nearly all of the child's keys had the parent stage, as far as its sample goes; a few tell nothing."""
    last = max(parent.values(), default=-np.inf)
    due = [key for key, ms in child.items() if ms <= last]
    return len(due) < 5 or sum(key in parent for key in due) >= _FOLLOWS * len(due)


def _windows(stage: StageGuess, delays: list[float], place: int) -> tuple[int, int, str, str | None]:
    """Observe, window, why so, and what is left to ask."""
    if stage.when and stage.at is None:
        asked = "the flag says not when: if it is known later than its line, add delay: 10s or so"
        return 10_000, 10_000, f"{stage.count:,} of {stage.lines.count:,} lines", asked
    if not delays:
        observe_ms = parse_duration_ms(_DEFAULTS[min(place, 2) - 1])
        return observe_ms, observe_ms, "no delay is seen in the sample", "how late may it still come?"
    observe_ms = readable_ms(float(np.quantile(delays, 0.75)))
    window_ms = max(observe_ms, readable_ms(max(delays) * _HEADROOM))
    middle, longest = (duration_text(readable_ms(ms)) for ms in (float(np.median(delays)), max(delays)))
    why = f"{len(delays):,} in the sample: half within {middle}, all within {longest}"
    return observe_ms, window_ms, why, None


def _form(stage: StageGuess, time: str | None) -> str | None:
    field = stage.lines.fields.get(time or "")
    return field.moments.form if field and field.moments else None


def _about_time(stage: StageGuess, time: str | None, root_form: str | None) -> str | None:
    """What to ask of a stage whose messages have no time, or write it otherwise than the root's."""
    form = _form(stage, time)
    if stage.derived:
        return None
    if form is None:
        return "which field is its time?"
    differs = form != root_form and "text" not in (form, root_form)
    return f"its times are numbers of {form}, the root's of {root_form}: one unit is for all" if differs else None


def _value(lines: Lines, root: Lines) -> str | None:
    """A number that is called a value and that no root has: a root's own price may describe it."""
    numbers = (f for f in lines.fields.values() if f.kind in ("whole", "decimal") and f.name not in root.fields)
    return next((field.name for field in numbers if VALUES & set(tokens(field.name)[-1:])), None)
