"""Which field is an event's time, how far lines are out of order, and durations that read well. Legend: N lines."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from jobs.init.fields import Field, Lines
from jobs.init.words import tokens
from streamctr.schema import parse_duration_ms

_READABLE_MS: Final = [
    parse_duration_ms(text)
    for text in "1s 5s 10s 30s 1m 2m 5m 10m 30m 1h 2h 6h 12h 1d 2d 3d 7d 14d 30d 60d 90d 180d 365d".split()  # noqa: SIM905
]
_LATENESS_MS: Final = [parse_duration_ms(text) for text in ("1m", "10m", "1h", "6h", "1d", "2d", "3d", "7d", "30d")]
_BEST_WORDS: Final = ("time", "timestamp", "ts", "datetime")
_UNSORTED: Final = 0.2
"""A log with more steps back in time than this is in no order at all."""


def readable_ms(duration_ms: float) -> int:
    """The next longer duration that people write.

    >>> readable_ms(0), readable_ms(7_000)
    (1000, 10000)
    """
    return next((step for step in _READABLE_MS if step > duration_ms), _READABLE_MS[-1])


def time_field(lines: Lines, prefer: str | None = None) -> str | None:
    """The field that every line has, that reads as times, and that is called so or goes up; `prefer` wins if it can."""
    best = {field.name: _fitness(field) for field in lines.fields.values() if field.share > 0.99 and field.moments}
    if prefer in best:
        return prefer
    name = max(best, key=lambda name: best[name], default=None)
    return name if name is not None and best[name] > 0.9 else None


def _fitness(field: Field) -> float:
    assert field.moments is not None
    words = tokens(field.name)
    named = 1.5 if set(words) & set(_BEST_WORDS) else 1.0 if field.called_a_time else 0.0
    exact = 0.2 if len(words) == 1 else 0.0
    steps = np.diff(field.moments.ms)
    rising = float((steps >= 0).mean()) if len(steps) else 1.0
    return named + exact + rising if named or field.moments.form == "text" else rising - 0.05


def late_times(lines: Lines, time: str) -> list[Field]:
    """Fields with a time that is mostly missing and never before the line's own."""
    moments = lines.fields[time].moments
    return [
        field
        for field in lines.fields.values()
        if field.name != time and field.share < 0.8 and field.moments and moments is not None
        if not (field.moments.ms < moments.ms).any()
    ]


def lateness_ms(order: list[NDArray[np.float64]]) -> tuple[int, float]:
    """The `lateness` that holds each stage's disorder, and the worst disorder seen; lines stand in file order."""
    worst = needed = 0.0
    for ms in (ms[~np.isnan(ms)] for ms in order):
        if len(ms) < 2:
            continue
        behind = float((np.maximum.accumulate(ms) - ms).max())
        unsorted = (np.diff(ms) < 0).mean() > _UNSORTED
        worst, needed = max(worst, behind), max(needed, float(np.ptp(ms)) if unsorted else behind)
    return next((step for step in _LATENESS_MS if step >= needed), readable_ms(needed)), worst
