"""Optimisers of the dense parameters, with state that is named arrays.

Legend: N numbers of all parameters, Q parts of a batch, W workers of a loop."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Final

import numpy as np
import torch
from numba import prange
from numpy.typing import NDArray

from streamctr.cores import Turns, side_by_side, turn
from streamctr.finite import exponents, is_below
from streamctr.kernel import kernel
from streamctr.ports import Arrays
from streamctr.training.config import TrainingConfig

F32 = NDArray[np.float32]

AT_ONCE: Final = 1 << 14
"""Numbers that a core steps at a time."""


class DenseOptimizer:
    """Steps all dense parameters by Adam (Kingma and Ba 2015, algorithm 1) or by Adagrad that forgets.

    It moves the parameters into memory where they stand one behind the other.
    """

    def __init__(self, config: TrainingConfig, parameters: Mapping[str, torch.nn.Parameter]) -> None:
        self._config = config
        self._all_N = np.concatenate([p.detach().numpy().reshape(-1) for p in parameters.values()])
        ends = np.cumsum([parameter.numel() for parameter in parameters.values()]).tolist()
        self.places = dict(zip(parameters, (slice(*span) for span in pairwise([0, *ends])), strict=True))
        """Where each parameter stands."""
        for name, parameter in parameters.items():
            parameter.data = torch.from_numpy(self._all_N[self.places[name]]).view(parameter.shape)
        moments = ("first", "second") if config.optimizer == "adam" else ("second",)
        self._moments = {moment: np.zeros_like(self._all_N) for moment in moments}
        self.grads_QN = np.zeros((config.threads, len(self._all_N)), np.float32)
        """Gradients, each the sum of a column: zeros but between a backward and the step."""
        self.largest_Q16 = np.zeros((config.threads, 16), np.int32)
        """How large they are: who adds some notes the largest exponent field of a row in its first place."""
        self._steps = 0

    def finite(self) -> bool:
        """Whether all gradients are finite, and small enough for a step."""
        return is_below(int(self.largest_Q16.max()), _BELOW)

    def add(self, name: str, grad: F32) -> None:
        """The gradient of a parameter."""
        row_N = self.grads_QN[0, self.places[name]]
        row_N += grad.reshape(-1)
        exponents(row_N.view(np.int32), self.largest_Q16[0])

    def step(self) -> None:
        """Move the parameters against the gradients, and clear these."""
        self._steps += 1
        self.largest_Q16[:] = 0
        config, second = self._config, self._moments["second"]
        if config.optimizer == "adam":
            # m / (1 - b1^t) and v / (1 - b2^t) as one rate and one scale of the step.
            rate, scale = config.lr / (1.0 - 0.9**self._steps), 1.0 / np.sqrt(1.0 - 0.999**self._steps)
            adam(self._all_N, self.grads_QN, self._moments["first"], second, (np.float32(rate), np.float32(scale)))
        else:
            adagrad(self._all_N, self.grads_QN, second, (np.float32(config.lr), np.float32(config.decay)))

    def drop(self) -> None:
        """Clear the gradients without a step."""
        self.grads_QN[...] = 0.0
        self.largest_Q16[:] = 0

    def state(self) -> Arrays:
        """Number of steps, and the running moments of every parameter."""
        parts = {
            f"{m}.{name}": all_N[place] for m, all_N in self._moments.items() for name, place in self.places.items()
        }
        return {"steps": np.array([self._steps]), **parts}

    def restore(self, arrays: Arrays) -> None:
        """Go on from `state`."""
        self._steps = int(arrays["steps"][0])
        for m, all_N in self._moments.items():
            for name, place in self.places.items():
                all_N[place] = arrays[f"{m}.{name}"]


_BELOW: Final = 60
"""A gradient from 2^60 on: a sum of its squares might overflow, and stop a parameter for good."""


_LEAST: Final = np.float32(2.0**-100)
"""Of a running mean: what halves for ever would end among denormal numbers, which are slow."""


@side_by_side
def adam(
    turns: Turns, all_N: F32, grads_QN: F32, first_N: F32, second_N: F32, by: tuple[np.float32, np.float32]
) -> None:
    """m <- .9 m + .1 g;  v <- .999 v + .001 g^2;  w <- w - rate m / (scale sqrt(v) + 1e-8);  g <- 0."""
    parts = (len(all_N) + AT_ONCE - 1) // AT_ONCE
    for _ in prange(turns.workers):
        part = turn(turns, parts)
        while part < parts:
            begin, end = part * AT_ONCE, min(len(all_N), (part + 1) * AT_ONCE)
            _add_up(grads_QN, begin, end)
            _adam(all_N[begin:end], grads_QN[0, begin:end], first_N[begin:end], second_N[begin:end], by)
            part = turn(turns, parts)


@kernel
def _add_up(grads_QN: F32, begin: int, end: int) -> None:
    """The first row becomes the sum of all; the others are cleared."""
    sum_N = grads_QN[0, begin:end]
    for q in range(1, len(grads_QN)):
        grad_N = grads_QN[q, begin:end]
        for n in range(len(grad_N)):
            sum_N[n] += grad_N[n]
            grad_N[n] = 0.0


@kernel
def _adam(all_N: F32, grad_N: F32, first_N: F32, second_N: F32, by: tuple[np.float32, np.float32]) -> None:
    keep1, add1 = np.float32(0.9), np.float32(1.0 - 0.9)
    keep2, add2 = np.float32(0.999), np.float32(1.0 - 0.999)
    eps, zero = np.float32(1e-8), np.float32(0.0)
    rate, scale = by
    for n in range(len(all_N)):
        first = keep1 * first_N[n] + add1 * grad_N[n]
        first_N[n] = zero if abs(first) < _LEAST else first
        second_N[n] = keep2 * second_N[n] + add2 * grad_N[n] * grad_N[n]
        all_N[n] -= rate * first_N[n] / (scale * np.sqrt(second_N[n]) + eps)
        grad_N[n] = 0.0


@side_by_side
def adagrad(turns: Turns, all_N: F32, grads_QN: F32, second_N: F32, by: tuple[np.float32, np.float32]) -> None:
    """a <- decay a + g^2;  w <- w - lr g / (sqrt(a) + 1e-10);  g <- 0     (Duchi et al. 2011, with a decay)."""
    parts = (len(all_N) + AT_ONCE - 1) // AT_ONCE
    for _ in prange(turns.workers):
        part = turn(turns, parts)
        while part < parts:
            begin, end = part * AT_ONCE, min(len(all_N), (part + 1) * AT_ONCE)
            _add_up(grads_QN, begin, end)
            _adagrad(all_N[begin:end], grads_QN[0, begin:end], second_N[begin:end], by)
            part = turn(turns, parts)


@kernel
def _adagrad(all_N: F32, grad_N: F32, second_N: F32, by: tuple[np.float32, np.float32]) -> None:
    eps = np.float32(1e-10)
    lr, decay = by
    for n in range(len(all_N)):
        second_N[n] = decay * second_N[n] + grad_N[n] * grad_N[n]
        all_N[n] -= lr * grad_N[n] / (np.sqrt(second_N[n]) + eps)
        grad_N[n] = 0.0
