"""Memory in which a state is held while what gave it goes on."""

from collections.abc import Iterable
from concurrent.futures import Executor
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streamctr.ports import Arrays

_ALIGNED: Final = 64
_SMALL_BYTES: Final = 1 << 24
"""So much is copied into new memory without ado."""
_ROOM: Final = 1.25
"""A state grows until the next one is taken."""
_LEAST: Final = 1.1


class Staging:
    """Keeps a copy of a state: one for all, so that whoever takes another must be done with the last.

    Memory that nobody has touched costs several times what the copying does, when it is touched first; so it is kept,
    and `reserve` touches it in advance, in a thread that has the time. It is as big as the state, and a quarter more.

    >>> staging, live = Staging(), np.arange(3)
    >>> kept = staging.copy({"numbers": live})
    >>> live[:] = 0
    >>> kept["numbers"].tolist()
    [0, 1, 2]
    """

    def __init__(self) -> None:
        self._memory = np.empty(0, np.uint8)
        self._asked_bytes = 0

    def fits(self, arrays: Arrays) -> bool:
        """Whether `copy` is quick."""
        self._asked_bytes = _size(_live(arrays))
        return self._asked_bytes <= max(len(self._memory), _SMALL_BYTES)

    def reserve(self) -> None:
        """Get ready for states that are somewhat bigger than the one last asked for; what was kept is gone."""
        if self._asked_bytes > _SMALL_BYTES and len(self._memory) < _LEAST * self._asked_bytes:
            self._memory = np.empty(0, np.uint8)  # the old one goes first
            self._memory = np.empty(int(_ROOM * self._asked_bytes), np.uint8)
            self._memory.fill(0)

    def copy(self, arrays: Arrays, beside: Executor | None = None) -> Arrays:
        """These arrays as they are now; those that are read-only stay as they are, as `Stateful` says.

        Args:
            arrays: of a state.
            beside: copies one half.
        """
        live = _live(arrays)
        if _size(live) > len(self._memory):
            self._memory = np.empty(_size(live), np.uint8)
        kept, begin = dict(arrays), 0
        for name, array in live.items():
            kept[name] = self._memory[begin : begin + array.nbytes].view(array.dtype).reshape(array.shape)
            begin += _padded(array.nbytes)
        halves = _halves([(kept[name], array) for name, array in live.items()])
        other = None if beside is None else beside.submit(_copy, halves[1])
        _copy(halves[0])
        _copy(halves[1]) if other is None else other.result()
        return kept


_Pair = tuple[NDArray[Any], NDArray[Any]]


def _copy(pairs: Iterable[_Pair]) -> None:
    for to, of in pairs:
        np.copyto(to, of)


def _halves(pairs: list[_Pair]) -> tuple[list[_Pair], list[_Pair]]:
    """The pairs, each cut in the middle of its first axis."""
    whole = [pair for pair in pairs if pair[0].ndim == 0]
    cut = [(to, of, len(to) // 2) for to, of in pairs if to.ndim]
    return [*whole, *((to[:half], of[:half]) for to, of, half in cut)], [(to[half:], of[half:]) for to, of, half in cut]


def _live(arrays: Arrays) -> Arrays:
    """Those that may change."""
    return {name: array for name, array in arrays.items() if array.flags.writeable}


def _padded(size_bytes: int) -> int:
    return -(-size_bytes // _ALIGNED) * _ALIGNED


def _size(arrays: Arrays) -> int:
    return sum(_padded(array.nbytes) for array in arrays.values())
