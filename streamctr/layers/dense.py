"""Towers of ReLU layers over one input, forward and backward, as kernels over parts of a batch, each for a core.

A few rows go through all layers before the next ones, so that what is read again is still near, and cores wait for each
other once. In bf16, products take their factors rounded to 16 bits and add up in 32; all else stays in 32 bits.

Layers are numbered: 0 is the first one, of all towers side by side; then by tower and depth. `outs` are their outputs.
Legend: B rows, R a few of them, D inputs, H units, X columns of a wider matrix, P parts, S towers, Q parts of a batch,
N parameters.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numba import prange
from numpy.typing import NDArray

from streamctr.cores import Turns, done, piece, side_by_side, turn
from streamctr.finite import exponents
from streamctr.kernel import inlined, kernel
from streamctr.layers.blas import Room, add_turned_times, alone, bgemm, sgemm, times, times_turned

F32 = NDArray[np.float32]
U16 = NDArray[np.uint16]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Layers = tuple[F32, ...]
"""An array of each layer, or of each tower."""

ROWS: Final = 128
"""Rows of a matrix that are multiplied at a time: products over another number of rows have other last bits."""


_LEAST: Final = np.float32(2.0**-80)
"""What is smaller teaches nothing, but makes denormal numbers: with these, products take ten times as long."""


class Net(NamedTuple):
    """What is multiplied: by layer weights (H, D) and biases (H,), by tower the last weights (H,) and biases (1,)."""

    weights: Layers
    biases: Layers
    last: Layers
    bias: Layers


class Scratch(NamedTuple):
    """Room of a part for a few rows, each as wide as the widest layer: factors of 16 bits, and gradients."""

    x_RX: U16
    grad_RX: U16
    of_first_RX: F32
    of_upper_RX: F32
    of_lower_RX: F32


@side_by_side
def forward(
    turns: Turns,
    x_BX: F32,
    net: tuple[Layers, Layers, Layers, Layers],
    out: tuple[Layers, F32],
    rounded: tuple[U16, ...],
    own: tuple[U16, U16, F32, F32, F32, I32, F32],
) -> None:
    """Outputs of all layers, and logits (B, S), of inputs that are the first columns of a wider matrix.

    `rounded` are the weights in 16 bits, without rows where products take 32; `own` is room for each worker.
    """
    weights, biases, last, bias = net
    outs, logits_BS = out
    x_PRX, grad_PRX, first_PRX, upper_PRX, lower_PRX, sizes_P6, factors_P2 = own
    rows = len(x_BX)
    parts = (rows + ROWS - 1) // ROWS
    for worker in prange(min(turns.workers, len(sizes_P6))):
        mine = Scratch(x_PRX[worker], grad_PRX[worker], first_PRX[worker], upper_PRX[worker], lower_PRX[worker])
        layers, room = Net(weights, biases, last, bias), Room(sizes_P6[worker], factors_P2[worker])
        part = turn(turns, parts)
        while part < parts:
            begin, end = part * ROWS, min(rows, (part + 1) * ROWS)
            _forward((x_BX, begin, end), layers, (outs, logits_BS), rounded, mine, room)
            part = turn(turns, parts)


@kernel
def _forward(
    x: tuple[F32, int, int], net: Net, out: tuple[Layers, F32], rounded: tuple[U16, ...], own: Scratch, room: Room
) -> None:
    x_BX, begin, end = x
    outs, logits_BS = out
    towers = len(net.last)
    deeper, width = (len(net.weights) - 1) // towers, net.weights[0].shape[0] // towers
    alone()
    for start in range(begin, end, ROWS):
        stop = min(start + ROWS, end)
        _product((x_BX[start:stop], 0), (net.weights[0], rounded[0]), outs[0][start:stop], own, room)
        _activate(outs[0][start:stop], net.biases[0])
        for tower in range(towers):
            below, column = outs[0], tower * width
            for place in range(1 + tower * deeper, 1 + (tower + 1) * deeper):
                here_RH = outs[place][start:stop]
                weight = net.weights[place], rounded[place]
                _product((below[start:stop], column), weight, here_RH, own, room)
                _activate(here_RH, net.biases[place])
                below, column = outs[place], 0
            last_H = net.last[tower]
            for b in range(start, stop):
                logits_BS[b, tower] = _dot(below[b, column : column + len(last_H)], last_H) + net.bias[tower][0]


@side_by_side
def backward(
    turns: Turns,
    x: tuple[F32, F32],
    net: tuple[Layers, Layers, tuple[U16, ...]],
    outs: Layers,
    into: tuple[I64, F32, I32, F32],
    own: tuple[U16, U16, F32, F32, F32, I32, F32],
) -> None:
    """Gradients of all that `forward` read, from those of the logits, (B, S), beside the input in `x`.

    `net` are weights, last weights, and weights in 16 bits. `into` says where weights, biases, last weights and last
    biases stand in a row of gradients, and where all end; has those rows, one for each part, to which theirs are added,
    with how large they are; and room for the gradients of the input, of its first columns. With g the gradient where a
    unit was active: of W it is g^T x, of b the sum of g's rows, of x it is g W.
    """
    x_BX, grad_BS = x
    weights, last, rounded = net
    starts, grads_QN, largest_Q16, of_x_BX = into
    x_PRX, grad_PRX, first_PRX, upper_PRX, lower_PRX, sizes_P6, factors_P2 = own
    parts, rows = len(grads_QN), len(x_BX)
    for _ in prange(turns.workers):
        part, place = piece(turns, parts)
        while part < parts:
            mine = Scratch(x_PRX[part], grad_PRX[part], first_PRX[part], upper_PRX[part], lower_PRX[part])
            begin, end = _of_part(rows, part, parts)
            start, stop = begin + place * ROWS, min(end, begin + (place + 1) * ROWS)
            if start < stop:
                given, room = (x_BX, grad_BS, outs, of_x_BX, start, stop), Room(sizes_P6[part], factors_P2[part])
                _backward(given, (weights, last), (starts, grads_QN[part]), rounded, mine, room)
                if stop == end:
                    exponents(grads_QN[part, starts[0] : starts[-1]].view(np.int32), largest_Q16[part])
            done(turns, part, stop >= end)
            part, place = piece(turns, parts)


@kernel
def _backward(
    given: tuple[F32, F32, Layers, F32, int, int],
    net: tuple[Layers, Layers],
    sums: tuple[I64, F32],
    rounded: tuple[U16, ...],
    own: Scratch,
    room: Room,
) -> None:
    x_BX, grad_BS, outs, of_x_BX, start, stop = given
    weights, last = net
    starts, sums_N = sums
    towers, layers = len(last), len(weights)
    of_biases, of_last, of_bias = starts[layers:], starts[2 * layers :], starts[2 * layers + towers :]
    deeper, width = (layers - 1) // towers, weights[0].shape[0] // towers
    alone()
    for tower in range(towers):
        # gradients of a layer's output, from the top of the tower down, and where they stand
        here, column = own.of_upper_RX if deeper > 0 else own.of_first_RX, 0 if deeper > 0 else tower * width
        top, spare = outs[(tower + 1) * deeper], own.of_lower_RX
        heads = sums_N[of_last[tower] : of_last[tower] + len(last[tower])], sums_N[of_bias[tower] :]
        _unlogits((grad_BS[start:stop], tower), (top[start:stop], column), last[tower], heads, (here, column))
        for place in range((tower + 1) * deeper, tower * deeper, -1):
            lowest = place == tower * deeper + 1
            below, left = outs[0 if lowest else place - 1], tower * width if lowest else 0
            under = own.of_first_RX if lowest else spare
            units, inputs = weights[place].shape
            _mask(here, outs[place][start:stop], sums_N[of_biases[place] : of_biases[place] + units])
            grad = here[: stop - start, :units], below[start:stop], left
            under_RX = under[: stop - start, left : left + inputs]
            _unproduct(grad, (weights[place], rounded[place]), sums_N[starts[place] :], under_RX, own, room)
            here, spare = spare, here
    units = len(weights[0])
    _mask(own.of_first_RX, outs[0][start:stop], sums_N[of_biases[0] : of_biases[0] + units])
    grad = own.of_first_RX[: stop - start, :units], x_BX[start:stop], 0
    _unproduct(grad, (weights[0], rounded[0]), sums_N[starts[0] :], of_x_BX[start:stop, :], own, room)


@kernel
def round_weights(weight_HD: F32, out_HD: U16) -> None:
    """To 16 bits."""
    _round(weight_HD, 0, out_HD, out_HD.shape[1])


@inlined
def _of_part(rows: int, part: int, parts: int) -> tuple[int, int]:
    """A part's rows: as many times `ROWS` as every other's, or once more or less."""
    times_all = (rows + ROWS - 1) // ROWS
    return ROWS * (times_all * part // parts), min(rows, ROWS * (times_all * (part + 1) // parts))


@inlined
def _product(x: tuple[Any, int], weight: tuple[F32, U16], out_RH: F32, own: Scratch, room: Room) -> None:
    """x W^T of the inputs that stand from a column on."""
    x_RX, column = x
    weight_HD, weight16_HD = weight
    inputs = weight_HD.shape[1]
    if len(weight16_HD) == 0:
        times_turned(sgemm, x_RX[:, column : column + inputs], weight_HD, out_RH, room)
    else:
        _round(x_RX, column, own.x_RX, inputs)
        times_turned(bgemm, own.x_RX[: len(x_RX), :inputs], weight16_HD, out_RH, room)


@inlined
def _unproduct(
    grad: tuple[Any, Any, int], weight: tuple[F32, U16], sums_N: F32, of_x_RX: Any, own: Scratch, room: Room
) -> None:
    """Adds g^T x to the first of the sums, and writes g W for as many columns as there is room for."""
    grad_RH, x_RX, column = grad
    weight_HD, weight16_HD = weight
    units, inputs = weight_HD.shape
    of_weight_HD = sums_N[: units * inputs].reshape(units, inputs)
    wanted = min(inputs, of_x_RX.shape[1])
    if len(weight16_HD) == 0:
        add_turned_times(sgemm, grad_RH, x_RX[:, column : column + inputs], of_weight_HD, room)
        if wanted > 0:
            times(sgemm, grad_RH, weight_HD[:, :wanted], of_x_RX[:, :wanted], room)
    else:
        rows = len(x_RX)
        _round(grad_RH, 0, own.grad_RX, units)
        _round(x_RX, column, own.x_RX, inputs)
        add_turned_times(bgemm, own.grad_RX[:rows, :units], own.x_RX[:rows, :inputs], of_weight_HD, room)
        if wanted > 0:
            times(bgemm, own.grad_RX[:rows, :units], weight16_HD[:, :wanted], of_x_RX[:, :wanted], room)


@inlined
def _unlogits(
    given: tuple[F32, int], hidden: tuple[Any, int], last_H: F32, of_heads: tuple[F32, F32], of_hidden: tuple[F32, int]
) -> None:
    """Gradients of w and b of h w + b, added, and of h; `given` are those of all logits, and which one it is."""
    of_last_H, of_bias_1 = of_heads
    units = len(last_H)
    for r in range(len(given[0])):
        grad, hidden_H = given[0][r, given[1]], hidden[0][r, hidden[1] : hidden[1] + units]
        of_hidden_H = of_hidden[0][r, of_hidden[1] : of_hidden[1] + units]
        grad = np.float32(0.0) if abs(grad) < _LEAST else grad  # what is no number stays so, and is noticed
        of_bias_1[0] += grad
        for h in range(units):
            of_last_H[h] += grad * hidden_H[h]
            of_hidden_H[h] = grad * last_H[h]


@inlined
def _activate(out_RH: Any, bias_H: F32) -> None:
    zero = np.float32(0.0)
    for r in range(len(out_RH)):
        out_H = out_RH[r]
        for h in range(len(bias_H)):
            value = out_H[h] + bias_H[h]
            out_H[h] = value if value > zero else zero


@inlined
def _mask(grad_RX: Any, active_RH: Any, of_bias_H: F32) -> None:
    """The gradient where a unit was active, 0 elsewhere; adds up its rows."""
    zero = np.float32(0.0)
    for r in range(len(active_RH)):
        active_H = active_RH[r]
        grad_H = grad_RX[r, : len(active_H)]
        for h in range(len(of_bias_H)):
            grad = grad_H[h] if active_H[h] > zero else zero
            grad_H[h] = grad
            of_bias_H[h] += grad


@inlined
def _dot(left_H: Any, right_H: F32) -> Any:
    """Eight sums side by side: one alone would wait for itself."""
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = np.float32(0.0)
    units = len(right_H)
    whole = units // 8 * 8
    for h in range(0, whole, 8):
        s0 += left_H[h] * right_H[h]
        s1 += left_H[h + 1] * right_H[h + 1]
        s2 += left_H[h + 2] * right_H[h + 2]
        s3 += left_H[h + 3] * right_H[h + 3]
        s4 += left_H[h + 4] * right_H[h + 4]
        s5 += left_H[h + 5] * right_H[h + 5]
        s6 += left_H[h + 6] * right_H[h + 6]
        s7 += left_H[h + 7] * right_H[h + 7]
    for h in range(whole, units):
        s0 += left_H[h] * right_H[h]
    return ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7))


@inlined
def _round(values_RX: Any, column: int, out_RX: U16, columns: int) -> None:
    """So many columns from one on to the nearest numbers of 16 bits, of two that are as near to the even one."""
    half, one, shift = np.uint32(0x7FFF), np.uint32(1), np.uint32(16)
    for r in range(len(values_RX)):
        bits_D, out_D = values_RX[r, column : column + columns].view(np.uint32), out_RX[r, :columns]
        for d in range(columns):
            out_D[d] = np.uint16((bits_D[d] + half + ((bits_D[d] >> shift) & one)) >> shift)
