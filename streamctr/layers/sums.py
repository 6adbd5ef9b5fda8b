"""Layers whose backward adds up the gradients of their parameters itself. Legend: Q parts of a batch, N numbers."""

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from streamctr.cores import MOST_PARTS

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]


class Sums(NamedTuple):
    """Where a layer adds the gradients of its parameters, one behind the other, a row for each part of a batch."""

    grads_QN: F32
    largest_Q16: I32
    """Of each part the largest exponent field that its sums had, in the first place: whether they are finite."""
    start: int
    """Where the first parameter stands in a row."""
    own: bool
    """Whether these are a call's own, to be given to autograd; or an optimiser's, which reads and clears them."""

    def starts(self, parameters: Sequence[F32]) -> list[int]:
        """Where each parameter stands in a row, and where the last one ends."""
        return list(accumulate((parameter.size for parameter in parameters), initial=self.start))

    def take(self, shapes: Sequence[torch.Size]) -> list[Tensor | None]:
        """What autograd wants of parameters of these shapes, given to it as inputs."""
        if not self.own:
            return [None] * len(shapes)
        sum_N = torch.from_numpy(self.grads_QN.sum(axis=0))
        ends = accumulate((shape.numel() for shape in shapes), initial=0)
        return [sum_N[a:b].view(shape) for (a, b), shape in zip(pairwise(ends), shapes, strict=True)]


class SumsGradients(nn.Module):
    """A layer whose parameters learn through autograd, or once `sums_into` was called past it.

    Autograd's way costs copies and an object for every parameter of every step.
    """

    def __init__(self) -> None:
        super().__init__()
        self.parts = 1
        """In how many parts a batch goes through, each for a core of its own."""
        self._sums: Sums | None = None
        self._learned: list[Tensor] = []
        self._kept: Any = None

    def sums_into(self, grads_QN: F32, largest_Q16: I32, start: int) -> None:
        """From now on add gradients to these, a row for each part: of all parameters from this column on.

        How large sums are is noted in the other array, as `finite.exponents` has it.

        Parameters may not be moved in memory any more. The first of them still has to be asked of autograd, which
        finds none for it: who asks for nothing of a layer gets nothing.
        """
        self.parts, self._sums, self._kept = len(grads_QN), Sums(grads_QN, largest_Q16, start, own=False), None
        self._learned = [next(self.parameters())]

    def learned(self) -> list[Tensor]:
        """The parameters that autograd is to see."""
        return self._learned or list(self.parameters())

    def kept(self, make: Callable[[Sums], Any]) -> Any:
        """What is made of the sums: anew for each call, or once where they stay.

        Raises:
            ValueError: there are too many parts.
        """
        if self.parts > MOST_PARTS:
            raise ValueError(f"a batch goes through in {MOST_PARTS} parts at most, not in {self.parts}")
        if self._sums is None:
            size = sum(parameter.numel() for parameter in self.parameters())
            rows = np.zeros((self.parts, size), np.float32), np.zeros((self.parts, 16), np.int32)
            return make(Sums(*rows, 0, own=True))
        if self._kept is None:
            self._kept = make(self._sums)
        return self._kept
