"""Delayed feedback: which rows of the emission log train which heads, with which weight.

Legend: N rows, K stages with the root, S = K - 1 stages behind it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from streamctr.errors import ConfigError
from streamctr.kernel import kernel
from streamctr.models import Targets
from streamctr.samples import ABSENT, LATE, OBSERVED
from streamctr.schema import Funnel

MethodName = Literal["cross_entropy"]

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Method:
    """A choice of what is said, a weight for it, and the `observe` that makes it right (None: any)."""

    trains_on: int
    """Bits of `says` that train a stage's conditional head; `absent` trains entire-space heads under every method."""
    weigh: "Callable[[U8, U8, F32, F32], None]"
    """Writes labels, and the weights of conditional and entire-space heads, (3, N, S), from `says` and `label`, (N, K),
    and the weights of the rows: a kernel."""
    observe_ms: int | None


def trains(name: MethodName, says_NK: U8, entire_space: bool) -> NDArray[np.bool_]:
    """Which rows train any head (N,), of a model with or without entire-space heads."""
    bits = METHODS[name].trains_on | (ABSENT if entire_space else 0)
    return np.asarray((reduce(np.bitwise_or, says_NK.T) & bits) != 0)  # by column, as `SampleBatch.said`


def targets(name: MethodName, says_NK: U8, label_NK: U8, weight_N: NDArray[np.float32]) -> Targets:
    """Labels of every head, and their weights by the method times those of the rows."""
    out_3NS = np.empty((3, len(says_NK), says_NK.shape[1] - 1), np.float32)
    METHODS[name].weigh(says_NK, label_NK, weight_N, out_3NS)
    return Targets(*(torch.from_numpy(out_NS) for out_NS in out_3NS))


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


@kernel
def _cross_entropy(says_NK: U8, label_NK: U8, weight_N: F32, out_3NS: F32) -> None:
    """Every label as it is said, with weight 1."""
    for n in range(len(says_NK)):
        for stage in range(out_3NS.shape[2]):
            says, weight = says_NK[n, 1 + stage], weight_N[n]
            out_3NS[0, n, stage] = label_NK[n, 1 + stage]
            out_3NS[1, n, stage] = weight if says & (OBSERVED | LATE) else 0.0
            out_3NS[2, n, stage] = weight if says & (OBSERVED | LATE | ABSENT) else 0.0


METHODS: Final[dict[MethodName, Method]] = {
    "cross_entropy": Method(trains_on=OBSERVED | LATE, weigh=_cross_entropy, observe_ms=None),
}
