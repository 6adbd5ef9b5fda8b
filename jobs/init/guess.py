"""All guesses about a log, taken together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.init.features import FeatureGuess, find_features
from jobs.init.fields import Lines
from jobs.init.funnel import StageDraft, draft_funnel, positives
from jobs.init.keys import KeyGuess, find_key, find_user
from jobs.init.read import Beginning, expand
from jobs.init.stages import Layout, StageGuess, find_layout
from jobs.init.times import lateness_ms, time_field


@dataclass(frozen=True)
class Guess:
    """What a run file says of a log; None where nothing was found."""

    layout: Layout
    times: dict[str, str | None]
    """Each stage's time field, by the stage's name; a derived stage has its root's."""
    key: KeyGuess | None
    users: tuple[str, ...]
    """The likeliest first."""
    side_by_side: bool
    """Whether files of one stage are read so: one after the other, more would be late."""
    lateness_ms: int
    disorder_ms: float
    stages: tuple[StageDraft, ...]
    features: tuple[FeatureGuess, ...]


def guess(events: Sequence[str]) -> Guess:
    """Read the first messages of the files that `events` means, and guess.

    Raises:
        DataError: they cannot be read, or hold no message.
    """
    layout = find_layout(expand(events))
    root = layout.root
    times: dict[str, str | None] = {root.name: time_field(root.lines)}
    for stage in layout.stages[1:]:
        times[stage.name] = times[root.name] if stage.derived else time_field(stage.lines, times[root.name])
    told = {name for stage in layout.stages for name in (*stage.when, *([stage.at] if stage.at else []))}
    flags_tell = any(stage.when for stage in layout.stages)
    flags = {name for name, field in root.lines.fields.items() if field.kind == "flag"} if flags_tell else set()
    late = find_features(root.lines, _flagged(layout), told, flags_tell) if told else []
    outcomes = {feature.name for feature in late if feature.kind == "outcome"} | flags | told
    key = find_key(layout, times, sorted(outcomes))
    keys = _keys(layout, key)
    taken = {*told, times[root.name], layout.stage_field, *(key.fields if key and len(key.fields) == 1 else ())}
    features = find_features(root.lines, positives(layout, keys), {name for name in taken if name}, flags_tell)
    by_name = lateness_ms([_ms(stage, times[stage.name]) for stage in layout.stages])
    by_time = lateness_ms([_ms_of_file(layout, beginning, times) for beginning in layout.beginnings])
    side_by_side = by_time[0] < by_name[0]
    lateness, disorder_ms = by_time if side_by_side else by_name
    drafts = draft_funnel(layout, times, keys)
    users = [name for name in find_user(root.lines) if name not in outcomes]
    return Guess(layout, times, key, tuple(users), side_by_side, lateness, disorder_ms, tuple(drafts), tuple(features))


def _flagged(layout: Layout) -> NDArray[np.bool_]:
    happened: NDArray[np.bool_] = np.logical_or.reduce([s.happened for s in layout.stages[1:] if s.derived])
    return happened


def _keys(layout: Layout, key: KeyGuess | None) -> dict[str, tuple[str, ...]]:
    fields, others = (key.fields, key.others) if key else ((), {})
    return {stage.name: others.get(stage.name, fields) for stage in layout.stages}


def _ms(stage: StageGuess, time: str | None) -> NDArray[np.float64]:
    moments = stage.lines.fields[time].moments if time else None
    return moments.ms if moments else np.zeros(0)


def _ms_of_file(layout: Layout, beginning: Beginning, times: dict[str, str | None]) -> NDArray[np.float64]:
    """The times of one file's lines; those of a mixed one have the root's time field, or are left out."""
    owner = next((stage for stage in layout.stages if beginning.path in stage.paths), layout.root)
    field = Lines.of(beginning.rows).fields.get(times[owner.name] or "")
    return field.moments.ms if field and field.moments else np.zeros(0)
