"""What may describe a root and as what, what tells its outcome, and what is left out and why. Legend: N lines."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from jobs.init.fields import Field, Lines
from jobs.init.words import CALENDAR, is_row_weight, means_id, tokens

_FEW: Final = 20
"""So few different whole numbers are ids, unless their name says that they are a quantity."""
_ALMOST_UNIQUE: Final = 0.9
_TELLING: Final = 0.9
_MANY_LINES: Final = 50
_MOST_BAG: Final = 256


@dataclass(frozen=True)
class FeatureGuess:
    """A field of the root's lines, as what it is taken, how, and why."""

    name: str
    kind: Literal["id", "bag", "number", "vector", "outcome", "out"]
    setting: str
    why: str


def find_features(lines: Lines, positive: NDArray[np.bool_], taken: Collection[str], flags_tell: bool) -> list[
    FeatureGuess
]:  # fmt: skip
    """A guess for each field that is not `taken`.

    Args:
        lines: the root's.
        positive: (N,), the lines with an outcome.
        taken: fields with another part to play: key, time, stages.
        flags_tell: whether flags of the line say outcomes, so that other flags probably do as well.
    """
    fields = (field for field in lines.fields.values() if field.name not in taken)
    return [_leak(field, positive, flags_tell) or _feature(field, lines.count) for field in fields]


def _leak(field: Field, positive: NDArray[np.bool_], flags_tell: bool) -> FeatureGuess | None:
    """An outcome: a flag beside flags that say outcomes, or a value that stands only where there is an outcome."""
    if field.kind == "flag" and flags_tell:
        return FeatureGuess(field.name, "outcome", "", f"set in {int(field.is_set.sum()):,} of {len(positive):,} lines")
    base = float(positive.mean()) if len(positive) else 0.0
    there, happened = field.is_set, int(positive.sum())
    if min(happened, len(positive) - happened) < 5 or len(field.distinct) < 2:
        return None
    among = float(positive[there].mean()) if there.any() else 0.0
    if 3 <= there.sum() < 0.95 * len(there) and among >= _TELLING and base < 0.7:
        return FeatureGuess(field.name, "outcome", "", f"{among:.0%} of the lines that have it have an outcome")
    if _is_number(field) and (area := _area(field.numbers, positive)) > _TELLING:
        return FeatureGuess(field.name, "outcome", "", f"tells the outcome too well: AUC {area:.2f}")
    return None


def _area(numbers: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """The AUC of a number, missing ones lowest; ties count half, either direction counts."""
    values = np.nan_to_num(numbers, nan=-np.inf)
    ones, zeros = values[positive], np.sort(values[~positive])
    below = np.searchsorted(zeros, ones, "left") + np.searchsorted(zeros, ones, "right")
    area = float(below.mean()) / 2 / max(1, len(zeros))
    return max(area, 1 - area)


def _feature(field: Field, count: int) -> FeatureGuess:
    if field.kind == "list":
        return _list(field)
    out = _no_feature(field, count)
    if out is not None:
        return FeatureGuess(field.name, "out", "", out)
    many = f"{len(field.distinct):,} values"
    if _is_number(field):
        return _number(field)
    split = _split(field)
    return split or FeatureGuess(field.name, "id", "", many)


def _no_feature(field: Field, count: int) -> str | None:
    """Why a field describes nothing."""
    if field.kind in ("empty", "other"):
        return "a list of objects, or mixed" if field.kind == "other" else "always missing"
    if len(field.distinct) == 1:
        return f"always {min(field.distinct)[:40]}"
    if field.moments and (field.called_a_time or field.kind == "text"):
        return "a time"
    if is_row_weight(field.name):
        return "perhaps how much a root counts: see weight above"
    if CALENDAR & set(tokens(field.name)) and means_id(field.name) is not False:
        return "features.time says hour and weekday"
    unique = count >= _MANY_LINES and len(field.distinct) > _ALMOST_UNIQUE * len(field.present)
    is_id = field.kind == "text" or (field.kind == "whole" and means_id(field.name))
    return "another value in nearly every line" if unique and is_id else None


def _is_number(field: Field) -> bool:
    named = means_id(field.name)
    is_id = len(field.distinct) <= _FEW if named is None else named
    return field.kind == "decimal" or (field.kind == "whole" and not is_id)


def _number(field: Field) -> FeatureGuess:
    numbers = field.numbers[~np.isnan(field.numbers)]
    low, middle, high = (float(np.quantile(numbers, q)) for q in (0, 0.5, 1))
    spread = float(numbers.std()) or 1.0
    skewed = low >= 0 and float((((numbers - numbers.mean()) / spread) ** 3).mean()) > 1
    return FeatureGuess(
        field.name,
        "number",
        "log1p" if skewed else "none",
        f"{_figure(low)} to {_figure(high)}, median {_figure(middle)}",
    )


def _figure(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.4g}"


def _split(field: Field) -> FeatureGuess | None:
    """A text of several values: its parts are fewer than its wholes."""
    texts = [text for text in field.texts if text is not None]
    for mark in "|;,":
        parts = [text.split(mark) for text in texts]
        several = sum(len(part) > 1 for part in parts)
        if several >= 0.05 * len(texts) and len({p for part in parts for p in part}) < len(field.distinct):
            most = _room(max(len(part) for part in parts))
            return FeatureGuess(field.name, "bag", f'{{split: "{mark}", most: {most}}}', f"texts split at {mark}")
    return None


def _room(longest: int) -> int:
    """Of how many values a bag should have room: twice what the sample has."""
    return min(_MOST_BAG, 2 * longest)


def _list(field: Field) -> FeatureGuess:
    """Equally many numbers are a vector; ids are a bag; the rest is left out."""
    items = [item for items in field.present for item in items if item is not None]
    lengths = {len(items) for items in field.present}
    numeric = all(isinstance(item, int | float) and not isinstance(item, bool) for item in items)
    if numeric and len(lengths) == 1 and max(lengths) > 1 and any(isinstance(item, float) for item in items):
        return FeatureGuess(field.name, "vector", str(max(lengths)), "lists of equally many numbers")
    if items and all(isinstance(item, str | int) for item in items):
        why = f"lists of up to {max(lengths)} of {len(set(items)):,} values"
        return FeatureGuess(field.name, "bag", f"{{most: {_room(max(lengths))}}}", why)
    return FeatureGuess(field.name, "out", "", "lists of neither ids nor equally many numbers")
