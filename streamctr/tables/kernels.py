"""The loops over rows of a fused table.

Learned rows stand in a store in the order in which they were first learned, so that memory holds no gaps and rows that
are met often stand together; `slot_R` says where, counted from 1, and 0 for rows that nobody learned. A look gives each
id its slot, counted from 0, or -1 - row where nobody learned the row; `admit` makes slots of these.
Legend: N samples, P items of bags or histories, C columns, W width, D = C W, R rows, L room for learned rows, K tables.
"""

from typing import Final, NamedTuple

import numpy as np
from numba import prange
from numpy.typing import NDArray

from streamctr.cores import Turns, side_by_side, turn
from streamctr.hashing import GOLDEN, U64, mix_one
from streamctr.kernel import fetch, inlined, kernel

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
I32 = NDArray[np.int32]

_SHIFT: Final = np.uint64(11)
_SPREAD: Final = 2.0 * 3.0**0.5 * 2.0**-53
_SQRT3: Final = 3.0**0.5

ROWS: Final = 128
"""Samples that are looked up at a time."""

AHEAD: Final = 16
"""Places before a row is needed, it is fetched."""

EACH, SUM, MEAN, MAX = range(4)
"""How the items of a sample are combined; EACH: they are not, every one has numbers of its own."""


class Columns(NamedTuple):
    """What rows the table of each column has."""

    salts_C: U64
    starts_C: I64
    sizes_C: U64


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
    width, slots, place = weights_LW.shape[1], slots_NC.reshape(-1), 0
    for n in range(len(slots_NC)):
        for c in range(slots_NC.shape[1]):
            slot, out_W = slots[place], out_NX[n, c * width : (c + 1) * width]
            fetch(weights_LW, max(slots[min(place + AHEAD, len(slots) - 1)], 0) * width)
            place += 1
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


@kernel
def forget(store: Store, begin: int, end: int) -> None:
    """Rows of slots that were given last are as nobody had learned them."""
    for slot in range(begin, end):
        store.slot_R[store.place_L[slot]] = 0
