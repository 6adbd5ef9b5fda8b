"""The one way to compile a hot loop: `@kernel` on a plain function over columns."""

import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

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
    return compiled(function, **_PLAIN)


def any_order(function: Callable[P, R]) -> Callable[P, R]:
    """A kernel that may add up in any order, so as vectors: the same on every call, but not on every kind of CPU."""
    return compiled(function, fastmath={"reassoc", "nsz"}, **_PLAIN)


def compiled(function: Callable[P, R], **how: Any) -> Callable[P, R]:
    """The same with numba's options of the caller's choice."""
    made: Any = numba.njit(cache=True, nogil=True, **how)(function)
    _KERNELS.append(made)
    return cast(Callable[P, R], made)


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """A step of a loop that works on many arrays: its code goes into its callers, compiled.

    A call would hand over every field of every array: for the joiner's that costs 15 times what the step itself does.
    """
    compiled: Any = numba.njit(inline="always", **_PLAIN)(function)
    return cast(Callable[P, R], compiled)


def _plain_fetch(numbers: Any, place: int) -> None:
    pass


def _fetch(typing: Any, numbers: Any, place: Any) -> Any:
    def made(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        byte, i32 = ir.IntType(8).as_pointer(), ir.IntType(32)
        told = ir.FunctionType(ir.VoidType(), [byte, i32, i32, i32])
        call = builder.module.declare_intrinsic("llvm.prefetch", (byte,), told)
        at = builder.bitcast(builder.gep(array.data, [arguments[1]]), byte)
        builder.call(call, [at, i32(0), i32(3), i32(1)])
        return context.get_dummy_value()

    return types.void(numbers, types.int64), made


_config: Any = numba.config
fetch: Any = _plain_fetch if _config.DISABLE_JIT else intrinsic(_fetch)
"""Have a place of a contiguous array brought near, where it will be needed soon: `(array, number of the place)`."""


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
