"""What a model of a funnel predicts: one head per stage, and one over the whole path for stages further down.

Legend: B rows, S stages behind the root (column s of logits is stage s + 1).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamctr.schema import Funnel


@dataclass(frozen=True, slots=True)
class Head:
    """One predicted probability: `stage` happens, given its parent (`path` is the stage alone) or given the root only.

    A stage right behind the root has one head, which is both.
    """

    name: str
    stage: int
    path: tuple[int, ...]
    """Places of the stages whose conditional logits are combined."""
    entire: bool
    """Given the root only: rows that are `absent` count, with label 0."""

    @property
    def columns(self) -> tuple[int, ...]:
        """Where the logits of `path` stand in (B, S)."""
        return tuple(place - 1 for place in self.path)


def heads(funnel: Funnel) -> tuple[Head, ...]:
    """All heads, in the funnel's order; a stage's conditional head stands before its entire-space one.

    >>> from streamctr.schema import StageConfig
    >>> stage = StageConfig(observe="10s")
    >>> [head.name for head in heads(Funnel.from_mapping({"view": None, "click": stage, "conversion": stage}))]
    ['click', 'conversion|click', 'click&conversion']
    """
    found: list[Head] = []
    for place, stage in enumerate(funnel.stages[1:], start=1):
        path = funnel.path(place)
        if len(path) == 1:
            found.append(Head(stage.name, place, path, entire=True))
            continue
        found.append(Head(f"{stage.name}|{funnel.stages[stage.parent].name}", place, (place,), entire=False))
        found.append(Head("&".join(funnel.stages[p].name for p in path), place, path, entire=True))
    return tuple(found)


def head_logits(logits_BS: NDArray[np.floating], head: Head) -> NDArray[np.float64]:
    """A head's logits (B,) from the conditional logits of all stages, in float64.

    With p = p_a p_b: 1/p - 1 = e^-a + e^-b + e^-(a+b), so logit(p) = -logsumexp(-a, -b, -a-b), exact where 1 - p would
    round to 0.
    """
    columns = [logits_BS[:, column].astype(np.float64) for column in head.columns]
    total = columns[0]
    for other in columns[1:]:
        total = -np.logaddexp(np.logaddexp(-total, -other), -total - other)
    return total
