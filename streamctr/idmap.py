"""From a 64-bit id to a slot: an open-addressing map whose entries are two columns, for use inside kernels.

Linear probing from the mixed key, removal by shifting back (no tombstones: a map that lives for months stays as fast as
a new one; Knuth, TAOCP vol. 3, 6.4, algorithm R). At most half full, so probes are short.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamctr.hashing import U64, mix_one
from streamctr.kernel import inlined, kernel

ABSENT_SLOT: Final = -1
"""What `find` gives for a key that is not there, and what an empty place holds."""


class IdMap(NamedTuple):
    """The columns of the map; their length is a power of two. Every key is allowed, 0 too.

    >>> ids = new_map(4)
    >>> insert(ids, np.uint64(0), 7)
    >>> int(find(ids, np.uint64(0))), int(find(ids, np.uint64(1))), len(ids.keys)
    (7, -1, 8)
    """

    keys: U64
    values: NDArray[np.int64]
    """The slot of the key beside it, 0 or more; -1 where the place is empty."""
    n_keys: NDArray[np.int64]
    """One element: how many keys there are."""


@kernel
def _place(ids: IdMap, key: np.uint64) -> int:
    """Where the key stands, or the empty place at which it would."""
    mask = np.int64(len(ids.keys) - 1)
    place = np.int64(mix_one(key) & np.uint64(mask))
    while ids.values[place] >= 0 and ids.keys[place] != key:
        place = (place + 1) & mask
    return int(place)


@kernel
def find(ids: IdMap, key: np.uint64) -> int:
    """The slot of a key, -1 if it is not there."""
    return int(ids.values[_place(ids, key)])


@inlined
def near(ids: IdMap, key: np.uint64) -> int:
    """What stands where the search for a key begins: to read it early, for many keys, is to wait for memory once."""
    home = np.int64(mix_one(key) & np.uint64(len(ids.keys) - 1))
    return int(np.int64(ids.keys[home]) ^ ids.values[home])


@kernel
def insert(ids: IdMap, key: np.uint64, value: int | np.int64) -> None:
    """Give a key a slot (0 or more), its old one forgotten; `reserve` room first: a full map would search forever."""
    place = _place(ids, key)
    if ids.values[place] < 0:
        ids.keys[place] = key
        ids.n_keys[0] += 1
    ids.values[place] = value


@kernel
def remove(ids: IdMap, key: np.uint64) -> None:
    """Forget a key; nothing happens if it is not there."""
    mask = np.int64(len(ids.keys) - 1)
    hole = np.int64(_place(ids, key))
    if ids.values[hole] < 0:
        return
    ids.n_keys[0] -= 1
    place = (hole + 1) & mask
    while ids.values[place] >= 0:
        home = np.int64(mix_one(ids.keys[place]) & np.uint64(mask))
        if ((place - home) & mask) >= ((place - hole) & mask):  # the hole lies on its way from home: move it there
            ids.keys[hole] = ids.keys[place]
            ids.values[hole] = ids.values[place]
            hole = place
        place = (place + 1) & mask
    ids.values[hole] = -1


@kernel
def _copy(ids: IdMap, into: IdMap) -> None:
    for place in range(len(ids.keys)):
        if ids.values[place] >= 0:
            insert(into, ids.keys[place], ids.values[place])


def new_map(capacity: int) -> IdMap:
    """An empty map with room for at least `capacity` keys."""
    size = 8
    while size < 2 * capacity:
        size *= 2
    return IdMap(np.zeros(size, np.uint64), np.full(size, ABSENT_SLOT, np.int64), np.zeros(1, np.int64))


def grown(ids: IdMap) -> IdMap:
    """The same keys in a map of twice the room."""
    larger = new_map(len(ids.keys))
    _copy(ids, larger)
    return larger


def reserve(ids: IdMap, extra: int) -> IdMap:
    """The map itself, or a larger one with the same keys, with room for `extra` more."""
    while 2 * (int(ids.n_keys[0]) + extra) > len(ids.keys):
        ids = grown(ids)
    return ids
