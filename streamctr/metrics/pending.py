"""Scores that wait until their labels are final, and which slice their roots belong to.

Legend: P slots, S stages behind the root, N rows, F sliced fields, V values a field is sliced by.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamctr.hashing import U64, mix_one
from streamctr.idmap import IdMap, find, insert, new_map, remove, reserve
from streamctr.kernel import kernel

SLICES: Final = 32
"""The first so many values of a field are slices of their own; the rest is one more, at this place."""


class Pending(NamedTuple):
    """The scores of open roots, each in a slot that is used again once all labels of its root are final."""

    ids: IdMap
    logits_PS: NDArray[np.float32]
    slices_PF: NDArray[np.uint8]
    done_P: NDArray[np.int64]
    """Bit s - 1: stage s is final or absent."""
    free_P: NDArray[np.int64]
    """From place `ids.n_keys` on: the slots that are free."""


class Seen(NamedTuple):
    """The values that each sliced field has shown first, in order."""

    column_F: NDArray[np.int64]
    """Where the field stands among the id features."""
    values_FV: U64
    count_F: NDArray[np.int64]


@kernel
def _slice_of(seen: Seen, field: int, value: np.uint64) -> int:
    count = seen.count_F[field]
    for place in range(count):
        if seen.values_FV[field, place] == value:
            return place
    if count < SLICES:
        seen.values_FV[field, count] = value
        seen.count_F[field] += 1
    return int(count)


@kernel
def lives(root_N: U64, root_ms_N: U64, life_N: U64) -> None:
    """Roots by id and time, as `combine` has them: an id that comes again after it was forgotten is another root."""
    for row in range(len(root_N)):
        life_N[row] = mix_one(np.uint64(mix_one(root_N[row]) ^ root_ms_N[row]))


@kernel
def hold(pending: Pending, seen: Seen, root_N: U64, ids_NF: U64, logits_NS: NDArray[np.float32]) -> None:
    """Keep the scores of roots in order; a root that is still open takes its new score."""
    for row in range(len(root_N)):
        slot = find(pending.ids, root_N[row])
        if slot < 0:
            slot = pending.free_P[pending.ids.n_keys[0]]
            insert(pending.ids, root_N[row], slot)
        pending.done_P[slot] = 0
        for stage in range(logits_NS.shape[1]):
            pending.logits_PS[slot, stage] = logits_NS[row, stage]
        for field in range(len(seen.column_F)):
            pending.slices_PF[slot, field] = _slice_of(seen, field, ids_NF[row, seen.column_F[field]])


@kernel
def release(ids: IdMap, free_P: NDArray[np.int64], root: np.uint64, slot: int) -> None:
    """Forget a root's score."""
    remove(ids, root)
    free_P[ids.n_keys[0]] = slot


def new_pending(capacity: int, stages: int, fields: int) -> Pending:
    """Nothing pending, with room for `capacity` roots (one or more)."""
    return Pending(
        new_map(capacity),
        np.zeros((capacity, stages), np.float32),
        np.zeros((capacity, fields), np.uint8),
        np.zeros(capacity, np.int64),
        np.arange(capacity),
    )


def with_room(pending: Pending, extra: int) -> Pending:
    """The same, or one of twice the slots (as often as needed), with room for `extra` more roots."""
    old, needed = len(pending.done_P), int(pending.ids.n_keys[0]) + extra
    size = old
    while size < needed:
        size *= 2
    if size == old:
        return pending

    def longer(column: NDArray[Any]) -> NDArray[Any]:
        new = np.zeros((size, *column.shape[1:]), column.dtype)
        new[:old] = column
        return new

    free_P = np.arange(size)
    free_P[:old] = pending.free_P
    ids = reserve(pending.ids, size - int(pending.ids.n_keys[0]))
    return Pending(ids, longer(pending.logits_PS), longer(pending.slices_PF), longer(pending.done_P), free_P)
