"""Behaviour histories as of the root: the last L behaviours of a user, each a few ids.

Legend: R roots, B behaviours, U users, L behaviours kept, C ids taken of each, S slots of open roots.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamctr.idmap import IdMap, find, insert, new_map, remove, reserve
from streamctr.kernel import inlined, kernel
from streamctr.ports import Arrays
from streamctr.schema import HistoryConfig

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

_USED, _OLDEST, _NEWEST, _LIMIT = range(4)
_NONE: Final = -1


class Users(NamedTuple):
    """Ring buffers by user, threaded from the least to the most recently touched."""

    ids_ULC: U64
    n_kept: I64  # (U,): behaviours ever kept; the newest stands at (n_kept - 1) % L
    user: U64  # (U,)
    older: I64  # (U,)
    newer: I64  # (U,)
    place_of: IdMap
    meta: I64


@inlined
def _touch(users: Users, place: int) -> None:
    """Make a place the most recently touched one."""
    older, newer = users.older[place], users.newer[place]
    if newer == _NONE and users.meta[_NEWEST] == place:
        return
    if older != _NONE:
        users.newer[older] = newer
    elif users.meta[_OLDEST] == place:
        users.meta[_OLDEST] = newer
    if newer != _NONE:
        users.older[newer] = older
    users.older[place] = users.meta[_NEWEST]
    users.newer[place] = _NONE
    if users.meta[_NEWEST] != _NONE:
        users.newer[users.meta[_NEWEST]] = place
    users.meta[_NEWEST] = place
    if users.meta[_OLDEST] == _NONE:
        users.meta[_OLDEST] = place


@inlined
def _place_for(users: Users, user: np.uint64) -> int:
    """The user's buffer; a new user takes the next free one, or that of the user who was touched longest ago."""
    place = find(users.place_of, user)
    if place < 0:
        if users.meta[_USED] < users.meta[_LIMIT]:
            place = users.meta[_USED]
            users.meta[_USED] += 1
        else:
            place = users.meta[_OLDEST]
            remove(users.place_of, users.user[place])
        insert(users.place_of, user, place)
        users.user[place] = user
        users.n_kept[place] = 0
    _touch(users, place)
    return int(place)


@inlined
def _append(users: Users, user: np.uint64, ids_C: U64) -> None:
    place = _place_for(users, user)
    at = users.n_kept[place] % users.ids_ULC.shape[1]
    for c in range(len(ids_C)):
        users.ids_ULC[place, at, c] = ids_C[c]
    users.n_kept[place] += 1


@inlined
def _read(users: Users, user: np.uint64, out_LC: U64) -> int:
    """Copy a user's behaviours, oldest first, zeros behind them; how many there are."""
    out_LC[:] = 0
    place = find(users.place_of, user)
    if place < 0:
        return 0
    _touch(users, place)
    last = users.ids_ULC.shape[1]
    count = users.n_kept[place]
    length = min(count, last)
    for t in range(length):
        at = (count - length + t) % last
        for c in range(users.ids_ULC.shape[2]):
            out_LC[t, c] = users.ids_ULC[place, at, c]
    return int(length)


@kernel
def run_histories(
    users: Users,
    root: tuple[I64, U64, I64],
    behaviour: tuple[I64, U64, U64],
    out_SLC: U64,
    length_S: NDArray[np.int32],
) -> int:
    """Show each root the behaviours strictly before it, kept or new; how many of the new ones are kept by then.

    Args:
        users: the buffers.
        root: times, users and slots of roots, in order, (R,) each.
        behaviour: times, users (B,) and ids (B, C) of behaviours, in order.
        out_SLC: receives each root's behaviours, at its slot.
        length_S: receives how many there are.
    """
    root_ms, root_user, root_slot = root
    time_ms, user, ids_BC = behaviour
    kept = 0
    for r in range(len(root_ms)):
        while kept < len(time_ms) and time_ms[kept] < root_ms[r]:
            _append(users, user[kept], ids_BC[kept])
            kept += 1
        slot = root_slot[r]
        length_S[slot] = _read(users, root_user[r], out_SLC[slot])
    return kept


class HistoryBuffer:
    """Keeps one history of a run; `run` per chunk. A behaviour is kept only when a later root asks, so ties are exact.

    Args:
        config: which ids, how many behaviours.
        max_users: beyond that the user who was touched longest ago is forgotten.
    """

    def __init__(self, config: HistoryConfig, max_users: int) -> None:
        self._last, self._taken, self._max_users = config.last, len(config.take), max_users
        self._users = _users(min(max_users, 1024), self._last, self._taken)
        self._time_ms: I64 = np.empty(0, np.int64)
        self._user: U64 = np.empty(0, np.uint64)
        self._ids_BC: U64 = np.empty((0, self._taken), np.uint64)

    def run(
        self,
        root: tuple[I64, U64, I64],
        behaviour: tuple[I64, U64, U64],
        out_SLC: U64,
        length_S: NDArray[np.int32],
    ) -> None:
        """Take a chunk's behaviours and fill in what its roots see; arguments as for `run_histories`."""
        known = behaviour[1] != 0
        self._time_ms = np.concatenate([self._time_ms, behaviour[0][known]])
        self._user = np.concatenate([self._user, behaviour[1][known]])
        self._ids_BC = np.concatenate([self._ids_BC, behaviour[2][known]])
        self._make_room(len(self._user))
        waiting = (self._time_ms, self._user, self._ids_BC)
        kept = run_histories(self._users, root, waiting, out_SLC, length_S)
        self._time_ms, self._user, self._ids_BC = (
            waiting[0][kept:].copy(),
            waiting[1][kept:].copy(),
            waiting[2][kept:].copy(),
        )

    def size_bytes(self) -> int:
        """Bytes of the buffers and of what waits to be kept."""
        return sum(array.nbytes for array in self.state().values())

    def state(self) -> Arrays:
        """The buffers of known users, and the behaviours that no root has asked for yet."""
        used = int(self._users.meta[_USED])
        arrays: Arrays = {"time_ms": self._time_ms, "user": self._user, "ids_BC": self._ids_BC}
        arrays |= {f"place_of.{name}": array for name, array in self._users.place_of._asdict().items()}
        arrays |= {f"users.{name}": getattr(self._users, name)[:used] for name in _BY_USER}
        return arrays | {"meta": self._users.meta}

    def restore(self, arrays: Arrays) -> None:
        """Become the buffer that gave `arrays`."""
        self._time_ms, self._user, self._ids_BC = (arrays[name].copy() for name in ("time_ms", "user", "ids_BC"))
        meta = arrays["meta"].copy()
        users = _users(max(1, int(meta[_USED])), self._last, self._taken)
        for name in _BY_USER:
            getattr(users, name)[: meta[_USED]] = arrays[f"users.{name}"]
        place_of = IdMap(*(arrays[f"place_of.{name}"].copy() for name in IdMap._fields))
        self._users = users._replace(place_of=place_of, meta=meta)

    def _make_room(self, extra: int) -> None:
        users = self._users
        used, size = int(users.meta[_USED]), len(users.user)
        wanted = min(self._max_users, used + extra)
        if wanted > size:
            size = min(self._max_users, max(2 * size, wanted))
            larger = _users(size, self._last, self._taken)
            for name in _BY_USER:
                getattr(larger, name)[:used] = getattr(users, name)[:used]
            users = larger._replace(place_of=users.place_of, meta=users.meta)
        users.meta[_LIMIT] = len(users.user)
        self._users = users._replace(place_of=reserve(users.place_of, extra))


_BY_USER: Final = ("ids_ULC", "n_kept", "user", "older", "newer")


def _users(size: int, last: int, taken: int) -> Users:
    return Users(
        ids_ULC=np.zeros((size, last, taken), np.uint64),
        n_kept=np.zeros(size, np.int64),
        user=np.zeros(size, np.uint64),
        older=np.full(size, _NONE, np.int64),
        newer=np.full(size, _NONE, np.int64),
        place_of=new_map(8),
        meta=np.array([0, _NONE, _NONE, size], np.int64),
    )
