"""Optimisers of the dense parameters, with state that is named arrays. Legend: P numbers of a parameter."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

import numpy as np
import torch
from numba import prange
from numpy.typing import NDArray

from streamctr.kernel import kernel, side_by_side
from streamctr.ports import Arrays
from streamctr.training.config import TrainingConfig

F32 = NDArray[np.float32]


class DenseOptimizer:
    """Steps all dense parameters by Adam (Kingma and Ba 2015, algorithm 1) or by Adagrad that forgets.

    It moves the parameters into memory where they stand one behind the other.
    """

    def __init__(self, config: TrainingConfig, parameters: Mapping[str, torch.nn.Parameter]) -> None:
        self._config, self._parts = config, config.threads
        self._all_P = np.concatenate([p.detach().numpy().reshape(-1) for p in parameters.values()])
        ends = np.cumsum([parameter.numel() for parameter in parameters.values()]).tolist()
        self._places = dict(zip(parameters, (slice(*span) for span in pairwise([0, *ends])), strict=True))
        for name, parameter in parameters.items():
            parameter.data = torch.from_numpy(self._all_P[self._places[name]]).view(parameter.shape)
        moments = ("first", "second") if config.optimizer == "adam" else ("second",)
        self._moments = {moment: np.zeros_like(self._all_P) for moment in moments}
        self._grads_P = np.empty_like(self._all_P)
        self._steps = 0

    def take(self, grads: Sequence[torch.Tensor]) -> bool:
        """Gradients of all parameters, in their order; whether they are finite, and small enough for a step."""
        np.concatenate([grad.numpy().reshape(-1) for grad in grads], out=self._grads_P)
        return finite(self._grads_P, _BELOW, self._parts)

    def step(self) -> None:
        """Move the parameters against the gradients that were taken last."""
        self._steps += 1
        config, second = self._config, self._moments["second"]
        if config.optimizer == "adam":
            # m / (1 - b1^t) and v / (1 - b2^t) as one rate and one scale of the step.
            rate, scale = config.lr / (1.0 - 0.9**self._steps), 1.0 / np.sqrt(1.0 - 0.999**self._steps)
            by = np.float32(rate), np.float32(scale)
            adam(self._all_P, self._grads_P, self._moments["first"], second, by, self._parts)
        else:
            by = np.float32(config.lr), np.float32(config.decay)
            adagrad(self._all_P, self._grads_P, second, by, self._parts)

    def state(self) -> Arrays:
        """Number of steps, and the running moments of every parameter."""
        parts = {
            f"{m}.{name}": all_P[place] for m, all_P in self._moments.items() for name, place in self._places.items()
        }
        return {"steps": np.array([self._steps]), **parts}

    def restore(self, arrays: Arrays) -> None:
        """Go on from `state`."""
        self._steps = int(arrays["steps"][0])
        for m, all_P in self._moments.items():
            for name, place in self._places.items():
                all_P[place] = arrays[f"{m}.{name}"]


_BELOW: Final = 60
"""A gradient from 2^60 on: a sum of its squares might overflow, and stop a parameter for good."""


def finite(grad: F32, below: int, parts: int) -> bool:
    """Whether every number of a contiguous gradient is finite, and smaller than 2^`below`."""
    largest = np.zeros((parts, 16), np.int32)
    exponents(grad.reshape(-1).view(np.int32), largest)
    return bool((largest < below + 127 << 23).all())


@side_by_side
def exponents(bits_P: NDArray[np.int32], largest: NDArray[np.int32]) -> None:
    """Of each part, the largest exponent field of float32 numbers, given as integers; all ones: not finite."""
    parts = len(largest)
    for part in prange(parts):
        largest[part, 0] = _exponent(bits_P[len(bits_P) * part // parts : len(bits_P) * (part + 1) // parts])


@kernel
def _exponent(bits_P: NDArray[np.int32]) -> int:
    largest = np.int32(0)
    for p in range(len(bits_P)):
        largest = max(largest, bits_P[p] & np.int32(0x7F800000))
    return int(largest)


@side_by_side
def adam(
    parameter_P: F32, grad_P: F32, first_P: F32, second_P: F32, by: tuple[np.float32, np.float32], parts: int
) -> None:
    """m <- .9 m + .1 g;  v <- .999 v + .001 g^2;  w <- w - rate m / (scale sqrt(v) + 1e-8)."""
    for part in prange(parts):
        mine = slice(len(parameter_P) * part // parts, len(parameter_P) * (part + 1) // parts)
        _adam(parameter_P[mine], grad_P[mine], first_P[mine], second_P[mine], by)


@kernel
def _adam(parameter_P: F32, grad_P: F32, first_P: F32, second_P: F32, by: tuple[np.float32, np.float32]) -> None:
    keep1, add1 = np.float32(0.9), np.float32(1.0 - 0.9)
    keep2, add2 = np.float32(0.999), np.float32(1.0 - 0.999)
    eps = np.float32(1e-8)
    rate, scale = by
    for p in range(len(parameter_P)):
        first_P[p] = keep1 * first_P[p] + add1 * grad_P[p]
        second_P[p] = keep2 * second_P[p] + add2 * grad_P[p] * grad_P[p]
        parameter_P[p] -= rate * first_P[p] / (scale * np.sqrt(second_P[p]) + eps)


@side_by_side
def adagrad(parameter_P: F32, grad_P: F32, second_P: F32, by: tuple[np.float32, np.float32], parts: int) -> None:
    """a <- decay a + g^2;  w <- w - lr g / (sqrt(a) + 1e-10)     (Duchi et al. 2011, with a decay)."""
    for part in prange(parts):
        mine = slice(len(parameter_P) * part // parts, len(parameter_P) * (part + 1) // parts)
        _adagrad(parameter_P[mine], grad_P[mine], second_P[mine], by)


@kernel
def _adagrad(parameter_P: F32, grad_P: F32, second_P: F32, by: tuple[np.float32, np.float32]) -> None:
    eps = np.float32(1e-10)
    lr, decay = by
    for p in range(len(parameter_P)):
        second_P[p] = decay * second_P[p] + grad_P[p] * grad_P[p]
        parameter_P[p] -= lr * grad_P[p] / (np.sqrt(second_P[p]) + eps)
