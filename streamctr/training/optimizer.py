"""Optimisers of the dense parameters, with state that is named arrays. Legend: P numbers of a parameter."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from streamctr.kernel import kernel
from streamctr.ports import Arrays
from streamctr.training.config import TrainingConfig

F32 = NDArray[np.float32]


class DenseOptimizer:
    """Steps all dense parameters by Adam (Kingma and Ba 2015, algorithm 1) or by Adagrad that forgets."""

    def __init__(self, config: TrainingConfig, parameters: Mapping[str, torch.Tensor]) -> None:
        self._config = config
        self._parameters = {name: parameter.detach().numpy().reshape(-1) for name, parameter in parameters.items()}
        moments = ("first", "second") if config.optimizer == "adam" else ("second",)
        self._moments = {m: {name: np.zeros_like(p) for name, p in self._parameters.items()} for m in moments}
        self._steps = 0

    def step(self, grads: Sequence[torch.Tensor]) -> None:
        """Move the parameters against their gradients, given in the parameters' order."""
        self._steps += 1
        config, second = self._config, self._moments["second"]
        for (name, parameter), grad in zip(self._parameters.items(), grads, strict=True):
            grad_P = grad.contiguous().numpy().reshape(-1)
            if config.optimizer == "adam":
                # m / (1 - b1^t) and v / (1 - b2^t) as one rate and one scale of the step.
                rate, scale = config.lr / (1.0 - 0.9**self._steps), 1.0 / np.sqrt(1.0 - 0.999**self._steps)
                adam(parameter, grad_P, self._moments["first"][name], second[name], np.float32(rate), np.float32(scale))
            else:
                adagrad(parameter, grad_P, second[name], np.float32(config.lr), np.float32(config.decay))

    def state(self) -> Arrays:
        """Number of steps, and the running moments of every parameter."""
        moments = {f"{m}.{name}": array for m, arrays in self._moments.items() for name, array in arrays.items()}
        return {"steps": np.array([self._steps]), **moments}

    def restore(self, arrays: Arrays) -> None:
        """Go on from `state`."""
        self._steps = int(arrays["steps"][0])
        for m, held in self._moments.items():
            for name in held:
                held[name][:] = arrays[f"{m}.{name}"]


def finite(grads: Sequence[torch.Tensor]) -> bool:
    """Whether every number of every gradient is finite, and small enough for its square to be."""
    return all(exponent(grad.contiguous().numpy().reshape(-1).view(np.int32)) < _LARGEST for grad in grads)


_LARGEST: Final = 60 + 127 << 23
"""Exponent field of a float32 from 2^60 on: a sum of its squares might overflow, and stop a parameter for good."""


@kernel
def exponent(bits_P: NDArray[np.int32]) -> int:
    """The largest exponent field of float32 numbers, given as integers; all ones where one is not finite."""
    largest = np.int32(0)
    for p in range(len(bits_P)):
        largest = max(largest, bits_P[p] & np.int32(0x7F800000))
    return int(largest)


@kernel
def adam(parameter_P: F32, grad_P: F32, first_P: F32, second_P: F32, rate: np.float32, scale: np.float32) -> None:
    """m <- .9 m + .1 g;  v <- .999 v + .001 g^2;  w <- w - rate m / (scale sqrt(v) + 1e-8)."""
    keep1, add1 = np.float32(0.9), np.float32(1.0 - 0.9)
    keep2, add2 = np.float32(0.999), np.float32(1.0 - 0.999)
    eps = np.float32(1e-8)
    for p in range(len(parameter_P)):
        first_P[p] = keep1 * first_P[p] + add1 * grad_P[p]
        second_P[p] = keep2 * second_P[p] + add2 * grad_P[p] * grad_P[p]
        parameter_P[p] -= rate * first_P[p] / (scale * np.sqrt(second_P[p]) + eps)


@kernel
def adagrad(parameter_P: F32, grad_P: F32, second_P: F32, lr: np.float32, decay: np.float32) -> None:
    """a <- decay a + g^2;  w <- w - lr g / (sqrt(a) + 1e-10)     (Duchi et al. 2011, with a decay)."""
    eps = np.float32(1e-10)
    for p in range(len(parameter_P)):
        second_P[p] = decay * second_P[p] + grad_P[p] * grad_P[p]
        parameter_P[p] -= lr * grad_P[p] / (np.sqrt(second_P[p]) + eps)
