"""Layers with a backward of their own: called under autograd like any other, or noted on a tape.

Autograd wraps, checks and locks: for a step of a few calls, that takes longer than the optimiser. A tape is a list.
"""

import threading
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from streamctr.layers.sums import Sums, SumsGradients


class Call(Protocol):
    """One call of a layer; it keeps what its backward needs."""

    @property
    def sums(self) -> Sums | None:
        """Where the backward adds the gradients of the layer's parameters, if it has any."""
        ...

    def forward(self, *inputs: Tensor) -> Tensor:
        """The output."""
        ...

    def backward(self, grad: Tensor, wanted: Sequence[bool]) -> Sequence[Tensor | None]:
        """The gradients of the inputs, of all that are wanted, from that of the output."""
        ...


class UnnotedError(Exception):
    """Something else than noted calls came in between, which a tape knows no gradient of."""


class Tape:
    """The calls of one step, made under `with torch.no_grad(), tape`, for their gradients.

    What it gives is what autograd would give, or it refuses: every input of a call must be a leaf, a constant or the
    unchanged output of another call.

    Args:
        leaves: tensors whose gradients are wanted.
        constants: other tensors that calls may take.
    """

    def __init__(self, leaves: Sequence[Tensor], constants: Sequence[Tensor]) -> None:
        self._leaves = leaves
        self._known = {id(tensor): (tensor, tensor._version) for tensor in (*leaves, *constants)}
        self._moving = {id(leaf) for leaf in leaves}
        self._calls: list[tuple[Call, tuple[Tensor, ...], list[bool], Tensor]] = []

    def __enter__(self) -> "Tape":
        _thread.tape = self
        return self

    def __exit__(self, *raised: object) -> None:
        _thread.tape = None

    def note(self, call: Call, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        """A call was made.

        Raises:
            UnnotedError: with an input that is none of those known here, or not as it was.
        """
        for tensor in inputs:
            known, version = self._known.get(id(tensor), (None, 0))
            if known is None or tensor._version != version:
                raise UnnotedError
        wanted = [id(tensor) in self._moving for tensor in inputs]
        self._calls.append((call, inputs, wanted, out))
        self._known[id(out)] = out, out._version
        self._moving.add(id(out))

    def gradients(self, loss: Tensor, of_loss: Tensor) -> list[Tensor | None]:
        """Those of the leaves, None where the loss does not depend on one; parameters' are added to their sums.

        Raises:
            UnnotedError: the loss is not the output of a call.
        """
        if not self._calls or self._calls[-1][-1] is not loss:
            raise UnnotedError
        grads = {id(loss): of_loss}
        for call, inputs, wanted, out in reversed(self._calls):
            grad = grads.pop(id(out), None)
            if grad is None:
                continue
            for tensor, of_tensor in zip(inputs, call.backward(grad, wanted), strict=True):
                if of_tensor is not None:
                    before = grads.get(id(tensor))
                    grads[id(tensor)] = of_tensor if before is None else before + of_tensor
        return [grads.get(id(leaf)) for leaf in self._leaves]


class _Thread(threading.local):
    """The tape that calls of this thread are noted on."""

    tape: Tape | None = None


_thread = _Thread()


def applied(call: Call, inputs: tuple[Tensor, ...], layer: SumsGradients | None = None) -> Tensor:
    """The output of a call, whose backward will run when it is needed."""
    if torch.is_grad_enabled():
        made: Tensor = _Applied.apply(call, len(inputs), *inputs, *(layer.learned() if layer is not None else ()))
        return made
    out = call.forward(*inputs)
    if _thread.tape is not None:
        _thread.tape.note(call, inputs, out)
    return out


class _Applied(torch.autograd.Function):
    """A call as autograd sees it: a function of its inputs and of its layer's parameters."""

    @staticmethod
    def forward(ctx: Any, call: Call, n_inputs: int, *tensors: Tensor) -> Tensor:
        ctx.call, ctx.n_inputs = call, n_inputs
        ctx.save_for_backward(*tensors[n_inputs:])
        return call.forward(*tensors[:n_inputs])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        learned = ctx.saved_tensors  # which refuses parameters that were changed since
        of_inputs = ctx.call.backward(grads[0], ctx.needs_input_grad[2 : 2 + ctx.n_inputs])
        sums = ctx.call.sums
        return (None, None, *of_inputs, *(sums.take([parameter.shape for parameter in learned]) if sums else ()))
