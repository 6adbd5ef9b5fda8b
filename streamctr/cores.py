"""Loops over parts, each for a core of its own: `@side_by_side`, and who has which core.

Where a loop would take all cores of the machine, the last one is lent: to the loop, or to another thread that works
beside it (`take_core`). Three threads on two cores would wait for each other for milliseconds; this way a part waits
for nobody, and what the other thread leaves idle is taken at once.
"""

import ctypes
import threading
import time
from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, Final, NamedTuple, ParamSpec, TypeVar, cast

import llvmlite.binding
import numba
import numpy as np
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from streamctr.kernel import compiled, kernel

P = ParamSpec("P")
R = TypeVar("R")
I64 = NDArray[np.int64]

_config: Any = numba.config
MOST_CORES: Final[int] = _config.NUMBA_NUM_THREADS
"""That a loop can have."""
_NEXT, _ALL, _LENT, _LOCK, _PARTS = 0, 8, 9, 16, 24
_HELD, _ASKED = 0, 8
"""Places of numbers that several threads write: a cache line apart."""
_POLL_US: Final = 20
_MOST_PARTS: Final = 64


class Turns(NamedTuple):
    """Who works on a loop, and which part is next."""

    workers: int
    loop_L: I64
    """The next part, whether all are taken, and of each how much is done and whether somebody works on it."""
    core_16: I64
    """How often the core that is lent is held, and whether it is asked for."""


class _Cores:
    """How many cores loops over parts have, and the one that is lent: how often it is held, and asked for."""

    there: int = MOST_CORES
    most: int = 1
    shared: bool = False
    """Whether that is all there are, so that another thread needs one of them."""
    lent: I64 = np.zeros(16, np.int64)
    taken: bool = False


class _Thread(threading.local):
    """How many cores numba has been told that loops of this thread have."""

    cores: int = 0


_cores, _thread = _Cores(), _Thread()


def _sleeping() -> Any:
    """The routine that lets a thread sleep for some microseconds; one that does nothing where there is none."""
    library = ctypes.CDLL(None)
    address = ctypes.cast(getattr(library, "usleep", None) or library.abs, ctypes.c_void_p).value
    llvmlite.binding.add_symbol("streamctr_sleep", address)
    return types.ExternalFunction("streamctr_sleep", types.int32(types.int32))


_sleep = _sleeping()


def _plain_add(cells: I64, place: int, value: int) -> int:
    before = int(cells[place])
    cells[place] += value
    return before


def _atomic_add(typing: Any, cells: Any, place: Any, value: Any) -> Any:  # noqa: ARG001 - numba names it
    def made(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        return builder.atomic_rmw("add", builder.gep(array.data, [arguments[1]]), arguments[2], "seq_cst")

    return types.int64(cells, types.int64, types.int64), made


_add: Any = _plain_add if _config.DISABLE_JIT else intrinsic(_atomic_add)
"""Add to a number that other threads write too; what it was before."""


@kernel
def _hold(core_16: I64) -> bool:
    """Whether nobody had the core, so that it is held now."""
    if _add(core_16, _HELD, 1) == 0:
        return True
    _add(core_16, _HELD, -1)
    return False


@kernel
def turn(turns: Turns, parts: int) -> int:
    """The next part that nobody took, or `parts`: none is left, or the loop's only worker could be two by now."""
    loop = turns.loop_L
    if _too_few(turns):
        return parts
    part = _add(loop, _NEXT, 1)
    if part < parts:
        return part
    loop[_ALL] = 1
    return parts


@kernel
def _too_few(turns: Turns) -> bool:
    """Whether the loop's only worker was left alone by somebody who waits by now."""
    return bool(turns.workers == 1 and turns.loop_L[_LENT] > 0 and _add(turns.core_16, _HELD, 0) == 0)


@kernel
def piece(turns: Turns, parts: int) -> tuple[int, int]:
    """The next piece of a part that nobody works on, of those with the fewest done; or `parts`, and nothing.

    Whoever did it says so by `done`. So the pieces of a part go in order, and parts end together.
    """
    loop, least = turns.loop_L, parts
    if _too_few(turns):
        return parts, 0
    while _add(loop, _LOCK, 1) != 0:
        _add(loop, _LOCK, -1)
    for part in range(parts):
        state = loop[_PARTS + part]
        if state >= 0 and (least == parts or state < loop[_PARTS + least]):
            least = part
    count = 0
    if least < parts:
        count = loop[_PARTS + least]
        loop[_PARTS + least] = -1 - count
    else:
        loop[_ALL] = 1
    _add(loop, _LOCK, -1)
    return least, count


@kernel
def done(turns: Turns, part: int, last: bool) -> None:
    """A piece of a part is done; the `last` one: there are no more."""
    if not last:
        _add(turns.loop_L, _PARTS + part, -2 * turns.loop_L[_PARTS + part])


@kernel
def _let_go(core_16: I64) -> None:
    _add(core_16, _HELD, -1)


def side_by_side(function: Callable[Concatenate[Turns, P], R]) -> Callable[P, R]:
    """A kernel whose workers, one a core (`numba.prange(workers())`), take its parts by `turn`.

    What it gives depends on how many parts there are, never on how many cores.
    """
    loop: Any = compiled(function, parallel=True)

    @wraps(function)
    def run(*arguments: P.args) -> None:
        own, most, core_16 = np.zeros(_PARTS + _MOST_PARTS, np.int64), _cores.most, _cores.lent
        while not own[_ALL]:
            lent = _cores.shared and (core_16[_ASKED] > 0 or not _hold(core_16))
            own[_LENT], workers = lent, most - lent
            if _thread.cores != workers:
                numba.set_num_threads(workers)
                _thread.cores = workers
            loop(Turns(workers, own, core_16), *arguments)
            if _cores.shared and not lent:
                _let_go(core_16)

    return cast(Callable[P, R], run)


def use_cores(most: int) -> None:
    """Let loops over parts have so many cores, where there are as many."""
    _cores.most = min(most, _cores.there)
    _cores.shared = _cores.most == _cores.there > 1


def take_core() -> None:
    """This thread works from now on, beside loops over parts: it waits until they leave it a core."""
    if _cores.taken:
        return
    _cores.lent[_ASKED] = 1
    while not _hold(_cores.lent):
        time.sleep(_POLL_US * 1e-6)
    _cores.lent[_ASKED] = 0
    _cores.taken = True


def give_core() -> None:
    """This thread does nothing until it takes the core again."""
    if _cores.taken:
        _cores.taken = False
        _let_go(_cores.lent)
