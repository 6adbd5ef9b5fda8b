"""The loops over rows of a fused table.

Learned rows stand in a store in the order in which they were first learned, so that memory holds no gaps and rows that
are met often stand together; `slot_R` says where, counted from 1, and 0 for rows that nobody learned.
Legend: N samples, T steps, C columns (ids have T = 1), P = N T C places, U distinct rows, R rows, W width, K tables.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streamctr.hashing import GOLDEN, U64, mix_one
from streamctr.kernel import kernel

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
I32 = NDArray[np.int32]

_SHIFT: Final = np.uint64(11)
_SPREAD: Final = 2.0 * 3.0**0.5 * 2.0**-53
_SQRT3: Final = 3.0**0.5
_LARGEST: Final = 2.0**120


@kernel
def find_rows(ids_NTC: U64, length_N: I64, salts_C: U64, starts_C: I64, sizes_C: U64, rows_NTC: I64) -> None:
    """Row of every id in its column's table; -1 at steps behind a sample's length."""
    n, steps, columns = ids_NTC.shape
    for i in range(n):
        length = length_N[i]
        for t in range(steps):
            for c in range(columns):
                if t < length:
                    place = np.uint64(mix_one(np.uint64(ids_NTC[i, t, c] ^ salts_C[c])) % sizes_C[c])
                    rows_NTC[i, t, c] = starts_C[c] + np.int64(place)
                else:
                    rows_NTC[i, t, c] = -1


@kernel
def draw_row(row: int, starts_K: I64, keys_K: U64, std: float, out_W: F32) -> None:
    """A new row: uniform with deviation `std`, a pure function of (key of its table, its place there)."""
    table = len(starts_K) - 1
    while starts_K[table] > row:
        table -= 1
    state = mix_one(np.uint64(keys_K[table] ^ np.uint64(row - starts_K[table])))
    for w in range(len(out_W)):
        bits = mix_one(state) >> _SHIFT
        out_W[w] = std * (np.float64(bits) * _SPREAD - _SQRT3)
        state = np.uint64(state + GOLDEN)


@kernel
def gather(rows_P: I64, slot_R: I32, weights_RW: F32, draw: tuple[I64, U64, float], out_PW: F32) -> None:
    """Numbers of every row: learned ones as they are, others as they would be drawn, zeros for -1."""
    width = weights_RW.shape[1]
    for p in range(len(rows_P)):
        row = rows_P[p]
        if row < 0:
            for w in range(width):
                out_PW[p, w] = 0.0
        elif slot_R[row] == 0:
            draw_row(row, draw[0], draw[1], draw[2], out_PW[p])
        else:
            slot = slot_R[row] - 1
            for w in range(width):
                out_PW[p, w] = weights_RW[slot, w]


@kernel
def number_rows(rows_P: I64, cells_H: I32, distinct_U: I64, found: int, slots_P: I32) -> int:
    """Number distinct rows from `found` on, in order of first touch; `cells_H` is a zeroed table of 2^k cells.

    Open addressing: a cell holds a row's number + 1. Returns how many distinct rows are known afterwards.
    """
    mask = np.uint64(len(cells_H) - 1)
    for p in range(len(rows_P)):
        row = rows_P[p]
        if row < 0:
            slots_P[p] = -1
            continue
        cell = (np.uint64(row) * GOLDEN) >> np.uint64(32) & mask
        while cells_H[cell] != 0 and distinct_U[cells_H[cell] - 1] != row:
            cell = (cell + np.uint64(1)) & mask
        if cells_H[cell] == 0:
            distinct_U[found] = row
            found += 1
            cells_H[cell] = found
        slots_P[p] = cells_H[cell] - 1
    return found


@kernel
def add_gradients(slots_NTC: I32, grads_NTCW: F32, sums_UW: F32) -> None:
    """Add every place's gradient to its row's sum, in the order of places; -1 is skipped."""
    n, steps, columns, width = grads_NTCW.shape
    for i in range(n):
        for t in range(steps):
            for c in range(columns):
                slot = slots_NTC[i, t, c]
                if slot >= 0:
                    for w in range(width):
                        sums_UW[slot, w] += grads_NTCW[i, t, c, w]


@kernel
def mean_squares(sums_UW: F32, power_U: F64) -> bool:
    """Mean square of every row's gradient in float64; whether all are finite, with room for a sum in float32."""
    count, width = sums_UW.shape
    finite = True
    for u in range(count):
        total = 0.0
        for w in range(width):
            total += np.float64(sums_UW[u, w]) * np.float64(sums_UW[u, w])
        power_U[u] = total / width
        finite = finite and total < _LARGEST
    return finite


@kernel
def adagrad_rows(
    gradients: tuple[I64, F32, F64], slot_R: I32, store: tuple[F32, F32], learned: int, draw: Any, step: Any
) -> int:
    """Row-wise Adagrad with decay on touched rows; returns how many rows are learned afterwards.

    a <- decay a + mean(g^2);  w <- w - lr g / (sqrt(a) + eps)     (Duchi et al. 2011, one accumulator a row)
    """
    distinct_U, sums_UW, power_U = gradients
    weights_RW, accumulator_R = store
    lr, eps, decay, initial = step
    for u in range(len(distinct_U)):
        row = distinct_U[u]
        if slot_R[row] == 0:
            draw_row(row, draw[0], draw[1], draw[2], weights_RW[learned])
            accumulator_R[learned] = initial
            learned += 1
            slot_R[row] = learned
        slot = slot_R[row] - 1
        total = np.float32(decay * accumulator_R[slot] + power_U[u])
        accumulator_R[slot] = total
        rate = np.float32(lr / (np.sqrt(np.float64(total)) + eps))
        for w in range(weights_RW.shape[1]):
            weights_RW[slot, w] -= rate * sums_UW[u, w]
    return learned
