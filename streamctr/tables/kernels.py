"""The loops over rows of a fused table.

Learned rows stand in a store in the order in which they were first learned, so that memory holds no gaps and rows that
are met often stand together; `slot_R` says where, counted from 1, and 0 for rows that nobody learned. A look gives each
id its slot, counted from 0, or -1 - row where nobody learned the row; `admit` makes slots of these.
Legend: N samples, P items of bags or histories, C columns, W width, D = C W, R rows, L room for learned rows, K tables,
U distinct rows of a batch.
"""

from typing import Final, NamedTuple

import numpy as np
from numba import prange
from numpy.typing import NDArray

from streamctr.cores import Turns, side_by_side, turn
from streamctr.finite import exponents
from streamctr.hashing import GOLDEN, U64, mix_one
from streamctr.kernel import inlined, kernel

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
I32 = NDArray[np.int32]

_SHIFT: Final = np.uint64(11)
_SPREAD: Final = 2.0 * 3.0**0.5 * 2.0**-53
_SQRT3: Final = 3.0**0.5

ROWS: Final = 128
"""Samples that are looked up at a time."""

EACH, SUM, MEAN, MAX = range(4)
"""How the items of a sample are combined; EACH: they are not, every one has numbers of its own."""


class Columns(NamedTuple):
    """Of which table each column is, what rows that has, and whose part they are when they are learned."""

    salts_C: U64
    starts_C: I64
    sizes_C: U64
    part_C: I64


class Draw(NamedTuple):
    """How new rows are drawn."""

    starts_K: I64
    keys_K: U64
    std: float


class Store(NamedTuple):
    """The learned rows, and where each stands."""

    slot_R: I32
    place_L: I64
    weights_LW: F32
    accumulator_L: F32


class Sums(NamedTuple):
    """Gradients of distinct rows, parted by table: their slots, with their sums in order of first touch.

    What one part writes lies apart from what another one does: two cores that write near each other would wait.
    """

    count_P8: I64  # in the first place
    slot_PU: I64
    sums_PUW: F32
    cells_PH: I32  # open addressing by slot: where it stands, counted from 1; 2^k of them


@kernel
def find_rows(ids_PC: U64, columns: Columns, rows_PC: I64) -> None:
    """Row of every id in its column's table."""
    for p in range(len(ids_PC)):
        for c in range(ids_PC.shape[1]):
            place = np.uint64(mix_one(np.uint64(ids_PC[p, c] ^ columns.salts_C[c])) % columns.sizes_C[c])
            rows_PC[p, c] = columns.starts_C[c] + np.int64(place)


@inlined
def _drawn(row: int, draw: Draw) -> np.uint64:
    """From where on the numbers of a row are drawn."""
    table = len(draw.starts_K) - 1
    while draw.starts_K[table] > row:
        table -= 1
    return mix_one(np.uint64(draw.keys_K[table] ^ np.uint64(row - draw.starts_K[table])))


@kernel
def draw_row(row: int, draw: Draw, out_W: F32) -> None:
    """A new row: uniform with deviation `std`, a pure function of (key of its table, its place there)."""
    state = _drawn(row, draw)
    for w in range(len(out_W)):
        out_W[w] = draw.std * (np.float64(mix_one(state) >> _SHIFT) * _SPREAD - _SQRT3)
        state = np.uint64(state + GOLDEN)


@kernel
def add_drawn(row: int, draw: Draw, how: int, out_W: F32) -> None:
    """Combine a new row with what stands there."""
    state = _drawn(row, draw)
    for w in range(len(out_W)):
        value = np.float32(draw.std * (np.float64(mix_one(state) >> _SHIFT) * _SPREAD - _SQRT3))
        out_W[w] = max(out_W[w], value) if how == MAX else out_W[w] + value
        state = np.uint64(state + GOLDEN)


@inlined
def _add_learned(row_W: F32, how: int, out_W: F32) -> None:
    """Combine a learned row with what stands there."""
    if how == MAX:
        for w in range(len(out_W)):
            out_W[w] = max(out_W[w], row_W[w])
    else:
        for w in range(len(out_W)):
            out_W[w] += row_W[w]


@kernel
def _find_slots(ids_PC: U64, columns: Columns, slot_R: I32, slots_PC: I64) -> None:
    """Slot of every id, or -1 - row."""
    find_rows(ids_PC, columns, slots_PC)
    for p in range(len(slots_PC)):
        for c in range(slots_PC.shape[1]):
            row = slots_PC[p, c]
            slot = np.int64(slot_R[row]) - 1
            slots_PC[p, c] = slot if slot >= 0 else -1 - row


@side_by_side
def look(turns: Turns, ids_NC: U64, columns: Columns, store: Store, draw: Draw, out: tuple[I64, F32]) -> None:
    """Slot of every id, and the numbers of its row, side by side: learned ones as they are, others as drawn."""
    slots_NC, out_NX = out
    rows = len(slots_NC)
    parts = (rows + ROWS - 1) // ROWS
    for _ in prange(turns.workers):
        part = turn(turns, parts)
        while part < parts:
            begin, end = part * ROWS, min(rows, (part + 1) * ROWS)
            _find_slots(ids_NC[begin:end], columns, store.slot_R, slots_NC[begin:end])
            _gather(slots_NC[begin:end], store.weights_LW, draw, out_NX[begin:end])
            part = turn(turns, parts)


@kernel
def _gather(slots_NC: I64, weights_LW: F32, draw: Draw, out_NX: F32) -> None:
    width = weights_LW.shape[1]
    for n in range(len(slots_NC)):
        for c in range(slots_NC.shape[1]):
            slot, out_W = slots_NC[n, c], out_NX[n, c * width : (c + 1) * width]
            if slot < 0:
                draw_row(-1 - slot, draw, out_W)
            else:
                row_W = weights_LW[slot]
                for w in range(width):
                    out_W[w] = row_W[w]


@side_by_side
def pool(
    turns: Turns, items: tuple[U64, I64, int], columns: Columns, store: Store, draw: Draw, out: tuple[I64, F32, int]
) -> None:
    """Slots of all items, and each sample's combined, C W columns from one on; zeros where it has none.

    `items` are ids, where each sample's begin, and how they are combined.
    """
    ids_PC, begin_N, how = items
    slots_PC, out_NX, start = out
    rows = len(out_NX)
    parts = (rows + ROWS - 1) // ROWS
    for _ in prange(turns.workers):
        part = turn(turns, parts)
        while part < parts:
            begin, end = part * ROWS, min(rows, (part + 1) * ROWS)
            first, last = begin_N[begin], begin_N[end]
            _find_slots(ids_PC[first:last], columns, store.slot_R, slots_PC[first:last])
            _pool((slots_PC, begin_N[begin:]), how, store.weights_LW, draw, (out_NX[begin:end], start))
            part = turn(turns, parts)


@kernel
def _pool(items: tuple[I64, I64], how: int, weights_LW: F32, draw: Draw, out: tuple[F32, int]) -> None:
    slots_PC, begin_N = items
    out_NX, start = out
    width, columns = weights_LW.shape[1], slots_PC.shape[1]
    for n in range(len(out_NX)):
        steps = begin_N[n + 1] - begin_N[n]
        out_D = out_NX[n, start : start + columns * width]
        first = np.float32(-np.inf if how == MAX and steps > 0 else 0.0)
        for d in range(len(out_D)):
            out_D[d] = first
        for p in range(begin_N[n], begin_N[n + 1]):
            for c in range(columns):
                slot, out_W = slots_PC[p, c], out_D[c * width : (c + 1) * width]
                if slot < 0:
                    add_drawn(-1 - slot, draw, how, out_W)
                else:
                    _add_learned(weights_LW[slot], how, out_W)
        if how == MEAN and steps > 1:
            for d in range(len(out_D)):
                out_D[d] /= np.float32(steps)


@kernel
def admit(slots_PC: I64, store: Store, learned: int) -> int:
    """Give a slot to each row that nobody learned, in the order of places; how many are learned then."""
    for p in range(len(slots_PC)):
        for c in range(slots_PC.shape[1]):
            if slots_PC[p, c] < 0:
                row = -1 - slots_PC[p, c]
                if store.slot_R[row] == 0:
                    store.place_L[learned] = row
                    learned += 1
                    store.slot_R[row] = learned
                slots_PC[p, c] = np.int64(store.slot_R[row]) - 1
    return learned


@side_by_side
def draw_rows(turns: Turns, store: Store, draw: Draw, initial: float, begin: int, end: int) -> None:
    """Let the rows of new slots come to be, as a look gave them."""
    parts = (end - begin + ROWS - 1) // ROWS
    for _ in prange(turns.workers):
        part = turn(turns, parts)
        while part < parts:
            _draw_rows(store, draw, initial, begin + part * ROWS, min(end, begin + (part + 1) * ROWS))
            part = turn(turns, parts)


@kernel
def _draw_rows(store: Store, draw: Draw, initial: float, begin: int, end: int) -> None:
    for slot in range(begin, end):
        draw_row(store.place_L[slot], draw, store.weights_LW[slot])
        store.accumulator_L[slot] = initial


@inlined
def _sum_of(slot: int, sums: Sums, part: int) -> F32:
    """A slot's sum in its part; a new one begins at 0."""
    cells_H, slot_U = sums.cells_PH[part], sums.slot_PU[part]
    last = np.uint64(len(cells_H) - 1)
    cell = (np.uint64(slot) * GOLDEN) >> np.uint64(32) & last
    while cells_H[cell] != 0 and slot_U[cells_H[cell] - 1] != slot:
        cell = (cell + np.uint64(1)) & last
    if cells_H[cell] == 0:
        number = sums.count_P8[part, 0]
        sums.count_P8[part, 0] = number + 1
        slot_U[number] = slot
        cells_H[cell] = number + 1
        sum_W = sums.sums_PUW[part, number]
        for w in range(len(sum_W)):
            sum_W[w] = 0.0
    found: F32 = sums.sums_PUW[part, cells_H[cell] - 1]
    return found


@side_by_side
def add_each(turns: Turns, slots_NC: I64, part_C: I64, grads: tuple[F32, int], sums: Sums) -> None:
    """Add every place's gradient to its row's sum, in the order of places; `grads` stand from a column on."""
    parts = len(sums.count_P8)
    for _ in prange(turns.workers):
        part = turn(turns, parts)
        while part < parts:
            _add_each(slots_NC, part_C, grads, sums, part)
            part = turn(turns, parts)


@kernel
def _add_each(slots_NC: I64, part_C: I64, grads: tuple[F32, int], sums: Sums, part: int) -> None:
    grads_NX, start = grads
    width = sums.sums_PUW.shape[2]
    for n in range(len(slots_NC)):
        for c in range(slots_NC.shape[1]):
            if part_C[c] == part:
                sum_W, at = _sum_of(slots_NC[n, c], sums, part), start + c * width
                grad_W = grads_NX[n, at : at + width]
                for w in range(width):
                    sum_W[w] += grad_W[w]


@side_by_side
def add_pooled(
    turns: Turns, items: tuple[I64, I64, I64], how: int, grads: tuple[F32, int], sums: Sums, weights_LW: F32
) -> None:
    """Add what the gradient of the combined items is for each; `items`: slots, where each sample's begin, parts."""
    parts = len(sums.count_P8)
    for _ in prange(turns.workers):
        part = turn(turns, parts)
        while part < parts:
            if how == MAX:
                _add_largest(items, weights_LW, grads, sums, part)
            else:
                _add_shares(items, how, grads, sums, part)
            part = turn(turns, parts)


@kernel
def _add_shares(items: tuple[I64, I64, I64], how: int, grads: tuple[F32, int], sums: Sums, part: int) -> None:
    """Of a sum or mean."""
    slots_PC, begin_N, part_C = items
    grads_NX, start = grads
    width = sums.sums_PUW.shape[2]
    for n in range(len(begin_N) - 1):
        steps = begin_N[n + 1] - begin_N[n]
        share = np.float32(1.0) / np.float32(steps if how == MEAN and steps > 1 else 1)
        for p in range(begin_N[n], begin_N[n + 1]):
            for c in range(slots_PC.shape[1]):
                if part_C[c] == part:
                    sum_W, at = _sum_of(slots_PC[p, c], sums, part), start + c * width
                    grad_W = grads_NX[n, at : at + width]
                    for w in range(width):
                        sum_W[w] += share * grad_W[w]


@kernel
def _add_largest(items: tuple[I64, I64, I64], weights_LW: F32, grads: tuple[F32, int], sums: Sums, part: int) -> None:
    """Of a maximum, to the items that have it, number by number; equal ones share it evenly."""
    slots_PC, begin_N, part_C = items
    grads_NX, start = grads
    width = sums.sums_PUW.shape[2]
    for n in range(len(begin_N) - 1):
        for c in range(slots_PC.shape[1]):
            for w in range(width if part_C[c] == part else 0):
                largest, equal = np.float32(-np.inf), 0
                for p in range(begin_N[n], begin_N[n + 1]):
                    value = weights_LW[slots_PC[p, c], w]
                    equal = 1 if value > largest else equal + int(value == largest)
                    largest = max(largest, value)
                for p in range(begin_N[n], begin_N[n + 1]):
                    slot = slots_PC[p, c]
                    if weights_LW[slot, w] == largest:
                        sum_W = _sum_of(slot, sums, part)
                        sum_W[w] += grads_NX[n, start + c * width + w] / np.float32(equal)


@side_by_side
def exponents_of(turns: Turns, sums: Sums, largest_P16: I32) -> None:
    """By part, the largest exponent field of the sums."""
    parts = len(sums.count_P8)
    for _ in prange(turns.workers):
        part = turn(turns, parts)
        while part < parts:
            count = sums.count_P8[part, 0]
            exponents(sums.sums_PUW[part, :count].reshape(-1).view(np.int32), largest_P16[part])
            part = turn(turns, parts)


@kernel
def forget(store: Store, begin: int, end: int) -> None:
    """Rows of slots that were given last are as nobody had learned them."""
    for slot in range(begin, end):
        store.slot_R[store.place_L[slot]] = 0


@side_by_side
def adagrad_rows(turns: Turns, sums: Sums, store: Store, step: tuple[float, float, float]) -> None:
    """Row-wise Adagrad with decay on touched rows.

    a <- decay a + mean(g^2);  w <- w - lr g / (sqrt(a) + eps);  g <- 0     (Duchi et al. 2011, one accumulator a row)
    """
    parts = len(sums.count_P8)
    for _ in prange(turns.workers):
        part = turn(turns, parts)
        while part < parts:
            _adagrad_rows(sums, store, step, part)
            part = turn(turns, parts)


@kernel
def _adagrad_rows(sums: Sums, store: Store, step: tuple[float, float, float], part: int) -> None:
    lr, eps, decay = step
    width = store.weights_LW.shape[1]
    for u in range(sums.count_P8[part, 0]):
        slot, power = sums.slot_PU[part, u], 0.0
        row_W, sum_W = store.weights_LW[slot], sums.sums_PUW[part, u]
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
    sums.count_P8[part, 0] = 0
    sums.cells_PH[part] = 0
