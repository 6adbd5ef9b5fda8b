"""What a model of a funnel predicts: one head per stage, and one over the whole path for stages further down."""

from dataclasses import dataclass

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
