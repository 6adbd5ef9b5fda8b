"""The one way to compile a hot loop: `@kernel` on a plain function over columns."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import numba

P = ParamSpec("P")
R = TypeVar("R")

_KERNELS: list[Any] = []
_UNCOUNTED: dict[str, Any] = {"_nrt": False}
"""Without numba's run time: no allocation, no reference counts."""


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile `function` with numba, cached on disk, without the GIL; its type stays what it was.

    Kernels are plain loops in event order and never allocate: they are compiled without numba's reference counts, so
    one that does is refused. `NUMBA_DISABLE_JIT=1` in the environment of a
    new process runs all of them as plain Python.
    """
    compiled: Any = numba.njit(cache=True, nogil=True, **_UNCOUNTED)(function)
    _KERNELS.append(compiled)
    return cast(Callable[P, R], compiled)


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """A step of a loop that works on many arrays: its code goes into its callers, compiled.

    A call would hand over every field of every array: for the joiner's that costs 15 times what the step itself does.
    """
    compiled: Any = numba.njit(inline="always", **_UNCOUNTED)(function)
    return cast(Callable[P, R], compiled)


def first_use() -> bool:
    """Whether most imported kernels have no compiled form on disk yet, so that a program can say why it waits."""
    if os.environ.get("NUMBA_DISABLE_JIT") == "1":
        return False
    cold = [not any(Path(k.stats.cache_path).glob(f"*.{k.__name__}-*.nbi")) for k in _KERNELS]
    return 2 * sum(cold) > len(cold)
