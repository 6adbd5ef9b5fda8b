"""Loops over parts, each for a core of its own: `@side_by_side`, and who has which core.

Where a loop would take all cores of the machine, the last one is lent: to the loop, or to another thread that works
beside it (`take_core`). Three threads on two cores would wait for each other for milliseconds; this way a part waits
for nobody, and what the other thread leaves idle is taken at once.
"""

import threading
import time
from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, Final, NamedTuple, ParamSpec, cast

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from streamctr.kernel import compiled, kernel

P = ParamSpec("P")
I64 = NDArray[np.int64]

_config: Any = numba.config
MOST_CORES: Final[int] = _config.NUMBA_NUM_THREADS
"""That a loop can have."""
MOST_PARTS: Final = 256
"""Of a loop whose parts are done piece by piece."""
_NEXT, _ALL, _LENT, _LOCK, _PARTS = 0, 8, 9, 16, 24
_HELD, _ASKED = 0, 8
"""Places of numbers that several threads write: a cache line apart."""


class Turns(NamedTuple):
    """Who works on a loop, and which part is next."""

    workers: int
    loop_L: I64
    """The next part; whether all are taken; whether the only worker left a core to somebody; who looks for a piece; and
    of each part how many pieces are done, or -1 less them while somebody works on it."""
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


def _plain_add(cells: I64, place: int, value: int) -> int:
    before = int(cells[place])
    cells[place] += value
    return before


def _atomic_add(typing: Any, cells: Any, place: Any, value: Any) -> Any:
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
def _let_go(core_16: I64) -> None:
    _add(core_16, _HELD, -1)


@kernel
def _too_few(turns: Turns) -> bool:
    """Whether the only worker left a core to somebody who does not need it any more: there can be two."""
    return bool(turns.loop_L[_LENT] > 0 and _add(turns.core_16, _HELD, 0) == 0)


@kernel
def turn(turns: Turns, parts: int) -> int:
    """The next part that nobody took, or `parts`: none is left, or the loop is to be called again."""
    loop = turns.loop_L
    if _too_few(turns):
        return parts
    part: int = _add(loop, _NEXT, 1)
    if part < parts:
        return part
    loop[_ALL] = 1
    return parts


@kernel
def piece(turns: Turns, parts: int) -> tuple[int, int]:
    """The part that nobody works on with the fewest pieces done, and their number; or `parts`, as `turn`.

    Whoever did the piece says so by `done`. So the pieces of a part go in order, one at a time, and parts end together.
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


def side_by_side(function: Callable[Concatenate[Turns, P], None]) -> Callable[P, None]:
    """A kernel whose workers, one a core (`numba.prange(turns.workers)`), take its parts by `turn` or `piece`.

    What it gives depends on how many parts there are, never on how many cores. It may be called a second time with
    what is left. What a worker does is a kernel of its own: only that is made vectors of, and what a loop of numba's
    itself writes to fields of named tuples can be lost.
    """
    loop: Any = compiled(function, parallel=True)

    @wraps(function)
    def run(*arguments: P.args, **named: P.kwargs) -> None:
        own, most, shared = np.zeros(_PARTS + MOST_PARTS, np.int64), _cores.most, _cores.shared
        while not own[_ALL]:
            held = shared and not _cores.lent[_ASKED] and _hold(_cores.lent)
            own[_LENT] = shared and not held
            workers = most - int(own[_LENT])
            if _thread.cores != workers:
                numba.set_num_threads(workers)
                _thread.cores = workers
            try:
                loop(Turns(workers, own, _cores.lent), *arguments, **named)
            finally:
                if held:
                    _let_go(_cores.lent)

    return cast(Callable[P, None], run)


def use_cores(most: int) -> None:
    """Let loops over parts have so many cores, where there are as many."""
    _cores.most = min(most, _cores.there)
    _cores.shared = _cores.most == _cores.there > 1


def take_core() -> None:
    """This thread works from now on, beside loops over parts: it waits until they leave it a core."""
    if not _cores.taken:
        _cores.lent[_ASKED] = 1
        while not _hold(_cores.lent):
            time.sleep(20e-6)
        _cores.lent[_ASKED] = 0
        _cores.taken = True


def give_core() -> None:
    """This thread does nothing until it takes the core again."""
    if _cores.taken:
        _cores.taken = False
        _let_go(_cores.lent)
