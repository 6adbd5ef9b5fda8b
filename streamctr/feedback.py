"""Delayed feedback: which rows of the emission log train which heads, with which weight.

Legend: N rows, K stages with the root, S = K - 1 stages behind it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from streamctr.errors import ConfigError
from streamctr.models import Targets
from streamctr.samples import ABSENT, LATE, OBSERVED
from streamctr.schema import Funnel

MethodName = Literal["cross_entropy"]

U8 = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Method:
    """A choice of what is said, a weight for it, and the `observe` that makes it right (None: any)."""

    trains_on: int
    """Bits of `says` that train a stage's conditional head; `absent` trains entire-space heads under every method."""
    weigh: Callable[[U8, U8], Targets]
    """Targets from `says` and `label` (N, S)."""
    observe_ms: int | None


def trains(name: MethodName, says_NK: U8, entire_space: bool) -> NDArray[np.bool_]:
    """Which rows train any head (N,), of a model with or without entire-space heads."""
    bits = METHODS[name].trains_on | (ABSENT if entire_space else 0)
    return np.asarray((says_NK & bits).any(axis=1))


def targets(name: MethodName, says_NK: U8, label_NK: U8, weight_N: NDArray[np.float32]) -> Targets:
    """Labels of every head, and their weights by the method times those of the rows."""
    method = METHODS[name].weigh(says_NK[:, 1:], label_NK[:, 1:])
    weight_N1 = torch.tensor(weight_N)[:, None]
    return Targets(method.labels_BS, method.given_BS * weight_N1, method.entire_BS * weight_N1)


def check(name: MethodName, funnel: Funnel) -> None:
    """Refuse stages whose `observe` the method cannot use.

    Raises:
        ConfigError: a stage's `observe` is not the one that the method needs.
    """
    needed_ms = METHODS[name].observe_ms
    for stage in funnel.stages[1:]:
        if needed_ms is not None and stage.observe_ms != needed_ms:
            raise ConfigError(
                f"delayed_feedback {name} needs an observe of {needed_ms}ms, "
                f"but {stage.name}.observe is {stage.observe_ms}ms; set it, or choose another method"
            )


def _cross_entropy(says_NS: U8, label_NS: U8) -> Targets:
    """Every label as it is said, with weight 1."""
    given = (says_NS & (OBSERVED | LATE)) != 0
    entire = given | ((says_NS & ABSENT) != 0)
    return Targets(_tensor(label_NS), _tensor(given), _tensor(entire))


def _tensor(values_NS: NDArray[np.uint8] | NDArray[np.bool_]) -> torch.Tensor:
    return torch.tensor(values_NS, dtype=torch.float32)


METHODS: Final[dict[MethodName, Method]] = {
    "cross_entropy": Method(trains_on=OBSERVED | LATE, weigh=_cross_entropy, observe_ms=None),
}
