"""Layers of ReLU units and logits, forward and backward, as kernels over parts of a batch, each for a core of its own.

They take a few rows at a time, so that what is read again is still near. In bf16, products take their factors rounded
to 16 bits and add up in 32; everything else stays in 32 bits.
Legend: B rows, R a few of them, D inputs, H units, X columns of a wider matrix, P parts.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numba import prange
from numpy.typing import NDArray

from streamctr.kernel import inlined, kernel, side_by_side
from streamctr.layers.blas import Room, add_turned_times, alone, bgemm, sgemm, times, times_turned

F32 = NDArray[np.float32]
U16 = NDArray[np.uint16]
I32 = NDArray[np.int32]

ROWS: Final = 128
"""Rows of a matrix that are multiplied at a time: products over another number of rows have other last bits."""


class Rounded(NamedTuple):
    """Room for factors of 16 bits; without rows in 32-bit products."""

    weight_HD: U16
    x_PRD: U16
    grad_PRH: U16


@inlined
def _of_part(rows: int, part: int, parts: int) -> slice:
    """A part's rows: as many times `ROWS` as every other's, or once more or less."""
    times = (rows + ROWS - 1) // ROWS
    return slice(ROWS * (times * part // parts), ROWS * (times * (part + 1) // parts))


@side_by_side
def layer(
    x: tuple[F32, int], weight_HD: F32, bias_H: F32, out_BH: F32, rounded: Rounded, room: tuple[I32, F32]
) -> None:
    """relu(x W^T + b) of the inputs that stand from a column on in a wider matrix."""
    x_BX, column = x
    parts, rows = len(room[0]), len(out_BH)
    _round(weight_HD, 0, rounded.weight_HD)
    for part in prange(parts):
        mine = _of_part(rows, part, parts)
        if len(rounded.weight_HD) == 0:
            _layer(x_BX[mine], column, weight_HD, bias_H, out_BH[mine], Room(room[0][part], room[1][part]))
        else:
            weights = rounded.weight_HD, bias_H
            own = rounded.x_PRD[part], Room(room[0][part], room[1][part])
            _layer16(x_BX[mine], column, weights, out_BH[mine], own)


@kernel
def _layer(x_BX: F32, column: int, weight_HD: F32, bias_H: F32, out_BH: F32, room: Room) -> None:
    alone()
    for start in range(0, len(out_BH), ROWS):
        rows = slice(start, start + ROWS)
        times_turned(sgemm, x_BX[rows, column : column + weight_HD.shape[1]], weight_HD, out_BH[rows], room)
        _activate(out_BH[rows], bias_H)


@kernel
def _layer16(x_BX: F32, column: int, weights: tuple[U16, F32], out_BH: F32, own: tuple[U16, Room]) -> None:
    alone()
    for start in range(0, len(out_BH), ROWS):
        rows = slice(start, start + ROWS)
        _round(x_BX[rows], column, own[0])
        times_turned(bgemm, own[0][: len(out_BH[rows])], weights[0], out_BH[rows], own[1])
        _activate(out_BH[rows], weights[1])


@side_by_side
def unlayer(
    grad: tuple[F32, F32],
    x: tuple[F32, int],
    weight_HD: F32,
    out: tuple[F32, F32, F32, int],
    rounded: Rounded,
    room: tuple[I32, F32],
) -> None:
    """Gradients of W and b, and of x from a column of a wider matrix on; none where that has no columns.

    `grad` is that of the layer's output, which is masked in place, and the output itself. With g the gradient where a
    unit was active: of W it is g^T x, of b the sum of g's rows, of x it is g W. Those of W and b are (P, H, D) and
    (P, H), zeros at first; their first part is the sum in the end.
    """
    grad_BH, active_BH = grad
    x_BX, column = x
    of_weight_PHD, of_bias_PH, of_x_BX, of_column = out
    parts, rows = len(room[0]), len(grad_BH)
    _round(weight_HD, 0, rounded.weight_HD)
    for part in prange(parts):
        mine = _of_part(rows, part, parts)
        own_out = of_weight_PHD[part], of_bias_PH[part], of_x_BX[mine], of_column
        own_grad, own_room = (grad_BH[mine], active_BH[mine]), Room(room[0][part], room[1][part])
        if len(rounded.weight_HD) == 0:
            _unlayer(own_grad, (x_BX[mine], column), weight_HD, own_out, own_room)
        else:
            own = rounded.weight_HD, rounded.x_PRD[part], rounded.grad_PRH[part], own_room
            _unlayer16(own_grad, (x_BX[mine], column), own_out, own)
    units = weight_HD.shape[0]
    for part in prange(parts):
        for h in range(units * part // parts, units * (part + 1) // parts):
            for other in range(1, parts):
                of_bias_PH[0, h] += of_bias_PH[other, h]
                sum_D, other_D = of_weight_PHD[0, h], of_weight_PHD[other, h]
                for d in range(len(sum_D)):
                    sum_D[d] += other_D[d]


@kernel
def _unlayer(
    grad: tuple[F32, F32], x: tuple[F32, int], weight_HD: F32, out: tuple[F32, F32, F32, int], room: Room
) -> None:
    of_weight_HD, of_bias_H, of_x_BX, of_column = out
    inputs = weight_HD.shape[1]
    wanted = min(inputs, of_x_BX.shape[1] - of_column)
    alone()
    for start in range(0, len(grad[0]), ROWS):
        rows = slice(start, start + ROWS)
        _mask(grad[0][rows], grad[1][rows], of_bias_H)
        add_turned_times(sgemm, grad[0][rows], x[0][rows, x[1] : x[1] + inputs], of_weight_HD, room)
        if wanted > 0:
            of_x_RX = of_x_BX[rows, of_column : of_column + wanted]
            times(sgemm, grad[0][rows], weight_HD[:, :wanted], of_x_RX, room)


@kernel
def _unlayer16(
    grad: tuple[F32, F32], x: tuple[F32, int], out: tuple[F32, F32, F32, int], own: tuple[U16, U16, U16, Room]
) -> None:
    of_weight_HD, of_bias_H, of_x_BX, of_column = out
    weight_HD, x_RD, grad_RH, room = own
    wanted = min(weight_HD.shape[1], of_x_BX.shape[1] - of_column)
    alone()
    for start in range(0, len(grad[0]), ROWS):
        rows = slice(start, start + ROWS)
        count = len(grad[0][rows])
        _mask(grad[0][rows], grad[1][rows], of_bias_H)
        _round(grad[0][rows], 0, grad_RH)
        _round(x[0][rows], x[1], x_RD)
        add_turned_times(bgemm, grad_RH[:count], x_RD[:count], of_weight_HD, room)
        if wanted > 0:
            of_x_RX = of_x_BX[rows, of_column : of_column + wanted]
            times(bgemm, grad_RH[:count], weight_HD[:, :wanted], of_x_RX, room)


@side_by_side
def logits(hidden: tuple[F32, int], weight_H: F32, bias: float, out_B: F32, parts: int) -> None:
    """h w + b of units from a column on."""
    hidden_BX, start = hidden
    rows = len(out_B)
    for part in prange(parts):
        mine = _of_part(rows, part, parts)
        _logits(hidden_BX[mine], start, weight_H, bias, out_B[mine])


@kernel
def _logits(hidden_BX: F32, start: int, weight_H: F32, bias: float, out_B: F32) -> None:
    """Eight sums side by side: one alone would wait for itself."""
    units = len(weight_H)
    whole = units // 8 * 8
    for b in range(len(hidden_BX)):
        hidden_H = hidden_BX[b, start : start + units]
        s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = np.float32(0.0)
        for h in range(0, whole, 8):
            s0 += hidden_H[h] * weight_H[h]
            s1 += hidden_H[h + 1] * weight_H[h + 1]
            s2 += hidden_H[h + 2] * weight_H[h + 2]
            s3 += hidden_H[h + 3] * weight_H[h + 3]
            s4 += hidden_H[h + 4] * weight_H[h + 4]
            s5 += hidden_H[h + 5] * weight_H[h + 5]
            s6 += hidden_H[h + 6] * weight_H[h + 6]
            s7 += hidden_H[h + 7] * weight_H[h + 7]
        for h in range(whole, units):
            s0 += hidden_H[h] * weight_H[h]
        out_B[b] = ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7)) + np.float32(bias)


@side_by_side
def unlogits(grad_B: F32, hidden: tuple[F32, int], weight_H: F32, out: tuple[F32, F32, F32]) -> None:
    """Gradients of h, and of w and b: (P, H) and (P, 1), zeros at first, to be summed over the parts."""
    hidden_BX, start = hidden
    of_weight_PH, of_bias_P1, of_hidden_BX = out
    rows, parts = len(grad_B), len(of_bias_P1)
    for part in prange(parts):
        mine = _of_part(rows, part, parts)
        own = of_weight_PH[part], of_bias_P1[part], of_hidden_BX[mine]
        _unlogits(grad_B[mine], hidden_BX[mine], start, weight_H, own)


@kernel
def _unlogits(grad_B: F32, hidden_BX: F32, start: int, weight_H: F32, out: tuple[F32, F32, F32]) -> None:
    of_weight_H, of_bias_1, of_hidden_BX = out
    units = len(weight_H)
    for b in range(len(grad_B)):
        hidden_H, of_hidden_H = hidden_BX[b, start : start + units], of_hidden_BX[b, start : start + units]
        grad = grad_B[b]
        of_bias_1[0] += grad
        for h in range(units):
            of_weight_H[h] += grad * hidden_H[h]
            of_hidden_H[h] = grad * weight_H[h]


@inlined
def _activate(out_RH: Any, bias_H: F32) -> None:
    zero = np.float32(0.0)
    for r in range(len(out_RH)):
        out_H = out_RH[r]
        for h in range(len(bias_H)):
            value = out_H[h] + bias_H[h]
            out_H[h] = value if value > zero else zero


@inlined
def _mask(grad_RH: Any, active_RH: Any, of_bias_H: F32) -> None:
    zero = np.float32(0.0)
    for r in range(len(grad_RH)):
        grad_H, active_H = grad_RH[r], active_RH[r]
        for h in range(len(of_bias_H)):
            grad = grad_H[h] if active_H[h] > zero else zero
            grad_H[h] = grad
            of_bias_H[h] += grad


@inlined
def _round(values_RX: Any, column: int, out_RD: U16) -> None:
    """As many rows and columns as there is room for to the nearest numbers of 16 bits, of two that are as near to the
    even one.
    """
    half, one, shift = np.uint32(0x7FFF), np.uint32(1), np.uint32(16)
    for r in range(min(len(values_RX), len(out_RD))):
        bits_D, out_D = values_RX[r, column : column + out_RD.shape[1]].view(np.uint32), out_RD[r]
        for d in range(len(out_D)):
            out_D[d] = np.uint16((bits_D[d] + half + ((bits_D[d] >> shift) & one)) >> shift)
