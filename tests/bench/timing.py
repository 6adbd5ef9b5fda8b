"""Parts of a pipeline, timed from outside."""

import time
from collections.abc import Callable, Iterator
from inspect import isgeneratorfunction
from typing import Any


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


class Timed:
    """A part whose calls are timed as `stage`, and kept where `calls` is given."""

    def __init__(self, part: Any, stage: str | dict[str, str], clock: dict[str, float], calls: Any = None) -> None:
        self._part, self._stage, self._clock, self._calls = part, stage, clock, calls

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
            start = time.perf_counter()
            try:
                return call(*arguments, **named)
            finally:
                self._clock[stage] += time.perf_counter() - start

        return timed

    def _each(self, call: Callable[..., Iterator[Any]], stage: str) -> Callable[..., Iterator[Any]]:
        def timed(*arguments: Any) -> Iterator[Any]:
            values, end = call(*arguments), object()
            while True:
                start = time.perf_counter()
                value = next(values, end)
                self._clock[stage] += time.perf_counter() - start
                if value is end:
                    return
                yield value

        return timed
