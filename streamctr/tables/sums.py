"""The loops that learn rows of a fused table: gradients summed by row, and a step on the rows that were touched.

They go in parts, each for a core. Slots that stand together are of one part, which sums up all gradients of a row in
the order in which they stand; and cores write to the same lines of memory nowhere. Legend: N samples, P items of bags
or histories, C columns, W width, X columns of the input, G looks, Q parts, U distinct rows of a batch, L room for
learned rows, H cells.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numba import prange

from streamctr.cores import Turns, side_by_side, turn
from streamctr.finite import exponents
from streamctr.hashing import GOLDEN
from streamctr.kernel import fetch, inlined, kernel
from streamctr.tables.kernels import AHEAD, EACH, F32, I32, I64, MAX, MEAN, Store

_TOGETHER: Final = 4
"""Slots of the same number without so many bits are of one part: their accumulators are a line of memory."""


class Sums(NamedTuple):
    """Gradients of distinct rows by part: their slots, and their sums in order of first touch."""

    count_Q8: I64
    """How many rows there are, and how many cells are used, 2^k."""
    slot_QU: I64
    sums_QUW: F32
    cells_QH: I64
    """Open addressing by slot: the slot, and in the lower half where it stands, counted from 1."""
    row_QP: I64
    """Of each place of a part: its slot, then where its sum stands."""
    at_QP: I64
    """Where its gradient begins."""
    share_QP: F32
    """What of that is its own."""


class Given(NamedTuple):
    """The gradient of what a look gave, from column `start` on."""

    slots_PC: I64
    begin_N: I64
    """Where each sample's items begin and the last one's end; nothing where they are not combined."""
    how: int
    grads_NX: F32
    start: int


_Arrays = tuple[tuple[I64, ...], tuple[I64, ...], tuple[F32, ...], I64, I64]
"""All that is given, field by field, with `how` and `start` side by side; and room for where a part's places end."""


def new_sums(parts: int, places: int, width: int) -> Sums:
    """With room for the rows of so many places."""
    size, cells = (parts, places), (parts, 1 << places.bit_length())
    slot, row, at = (np.empty(size, np.int64) for _ in range(3))
    sums, share = np.empty((*size, width), np.float32), np.empty(size, np.float32)
    return Sums(np.zeros((parts, 8), np.int64), slot, sums, np.zeros(cells, np.int64), row, at, share)


def add(given: Sequence[Given], sums: Sums, weights_LW: F32) -> int:
    """Add every place's gradient to its row's sum, in the order given; the sums' largest exponent field.

    What is given for combined items is shared out among them.
    """
    slots, begins, hows, grads, starts = zip(*given, strict=True)
    ends_QG, largest_Q = np.empty((len(sums.count_Q8), len(given)), np.int64), np.zeros(len(sums.count_Q8), np.int32)
    _add_all((slots, begins, grads, np.array([hows, starts]), ends_QG), sums, weights_LW, largest_Q)
    return int(largest_Q.max())


@side_by_side
def _add_all(turns: Turns, arrays: _Arrays, sums: Sums, weights_LW: F32, largest_Q: I32) -> None:
    slots, begins, grads, numbers_2G, ends_QG = arrays
    parts = len(sums.count_Q8)
    for _ in prange(turns.workers):
        part = turn(turns, parts)
        while part < parts:
            _add((slots, begins, grads, numbers_2G, ends_QG), sums, weights_LW, part)
            exponents(sums.sums_QUW[part, : sums.count_Q8[part, 0]].reshape(-1).view(np.int32), largest_Q[part:])
            part = turn(turns, parts)


@kernel
def _add(arrays: _Arrays, sums: Sums, weights_LW: F32, part: int) -> None:
    slots, begins, grads, numbers_2G, ends_QG = arrays
    end_G, first, cells = ends_QG[part], 0, 1
    for g in range(len(slots)):
        given = Given(slots[g], begins[g], numbers_2G[0, g], grads[g], numbers_2G[1, g])
        first = end_G[g] = _note(given, sums, part, first)
    while cells <= first:
        cells *= 2
    sums.count_Q8[part, 1] = cells
    first = 0
    for g in range(len(slots)):
        if numbers_2G[0, g] == MAX:
            given = Given(slots[g], begins[g], MAX, grads[g], numbers_2G[1, g])
            _add_largest(given, sums, part, weights_LW)
        else:
            _add_shares(grads[g].reshape(-1), sums, part, (first, end_G[g]))
        first = end_G[g]


@inlined
def _is_of(slot: int, sums: Sums, part: int) -> bool:
    """Whether a slot is of a part."""
    many = np.uint64(len(sums.count_Q8))
    return bool((np.uint64(slot >> _TOGETHER) * GOLDEN >> np.uint64(32)) * many >> np.uint64(32) == np.uint64(part))


@kernel
def _note(given: Given, sums: Sums, part: int, count: int) -> int:
    """The places of a part, behind so many others; how many there are then."""
    row_P, at_P, share_P = sums.row_QP[part], sums.at_QP[part], sums.share_QP[part]
    slots_PC, begin_N, width = given.slots_PC, given.begin_N, sums.sums_QUW.shape[2]
    begin, end, share = 0, 0, np.float32(1.0)
    for n in range(len(given.grads_NX)):
        begin, end = end, n + 1 if given.how == EACH else begin_N[n + 1]
        if given.how == MEAN and end > begin:
            share = np.float32(1.0) / np.float32(end - begin)
        for p in range(begin, end):
            at = n * given.grads_NX.shape[1] + given.start
            for c in range(slots_PC.shape[1]):
                row_P[count], at_P[count], share_P[count] = slots_PC[p, c], at, share
                count += int(_is_of(slots_PC[p, c], sums, part))
                at += width
    return count


@kernel
def _add_shares(grads_X: F32, sums: Sums, part: int, span: tuple[int, int]) -> None:
    """Of places that are noted."""
    row_P, at_P, share_P = sums.row_QP[part], sums.at_QP[part], sums.share_QP[part]
    sums_UW, width = sums.sums_QUW[part], sums.sums_QUW.shape[2]
    for p in range(span[0], span[1]):
        fetch(grads_X, at_P[p])
        row_P[p] = _place_of(row_P[p], sums, part)
    for p in range(span[0], span[1]):
        sum_W, grad_W, share = sums_UW[row_P[p]], grads_X[at_P[p] : at_P[p] + width], share_P[p]
        for w in range(width):
            sum_W[w] += share * grad_W[w]


@inlined
def _place_of(slot: int, sums: Sums, part: int) -> int:
    """Where a slot's sum stands; a new one begins at 0."""
    cells_H, last = sums.cells_QH[part], sums.count_Q8[part, 1] - 1
    cell = np.int64(np.uint64(slot) * GOLDEN >> np.uint64(32)) & last
    while cells_H[cell] != 0 and cells_H[cell] >> 32 != slot:
        cell = (cell + 1) & last
    number = cells_H[cell] & 0xFFFFFFFF
    if number == 0:
        number = sums.count_Q8[part, 0] + 1
        sums.count_Q8[part, 0] = number
        sums.slot_QU[part, number - 1] = slot
        cells_H[cell] = slot << 32 | number
        sums.sums_QUW[part, number - 1] = np.float32(0.0)
    return int(number - 1)


@kernel
def _add_largest(given: Given, sums: Sums, part: int, weights_LW: F32) -> None:
    """Of a maximum, to the items that have it, number by number; equal ones share it evenly."""
    width, begin_N = sums.sums_QUW.shape[2], given.begin_N
    for n in range(len(begin_N) - 1):
        for c in range(given.slots_PC.shape[1]):
            for w in range(width):
                largest, equal = np.float32(-np.inf), 0
                for p in range(begin_N[n], begin_N[n + 1]):
                    value = weights_LW[given.slots_PC[p, c], w]
                    equal = 1 if value > largest else equal + int(value == largest)
                    largest = max(largest, value)
                for p in range(begin_N[n], begin_N[n + 1]):
                    slot = given.slots_PC[p, c]
                    if weights_LW[slot, w] == largest and _is_of(slot, sums, part):
                        sum_W = sums.sums_QUW[part, _place_of(slot, sums, part)]
                        sum_W[w] += given.grads_NX[n, given.start + c * width + w] / np.float32(equal)


@side_by_side
def adagrad_rows(turns: Turns, sums: Sums, store: Store, step: tuple[float, float, float]) -> None:
    """Row-wise Adagrad with decay on touched rows.

    a <- decay a + mean(g^2);  w <- w - lr g / (sqrt(a) + eps);  g <- 0     (Duchi et al. 2011, one accumulator a row)
    """
    parts = len(sums.count_Q8)
    for _ in prange(turns.workers):
        part = turn(turns, parts)
        while part < parts:
            _adagrad_rows(sums, store, step, part)
            part = turn(turns, parts)


@kernel
def _adagrad_rows(sums: Sums, store: Store, step: tuple[float, float, float], part: int) -> None:
    lr, eps, decay = step
    width, slot_U = store.weights_LW.shape[1], sums.slot_QU[part, : sums.count_Q8[part, 0]]
    for u in range(len(slot_U)):
        if u + AHEAD < len(slot_U):
            fetch(store.weights_LW, slot_U[u + AHEAD] * width)
            fetch(store.accumulator_L, slot_U[u + AHEAD])
        slot, power = slot_U[u], 0.0
        row_W, sum_W = store.weights_LW[slot], sums.sums_QUW[part, u]
        for w in range(width):
            power += np.float64(sum_W[w]) * np.float64(sum_W[w])
        total = np.float32(decay * store.accumulator_L[slot] + power / width)
        store.accumulator_L[slot] = total
        rate = np.float32(lr / (np.sqrt(np.float64(total)) + eps))
        for w in range(width):
            row_W[w] -= rate * sum_W[w]
    clear(sums, part)


@kernel
def clear(sums: Sums, part: int) -> None:
    """A part sums up nothing yet."""
    sums.cells_QH[part, : sums.count_Q8[part, 1]] = 0
    sums.count_Q8[part] = 0
