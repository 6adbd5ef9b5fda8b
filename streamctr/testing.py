"""Batteries: what every implementation of a port must obey, written once."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import fields, is_dataclass
from random import Random
from typing import Any, Final, TypeVar

import numpy as np

from streamctr.ports import Arrays, RawBlock, Source, Stateful

Part = TypeVar("Part", bound=Stateful)

_IN_VAIN: Final = 100
"""So many polls on end that bring nothing are a source that has stopped."""


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


def check_source(open_source: Callable[[], Source], lines: Sequence[Sequence[bytes]], stops: int = 20) -> None:
    """A source that ends gives every message once and in order, whatever is asked for and wherever it is stopped.

    Args:
        open_source: a new source of these messages, at their beginning.
        lines: of each partition.
        stops: how often it is stopped, and gone on with by a new one.

    Raises:
        AssertionError: a message is lost, given twice or out of its order, or an end is told of wrongly.
    """
    for seed in range(2):
        _check_ends(open_source, lines, Random(seed))
    _check_stops(open_source, lines, stops, Random(2))


def _check_ends(open_source: Callable[[], Source], lines: Sequence[Sequence[bytes]], chance: Random) -> None:
    with closing(open_source()) as source:
        assert source.partitions == len(lines), f"{source.partitions} partitions, not {len(lines)}"
        given = _Given(len(lines))
        while going := sorted(set(range(len(lines))) - given.ended):
            block = given.poll(source, chance.choice(going))
            assert not block.ended or block.partition in going, f"partition {block.partition} has ended twice"
        for partition, expected in enumerate(lines):
            assert given.lines[partition] == list(expected), f"partition {partition} is not what it should be"
            block = given.poll(source, partition)
            assert block.ended, f"partition {partition} has ended and says that it has not"
            assert (block.partition, block.payload) == (partition, b""), f"partition {partition} goes on behind its end"


def _check_stops(
    open_source: Callable[[], Source], lines: Sequence[Sequence[bytes]], stops: int, chance: Random
) -> None:
    given, positions = _Given(len(lines)), None
    for stop in range(stops + 1):
        with closing(open_source()) as source:
            if positions is not None:
                source.seek(positions)
                assert source.positions() == positions, f"after stop {stop} it is elsewhere"
            given.ended.clear()
            for _ in range(chance.randrange(4)):
                given.poll(source, chance.randrange(len(lines)))
            while stop == stops and len(given.ended) < len(lines):
                given.poll(source, min(set(range(len(lines))) - given.ended))
            positions = source.positions()
    for partition, expected in enumerate(lines):
        assert given.lines[partition] == list(expected), f"partition {partition} is not what it should be, over stops"


class _Given:
    """What a source gave out, by partition."""

    def __init__(self, partitions: int) -> None:
        self.lines: list[list[bytes]] = [[] for _ in range(partitions)]
        self.ended: set[int] = set()
        self._numbered: set[tuple[str, int]] = set()
        self._in_vain = 0

    def poll(self, source: Source, partition: int) -> RawBlock:
        block = source.poll(partition)
        lines = block.payload.removesuffix(b"\n").split(b"\n") if block.payload else []
        self._in_vain = 0 if lines or block.ended else self._in_vain + 1
        assert self._in_vain < _IN_VAIN, f"{_IN_VAIN} polls brought neither a message nor an end"
        assert lines == [] or block.partition not in self.ended, f"partition {block.partition} goes on behind its end"
        self.lines[block.partition] += lines
        self.ended |= {block.partition} if block.ended else set()
        numbers = {(block.path, number) for number in block.numbers_of(np.arange(len(lines))).tolist()}
        assert len(numbers) == len(lines), f"two messages of {block.path} have one number"
        assert not numbers & self._numbered, f"a message of {block.path} has a number that another one had"
        self._numbered |= numbers
        return block


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
    if is_dataclass(a):
        names = [field.name for field in fields(a)]
        return type(a) is type(b) and all(same(getattr(a, name), getattr(b, name)) for name in names)
    return bool(a == b)
