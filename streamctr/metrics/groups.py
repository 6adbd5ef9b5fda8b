"""Sums and curves of many groups of rows side by side: the whole run, from a moment on, and each open bucket.

Legend: G groups, H heads, 2 classes, B bins, F sliced fields, V values a field is sliced by.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamctr.idmap import IdMap, find, insert, new_map, remove, reserve
from streamctr.kernel import kernel
from streamctr.metrics.figures import BINS, F64, N_SUMS
from streamctr.metrics.pending import SLICES

TOTAL: Final = 0
FROM: Final = 1
FIRST_BUCKET: Final = 2
"""Places of the groups: the whole run, from a moment on, and then the buckets in any order."""


class Groups(NamedTuple):
    """What was judged. Curves are 131 KB a group and head (untouched pages cost nothing), so slices have sums only."""

    buckets: IdMap
    """From the number of an open bucket to its group."""
    free_G: NDArray[np.int64]
    """From place `buckets.n_keys` on: the groups that are free."""
    bins_GH2B: NDArray[np.int64]
    sums_GH: F64
    slices_GFVH: F64
    unscored: NDArray[np.int64]
    """One element: rows that could not be judged, as their root has no score or none that is finite."""


@kernel
def bucket_group(buckets: IdMap, free_G: NDArray[np.int64], number: int) -> int:
    """The group of a bucket, a free one if it is new, -1 if none is free."""
    key = np.uint64(number)
    group = find(buckets, key)
    if group < 0 and buckets.n_keys[0] < len(free_G):
        group = int(free_G[buckets.n_keys[0]])
        insert(buckets, key, group)
    return group


def new_groups(n_buckets: int, heads: int, fields: int) -> Groups:
    """Empty groups, with room for so many open buckets."""
    n_groups = FIRST_BUCKET + n_buckets
    return Groups(
        new_map(n_buckets),
        np.arange(FIRST_BUCKET, n_groups),
        np.zeros((n_groups, heads, 2, BINS), np.int64),
        np.zeros((n_groups, heads, N_SUMS)),
        np.zeros((n_groups, fields, SLICES + 1, heads, N_SUMS)),
        np.zeros(1, np.int64),
    )


def with_more_buckets(groups: Groups, extra: int) -> Groups:
    """The same groups, with room for `extra` more buckets."""
    old = len(groups.sums_GH)

    def longer(column: NDArray[Any]) -> NDArray[Any]:
        new = np.zeros((old + extra, *column.shape[1:]), column.dtype)
        np.copyto(new[:old], column, where=column != 0)  # pages of zeros stay untouched
        return new

    return Groups(
        reserve(groups.buckets, len(groups.free_G) + extra - int(groups.buckets.n_keys[0])),
        np.concatenate([groups.free_G, np.arange(old, old + extra)]),
        longer(groups.bins_GH2B),
        longer(groups.sums_GH),
        longer(groups.slices_GFVH),
        groups.unscored,
    )


def open_buckets(groups: Groups) -> list[tuple[int, int]]:
    """Number and group of each open bucket, by number."""
    taken = groups.buckets.values >= 0
    numbers = groups.buckets.keys[taken].astype(np.int64)
    return sorted(zip(numbers.tolist(), groups.buckets.values[taken].tolist(), strict=True))


@kernel
def _clear(counts: NDArray[np.int64]) -> None:
    """Write zeros only where there are none: pages of zeros stay untouched."""
    for place in range(len(counts)):
        if counts[place] != 0:
            counts[place] = 0


def close_bucket(groups: Groups, number: int, group: int) -> None:
    """Forget a bucket; its group is free for another."""
    _clear(groups.bins_GH2B[group].reshape(-1))
    groups.sums_GH[group] = 0
    groups.slices_GFVH[group] = 0
    remove(groups.buckets, np.int64(number).astype(np.uint64))
    groups.free_G[groups.buckets.n_keys[0]] = group
