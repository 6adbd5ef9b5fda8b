"""Calls that are noted on a tape, beside autograd."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from streamctr.layers.tape import Tape, UnnotedError, applied


class Times:
    """The product of its inputs."""

    sums = None

    def forward(self, *inputs: Tensor) -> Tensor:
        self._inputs = inputs
        return inputs[0] * inputs[1]

    def backward(self, grad: Tensor, wanted: Sequence[bool]) -> list[Tensor | None]:
        first, second = self._inputs
        return [of if want else None for of, want in zip((grad * second, grad * first), wanted, strict=True)]


def times(first: Tensor, second: Tensor) -> Tensor:
    return applied(Times(), (first, second))


def leaf(*values: float) -> Tensor:
    return torch.tensor(values, requires_grad=True)


def noted(loss: Callable[..., Tensor], leaves: list[Tensor], constants: list[Tensor]) -> list[Tensor | None]:
    tape = Tape(leaves, constants)
    with torch.no_grad(), tape:
        found = loss(*leaves, *constants)
        return tape.gradients(found, torch.tensor([0.5, 2.0]))


@pytest.mark.parametrize(
    "loss",
    [
        lambda a, b, c: times(a, b),
        lambda a, b, c: times(times(a, b), c),
        lambda a, b, c: times(times(a, a), times(b, a)),
        lambda a, b, c: times(c, times(b, c)),  # a teaches nothing
        lambda a, b, c: (times(a, b), times(b, c))[1],  # a call that nothing reads
    ],
)
def test_a_tape_gives_what_autograd_gives(loss: Any) -> None:
    leaves, constants = [leaf(2.0, 3.0), leaf(5.0, -7.0)], [torch.tensor([0.5, 11.0])]
    found = noted(loss, leaves, constants)
    wanted = torch.autograd.grad(loss(*leaves, *constants), leaves, torch.tensor([0.5, 2.0]), allow_unused=True)
    for one, other in zip(found, wanted, strict=True):
        assert (one is None) == (other is None)
        assert one is None or (other is not None and one.tolist() == other.tolist())


@pytest.mark.parametrize(
    "loss",
    [
        lambda a, b, c: times(a, b) * 1.0,
        lambda a, b, c: times(a * 1.0, b),
        lambda a, b, c: times(times(a, b).clone(), c),
        lambda a, b, c: times(times(a, b).clamp_(max=1.0), c),  # changed where it stands
        lambda a, b, c: times(times(a, b)[:1], c),
        lambda a, b, c: times(a, c * 1.0),
        lambda a, b, c: times(a, b) if times(b, c) is None else a,
        lambda a, b, c: c,
    ],
)
def test_what_a_tape_cannot_follow_is_refused(loss: Any) -> None:
    with pytest.raises(UnnotedError):
        noted(loss, [leaf(2.0, 3.0), leaf(5.0, -7.0)], [torch.tensor([0.5, 11.0])])


def test_nothing_is_noted_behind_a_tape_or_where_a_call_failed() -> None:
    a, b, tape = leaf(2.0), leaf(3.0), Tape([], [])
    with pytest.raises(UnnotedError), torch.no_grad(), tape:
        times(a, b)
    with torch.no_grad():
        assert times(a, b).tolist() == [6.0]
    assert times(a, b).requires_grad
