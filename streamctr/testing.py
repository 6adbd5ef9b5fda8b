"""Batteries: what every implementation of a port must obey, written once."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from streamctr.ports import Arrays, Stateful

Part = TypeVar("Part", bound=Stateful)


def check_stateful(make: Callable[[], Part], steps: Sequence[Callable[[Part], Any]]) -> None:
    """A part that is stopped after any step and restored elsewhere goes on as if nothing had been.

    Args:
        make: a new part.
        steps: what is done to it, one after the other; what each returns is compared.

    Raises:
        AssertionError: a step gave something else after a restore, or because a state was taken.
    """
    whole = make()
    expected = [step(whole) for step in steps]
    for cut in range(len(steps) + 1):
        first = make()
        for step in steps[:cut]:
            step(first)
        saved = frozen(first.state())
        assert same(saved, frozen(first.state())), f"taking a state after step {cut} changed it"
        second = make()
        second.restore(saved)
        assert same(frozen(second.state()), saved), f"the state restored after step {cut} is another"
        for place, step in enumerate(steps[cut:], start=cut):
            assert same(step(second), expected[place]), f"restored after step {cut}, step {place} gave something else"
            assert same(step(first), expected[place]), f"a state taken after step {cut} changed step {place}"


def frozen(arrays: Arrays) -> Arrays:
    """Copies, as a file would keep them."""
    return {name: np.array(array, copy=True) for name, array in arrays.items()}


def same(a: Any, b: Any) -> bool:
    """Equality to the bit of arrays and of what holds them; NaN equals NaN."""
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if hasattr(a, "__slots__"):
        return type(a) is type(b) and all(same(getattr(a, name), getattr(b, name)) for name in a.__slots__)
    return bool(a == b)
