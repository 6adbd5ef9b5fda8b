"""Parts of a pipeline, timed from outside: seconds of each stage, and the bytes that it hands on."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from inspect import isgeneratorfunction
from typing import Any, Final

import numpy as np

BENCH: Final = "bench"
"""The stage that holds what the stopwatch itself costs."""


def seconds(work: Callable[[], Any]) -> float:
    """Wall seconds that a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@dataclass(slots=True)
class Spent:
    """What a stage has used."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    """Of all threads of the process: let nothing else run."""
    out_bytes: int = 0
    """Of arrays and lines that it handed on and that are no views of what it was given."""


class Stopwatch:
    """Adds up what stages spend; what a stage within another spends is its own.

    >>> watch = Stopwatch()
    >>> with watch.timing("outer"), watch.timing("inner"):
    ...     pass
    >>> sorted(watch.spent), watch.spent["inner"].cpu_s >= 0
    (['inner', 'outer'], True)
    """

    def __init__(self) -> None:
        self.spent: dict[str, Spent] = defaultdict(Spent)
        self._stack: list[str] = []
        self._last = (0.0, 0.0)

    @contextmanager
    def timing(self, stage: str) -> Iterator[None]:
        """What happens within is spent by this stage."""
        self._pass()
        self._stack.append(stage)
        try:
            yield
        finally:
            self._pass()
            self._stack.pop()

    def clear(self) -> None:
        """Begin anew."""
        self.spent.clear()

    def _pass(self) -> None:
        now = time.perf_counter(), time.process_time()
        if self._stack:
            spent = self.spent[self._stack[-1]]
            spent.wall_s += now[0] - self._last[0]
            spent.cpu_s += now[1] - self._last[1]
        self._last = now


class Timed:
    """A part whose calls are timed as `stage` (or by the method's name), and kept where `calls` is given."""

    def __init__(self, part: Any, stage: str | dict[str, str], watch: Stopwatch, calls: Any = None) -> None:
        self._part, self._stage, self._watch, self._calls = part, stage, watch, calls

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._part, name)
        stage = self._stage if isinstance(self._stage, str) else self._stage.get(name)
        if stage is None or not callable(value):
            return value
        return self._each(value, stage) if isgeneratorfunction(value) else self._once(value, stage, name)

    def _once(self, call: Callable[..., Any], stage: str, name: str) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            if self._calls is not None:
                self._calls.append((name, arguments))
            with self._watch.timing(stage):
                value = call(*arguments, **named)
            self._hand_on(stage, arguments, value)
            return value

        return timed

    def _each(self, call: Callable[..., Iterator[Any]], stage: str) -> Callable[..., Iterator[Any]]:
        def timed(*arguments: Any) -> Iterator[Any]:
            values, end = call(*arguments), object()
            while True:
                with self._watch.timing(stage):
                    value = next(values, end)
                if value is end:
                    return
                self._hand_on(stage, arguments, value)
                yield value

        return timed

    def _hand_on(self, stage: str, arguments: Any, value: Any) -> None:
        with self._watch.timing(BENCH):
            came = {owner for owner, _ in memory_of(arguments)}
            self._watch.spent[stage].out_bytes += sum(size for owner, size in memory_of(value) if owner not in came)


def memory_of(value: Any) -> Iterator[tuple[int, int]]:
    """Who owns the memory of each array and text in columns, tuples and lists of them, and how many bytes it shows.

    >>> column = np.zeros(4)
    >>> [(owner == id(column), size) for owner, size in memory_of((column[:2], [b"abc"]))]
    [(True, 16), (False, 3)]
    """
    if isinstance(value, np.ndarray):
        owner: Any = value
        while isinstance(owner, np.ndarray) and owner.base is not None:
            owner = owner.base
        yield id(owner), value.nbytes
    elif isinstance(value, bytes):
        yield id(value), len(value)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from memory_of(item)
    elif is_dataclass(value):
        for field in fields(value):
            yield from memory_of(getattr(value, field.name))
