"""Behaviour histories as of the root: the last L behaviours of a user, each a few ids.

Legend: R roots of a chunk, N of any, B behaviours, U users, L behaviours kept, C ids taken of each, S slots of open
roots.
"""

from typing import Any, Final, NamedTuple

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
_KEPT, _OLDER, _NEWER = range(3)
"""Behaviours ever kept, of which the newest stands at (kept - 1) % L; the users touched before and after."""


class Users(NamedTuple):
    """Ring buffers by user, threaded from the least to the most recently touched."""

    ids_ULC: U64
    user: U64  # (U,)
    links_U3: I64  # side by side, as they are read together: the columns below
    place_of: IdMap
    meta: I64


@inlined
def _touch(users: Users, place: int) -> None:
    """Make a place the most recently touched one."""
    older, newer = users.links_U3[place, _OLDER], users.links_U3[place, _NEWER]
    if newer == _NONE and users.meta[_NEWEST] == place:
        return
    if older != _NONE:
        users.links_U3[older, _NEWER] = newer
    elif users.meta[_OLDEST] == place:
        users.meta[_OLDEST] = newer
    if newer != _NONE:
        users.links_U3[newer, _OLDER] = older
    users.links_U3[place, _OLDER] = users.meta[_NEWEST]
    users.links_U3[place, _NEWER] = _NONE
    if users.meta[_NEWEST] != _NONE:
        users.links_U3[users.meta[_NEWEST], _NEWER] = place
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
        users.links_U3[place, _KEPT] = 0
    _touch(users, place)
    return int(place)


@inlined
def _append(users: Users, user: np.uint64, ids_C: U64) -> None:
    place = _place_for(users, user)
    at = users.links_U3[place, _KEPT] % users.ids_ULC.shape[1]
    for c in range(len(ids_C)):
        users.ids_ULC[place, at, c] = ids_C[c]
    users.links_U3[place, _KEPT] += 1


@inlined
def _copy_out(users: Users, place: int, out_LC: U64, shown: int) -> int:
    """Copy the behaviours at a place, oldest first; how many there are. No place (-1): none.

    Of those that were shown in `out_LC` before, nothing is left: zeros stand behind.
    """
    length = 0
    if place >= 0:
        last = users.ids_ULC.shape[1]
        count = users.links_U3[place, _KEPT]
        length = min(count, last)
        at = (count - length) % last
        for t in range(length):
            for c in range(users.ids_ULC.shape[2]):
                out_LC[t, c] = users.ids_ULC[place, at, c]
            at += 1
            if at == last:
                at = 0
    for t in range(length, shown):
        for c in range(users.ids_ULC.shape[2]):
            out_LC[t, c] = 0
    return int(length)


@inlined
def _push(out_LC: U64, length: int, ids_C: U64) -> int:
    """Put one behaviour behind those shown, the oldest out where there is no room; how many there are."""
    if length == len(out_LC):
        length -= 1
        for t in range(length):
            for c in range(len(ids_C)):
                out_LC[t, c] = out_LC[t + 1, c]
    for c in range(len(ids_C)):
        out_LC[length, c] = ids_C[c]
    return length + 1


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
        root: before when each sees, users and slots of roots, in order, (R,) each.
        behaviour: times, users (B,) and ids (B, C) of behaviours, in order.
        out_SLC: receives each root's behaviours, at its slot.
        length_S: how many were shown there before; receives how many there are.
    """
    root_ms, root_user, root_slot = root
    time_ms, user, ids_BC = behaviour
    kept = 0
    for r in range(len(root_ms)):
        while kept < len(time_ms) and time_ms[kept] < root_ms[r]:
            _append(users, user[kept], ids_BC[kept])
            kept += 1
        place = find(users.place_of, root_user[r])
        if place >= 0:
            _touch(users, place)
        slot = root_slot[r]
        length_S[slot] = _copy_out(users, place, out_SLC[slot], length_S[slot])
    return kept


@kernel
def show_histories(
    users: Users, root: tuple[I64, U64], waiting: tuple[I64, U64, U64], out_NLC: U64, length_N: NDArray[np.int32]
) -> None:
    """Show each root what `run_histories` would show it next, and change nothing.

    Args:
        users: the buffers.
        root: times and users of N roots, in any order.
        waiting: times, users and ids of behaviours that are not kept yet, in order.
        out_NLC: zeros; receives each root's behaviours.
        length_N: receives how many there are.
    """
    time_ms, user, ids_BC = waiting
    for n in range(len(root[0])):
        length = _copy_out(users, find(users.place_of, root[1][n]), out_NLC[n], 0)
        for b in range(len(time_ms)):
            if time_ms[b] >= root[0][n]:
                break
            if user[b] == root[1][n]:
                length = _push(out_NLC[n], length, ids_BC[b])
        length_N[n] = length


class Waiting:
    """Behaviours that are not kept yet, in order, (B,) each; to add and drop costs what is added, not what waits.

    >>> waiting = Waiting(taken=1)
    >>> waiting.add(np.array([5, 6]), np.array([1, 2], np.uint64), np.array([[7], [8]], np.uint64))
    >>> waiting.drop(1)
    >>> [column.tolist() for column in waiting.columns]
    [[6], [2], [[8]]]
    """

    def __init__(self, taken: int) -> None:
        self._room = np.empty(0, np.int64), np.empty(0, np.uint64), np.empty((0, taken), np.uint64)
        self._begin = self._end = 0

    @property
    def columns(self) -> tuple[I64, U64, U64]:
        """Times, users (B,) and ids (B, C), as views."""
        time_ms, user, ids = self._room
        here = slice(self._begin, self._end)
        return time_ms[here], user[here], ids[here]

    def add(self, *columns: NDArray[Any]) -> None:
        """Put more behind them."""
        more, old = len(columns[0]), self.columns
        if self._end + more > len(self._room[0]):
            size = 2 * (len(old[0]) + more)
            time_ms, user, ids = (np.empty((size, *column.shape[1:]), column.dtype) for column in old)
            self._room = time_ms, user, ids
            self._begin, self._end = 0, len(old[0])
            for into, column in zip(self.columns, old, strict=True):
                into[:] = column
        self._end += more
        for into, column in zip(self.columns, columns, strict=True):
            into[len(into) - more :] = column

    def drop(self, count: int) -> None:
        """Forget the first ones."""
        self._begin += count


class HistoryBuffer:
    """Keeps one history of a run; `run` per chunk. A behaviour is kept only when a later root asks, so ties are exact.

    With a lag it is kept when a root asks that comes later by more than that.

    Args:
        config: which ids, how many behaviours.
        max_users: beyond that the user who was touched longest ago is forgotten.
    """

    def __init__(self, config: HistoryConfig, max_users: int) -> None:
        self._last, self._taken, self._max_users = config.last, len(config.take), max_users
        self._lag_ms = config.lag
        self._users = _users(min(max_users, 1024), self._last, self._taken)
        self._waiting = Waiting(self._taken)

    def run(
        self,
        root: tuple[I64, U64, I64],
        behaviour: tuple[I64, U64, U64],
        out_SLC: U64,
        length_S: NDArray[np.int32],
    ) -> None:
        """Take a chunk's behaviours and fill in what its roots see; arguments as for `run_histories`."""
        known = behaviour[1] != 0
        self._waiting.add(*(column[known] for column in behaviour))
        time_ms = root[0] - self._lag_ms
        if len(time_ms):
            self._make_room(int(np.searchsorted(self._waiting.columns[0], time_ms[-1])))
        self._waiting.drop(run_histories(self._users, (time_ms, *root[1:]), self._waiting.columns, out_SLC, length_S))

    def show(self, time_ms: I64, user: U64) -> tuple[U64, NDArray[np.int32]]:
        """What roots of these times and users would see if they came now, (N, L, C), and how much of it, (N,)."""
        out_NLC = np.zeros((len(user), self._last, self._taken), np.uint64)
        length_N = np.zeros(len(user), np.int32)
        waiting_ms, waits, ids_BC = self._waiting.columns
        theirs = np.isin(waits, user)
        waiting = waiting_ms[theirs], waits[theirs], ids_BC[theirs]
        show_histories(self._users, (time_ms - self._lag_ms, user), waiting, out_NLC, length_N)
        return out_NLC, length_N

    def size_bytes(self) -> int:
        """Bytes of the buffers and of what waits to be kept."""
        return sum(array.nbytes for array in self.state().values())

    def state(self) -> Arrays:
        """The buffers of known users, and the behaviours that no root has asked for yet."""
        used = int(self._users.meta[_USED])
        arrays: Arrays = dict(zip(_WAITING, self._waiting.columns, strict=True))
        arrays |= {f"place_of.{name}": array for name, array in self._users.place_of._asdict().items()}
        arrays |= {"users.ids_ULC": self._users.ids_ULC[:used], "users.user": self._users.user[:used]}
        links = self._users.links_U3[:used].T.copy()
        arrays |= {f"users.{name}": links[row] for name, row in _LINKS.items()}
        return arrays | {"meta": self._users.meta}

    def restore(self, arrays: Arrays) -> None:
        """Become the buffer that gave `arrays`."""
        self._waiting = Waiting(self._taken)
        self._waiting.add(*(arrays[name] for name in _WAITING))
        meta = arrays["meta"].copy()
        users = _users(max(1, int(meta[_USED])), self._last, self._taken)
        for column, name in ((users.ids_ULC, "ids_ULC"), (users.user, "user")):
            column[: meta[_USED]] = arrays[f"users.{name}"]
        for name, row in _LINKS.items():
            users.links_U3[: meta[_USED], row] = arrays[f"users.{name}"]
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


_WAITING: Final = ("time_ms", "user", "ids_BC")
_BY_USER: Final = ("ids_ULC", "user", "links_U3")
_LINKS: Final = {"n_kept": _KEPT, "older": _OLDER, "newer": _NEWER}


def _users(size: int, last: int, taken: int) -> Users:
    return Users(
        ids_ULC=np.zeros((size, last, taken), np.uint64),
        user=np.zeros(size, np.uint64),
        links_U3=np.tile(np.array([0, _NONE, _NONE]), (size, 1)),
        place_of=new_map(8),
        meta=np.array([0, _NONE, _NONE, size], np.int64),
    )
