"""The one way to compile a hot loop: `@kernel` on a plain function over columns."""

import ctypes
import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import numba

P = ParamSpec("P")
R = TypeVar("R")

_KERNELS: list[Any] = []
_TRIM_FROM, _MMAP_FROM = -1, -3
"""What `mallopt` calls its settings, in bytes."""
_PLAIN: dict[str, Any] = {"_nrt": False, "error_model": "numpy"}
"""Without numba's run time: no allocation, no reference counts; and without a check of every divisor, so that loops
with a division are vectorised too."""


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile `function` with numba, cached on disk, without the GIL; its type stays what it was.

    Kernels are plain loops in event order and never allocate: they are compiled without numba's reference counts, so
    one that does is refused. `NUMBA_DISABLE_JIT=1` in the environment of a new process runs all of them as plain
    Python.
    """
    compiled: Any = numba.njit(cache=True, nogil=True, **_PLAIN)(function)
    _KERNELS.append(compiled)
    return cast(Callable[P, R], compiled)


def side_by_side(function: Callable[P, R]) -> Callable[P, R]:
    """A kernel with a loop over parts (`numba.prange`), each for a core of its own.

    What it gives depends on how many parts there are, never on how many cores.
    """
    compiled: Any = numba.njit(cache=True, nogil=True, parallel=True, error_model="numpy")(function)
    _KERNELS.append(compiled)

    @wraps(function)
    def run(*arguments: P.args, **named: P.kwargs) -> R:
        numba.set_num_threads(_cores.wanted if _cores.free else max(1, min(_cores.wanted, _cores.there - 1)))
        return cast(R, compiled(*arguments, **named))

    return run


class _Cores:
    """How many cores loops over parts may have."""

    there: int = vars(numba.config)["NUMBA_NUM_THREADS"]
    wanted: int = 1
    free: bool = True


_cores = _Cores()


def use_cores(most: int) -> None:
    """Let loops over parts have so many cores, where there are as many."""
    _cores.wanted = min(most, _cores.there)


def leave_a_core(leave: bool) -> None:
    """Whether another thread works now, so that loops over parts leave it a core.

    Parts wait for the last one: where that one has to wait for a core itself, the others wait for milliseconds.
    """
    _cores.free = not leave


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """A step of a loop that works on many arrays: its code goes into its callers, compiled.

    A call would hand over every field of every array: for the joiner's that costs 15 times what the step itself does.
    """
    compiled: Any = numba.njit(inline="always", **_PLAIN)(function)
    return cast(Callable[P, R], compiled)


def keep_memory() -> None:
    """What is freed stays with the process (glibc): fresh pages cost more than the work on them.

    Arrays of a few MB come and go with every batch. By itself glibc gives each back, and is given it anew.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_MMAP_FROM, 32 << 20)
        mallopt(_TRIM_FROM, 256 << 20)


def first_use() -> bool:
    """Whether most imported kernels have no compiled form on disk yet, so that a program can say why it waits."""
    if os.environ.get("NUMBA_DISABLE_JIT") == "1":
        return False
    cold = [not any(Path(k.stats.cache_path).glob(f"*.{k.__name__}-*.nbi")) for k in _KERNELS]
    return 2 * sum(cold) > len(cold)
