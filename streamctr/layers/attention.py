"""Attention over a history, with a backward of its own.

Legend: B rows, P behaviours of all rows, R a few of them, C columns, W width, D = C W, H hidden units, X = 2 D,
Q parts.
"""

from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numba import prange
from numpy.typing import NDArray
from torch import Tensor, nn

from streamctr.kernel import inlined, kernel, side_by_side
from streamctr.layers.blas import HAS_FP32, Room, add_turned_times, alone, sgemm, times, times_turned

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

HIDDEN: Final = 36
"""Hidden units of the activation unit, as in the paper's figure 2."""
ROWS: Final = 256
"""Behaviours that are multiplied at a time, zeros behind the last: over fewer, a product has other last bits."""


class Attention(nn.Module):
    """DIN's activation unit (Zhou et al., KDD 2018, section 4.3, eq. 3): behaviours weighed by the root, and summed.

    v(root) = sum_t a(q, k_t) k_t, with q the root's own numbers of the fields that a behaviour k_t consists of, and a
    a small network over [q, k, q - k, q * k]. The weights are not normalised: how much there is of what the root is
    about counts too. The hidden units are PReLU, which the paper has beside Dice: Dice standardises by the batch, and a
    score may not depend on its neighbours. The network starts near 1 / T: at the mean of a full history.
    """

    def __init__(self, inputs: int, steps: int, generator: torch.Generator) -> None:
        """Start as He et al. (2015), eq. 15, has it for PReLU with slopes of .25, for D inputs and at most T steps."""
        super().__init__()
        self.parts = 1
        """In how many parts a batch goes through, each for a core of its own."""
        self.first = nn.Parameter(torch.empty(HIDDEN, 4 * inputs))
        self.first_bias = nn.Parameter(torch.zeros(HIDDEN))
        self.slope = nn.Parameter(torch.full((HIDDEN,), 0.25))
        self.last = nn.Parameter(torch.empty(1, HIDDEN))
        self.bias = nn.Parameter(torch.full((1,), 1.0 / steps))
        nn.init.kaiming_normal_(self.first, a=0.25, generator=generator)
        nn.init.xavier_normal_(self.last, generator=generator)

    def forward(self, keys_PD: Tensor, length_B: Tensor, root_BD: Tensor) -> Tensor:
        """One vector a row, (B, D), zeros for an empty history.

        `keys_PD` are the behaviours of the first row, then those of the second; row b has `length_B[b]` of them.

        W [q, k, q - k, q * k] = (W_q + W_d) q + (W_k - W_d) k + W_p (q * k): nothing of width 4 D is built.
        """
        of_root, of_key, of_difference, of_product = self.first.chunk(4, dim=1)
        hidden_BH = nn.functional.linear(root_BD, of_root + of_difference, self.first_bias)
        matrix_HX = torch.cat((of_key - of_difference, of_product), dim=1)
        unit = matrix_HX, self.slope, self.last, self.bias
        if not HAS_FP32:
            return plain(keys_PD, length_B, root_BD, hidden_BH, unit)
        pooled_BD: Tensor = _Weighed.apply(self.parts, keys_PD, length_B, root_BD, hidden_BH, *unit)
        return pooled_BD


def plain(
    keys_PD: Tensor, length_B: Tensor, root_BD: Tensor, hidden_BH: Tensor, unit: tuple[Tensor, Tensor, Tensor, Tensor]
) -> Tensor:
    """What `_Weighed` does, op by op, for torches whose BLAS cannot be called from kernels."""
    matrix_HX, slope_H, last_1H, bias_1 = unit
    row_P = torch.repeat_interleave(torch.arange(len(root_BD)), length_B.long())
    pairs_PX = torch.cat((keys_PD, keys_PD * root_BD.index_select(0, row_P)), dim=1)
    active_PH = nn.functional.prelu(pairs_PX @ matrix_HX.T + hidden_BH.index_select(0, row_P), slope_H)
    weights_P1 = nn.functional.linear(active_PH, last_1H, bias_1)
    return torch.zeros_like(root_BD).index_add(0, row_P, weights_P1 * keys_PD)


class Behaviours(NamedTuple):
    """The behaviours of all rows, and where those of each row begin and end."""

    keys_PD: F32
    begin_B: I64
    root_BD: F32


class Unit(NamedTuple):
    """The activation unit."""

    matrix_HX: F32
    slope_H: F32
    last_H: F32
    bias_1: F32


class _Weighed(torch.autograd.Function):
    """sum_t a_t k_t with a_t = last . prelu(h_b + M [k_t, q_b * k_t]) + bias, over the behaviours that there are."""

    @staticmethod
    def forward(ctx: Any, parts: int, *tensors: Tensor) -> Tensor:
        keys_PD, length_B, root_BD, hidden_BH, matrix_HX, slope_H, last_1H, bias_1 = (
            t.detach().numpy() for t in tensors
        )
        begin_B = np.zeros(len(length_B) + 1, np.int64)
        np.cumsum(length_B, out=begin_B[1:])
        behaviours = Behaviours(keys_PD, begin_B, np.ascontiguousarray(root_BD))
        unit = Unit(np.ascontiguousarray(matrix_HX), slope_H, last_1H[0], bias_1)
        hidden_PH = np.empty((len(keys_PD), HIDDEN), np.float32)
        weights_P, pooled_BD = np.empty(len(keys_PD), np.float32), np.zeros(root_BD.shape, np.float32)
        out = hidden_PH, weights_P, pooled_BD
        weigh(behaviours, hidden_BH, unit, out, _room(parts, matrix_HX.shape[1]))
        if any(ctx.needs_input_grad):
            ctx.kept = parts, behaviours, unit, hidden_PH, weights_P
        return torch.from_numpy(pooled_BD)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        parts, behaviours, unit, hidden_PH, weights_P = ctx.kept
        of_rows = [np.zeros((len(behaviours.root_BD), columns), np.float32) for columns in (grads[0].shape[1], HIDDEN)]
        of_keys_PD = np.empty_like(behaviours.keys_PD)
        of_matrix_QHX = np.zeros((parts, *unit.matrix_HX.shape), np.float32)
        of_unit_QHX = np.zeros((parts, 3, HIDDEN), np.float32)  # slope, last, and bias in its first column
        known = hidden_PH, weights_P, np.ascontiguousarray(grads[0].numpy())
        out = of_keys_PD, *of_rows, of_matrix_QHX, of_unit_QHX
        unweigh(behaviours, unit, known, out, _room(parts, unit.matrix_HX.shape[1]))
        of_matrix, (of_slope, of_last, of_bias) = of_matrix_QHX.sum(axis=0), of_unit_QHX.sum(axis=0)
        found = of_keys_PD, None, *of_rows, of_matrix, of_slope, of_last[None], of_bias[:1]
        return (None, *(None if of is None else torch.from_numpy(of) for of in found))


def _room(parts: int, inputs: int) -> tuple[NDArray[np.int32], F32, F32, F32]:
    """For products, and for a few rows of what goes in and comes out."""
    few = parts, ROWS
    rows = np.empty((*few, inputs), np.float32), np.empty((*few, HIDDEN), np.float32)
    return np.empty((parts, 6), np.int32), np.ones((parts, 2), np.float32), *rows


@side_by_side
def weigh(
    behaviours: Behaviours,
    hidden_BH: F32,
    unit: Unit,
    out: tuple[F32, F32, F32],
    room: tuple[I32, F32, F32, F32],
) -> None:
    """Hidden units and weight of every behaviour, and the weighted sum of those of each row."""
    parts, rows = len(room[0]), len(hidden_BH)
    for part in prange(parts):
        span = rows * part // parts, rows * (part + 1) // parts
        own = room[2][part], room[3][part], Room(room[0][part], room[1][part])
        _weigh(behaviours, hidden_BH, unit, out, span, own)


@kernel
def _weigh(
    behaviours: Behaviours,
    hidden_BH: F32,
    unit: Unit,
    out: tuple[F32, F32, F32],
    span: tuple[int, int],
    own: tuple[F32, F32, Room],
) -> None:
    keys_PD, begin_B, _ = behaviours
    matrix_HX, slope_H, last_H, bias_1 = unit
    hidden_PH, weights_P, pooled_BD = out
    pairs_RX, product_RH, room = own
    zero, end = np.float32(0.0), begin_B[span[1]]
    alone()
    b = span[0]
    for first in range(begin_B[span[0]], end, ROWS):
        count = min(ROWS, end - first)
        _pair(behaviours, first, count, b, pairs_RX)
        times_turned(sgemm, pairs_RX, matrix_HX, product_RH, room)
        for r in range(count):
            p = first + r
            while begin_B[b + 1] <= p:
                b += 1
            hidden_H, of_row_H, active_H = hidden_PH[p], hidden_BH[b], product_RH[r]
            for h in range(len(slope_H)):
                value = active_H[h] + of_row_H[h]
                hidden_H[h] = value
                active_H[h] = value if value > zero else value * slope_H[h]
            weight = _dot(active_H, last_H) + bias_1[0]
            weights_P[p] = weight
            pooled_D, key_D = pooled_BD[b], keys_PD[p]
            for d in range(len(key_D)):
                pooled_D[d] += weight * key_D[d]


@side_by_side
def unweigh(
    behaviours: Behaviours,
    unit: Unit,
    known: tuple[F32, F32, F32],
    out: tuple[F32, F32, F32, F32, F32],
    room: tuple[I32, F32, F32, F32],
) -> None:
    """Gradients of behaviours, rows and the root's part of the units; of matrix and unit, to be summed over parts.

    `known` are the hidden units and weights of the behaviours, and the gradient of the weighted sums.
    """
    parts, rows = len(room[0]), len(known[2])
    for part in prange(parts):
        span = rows * part // parts, rows * (part + 1) // parts
        own_out = out[0], out[1], out[2], out[3][part], out[4][part]
        own = room[2][part], room[3][part], Room(room[0][part], room[1][part])
        _unweigh(behaviours, unit, known, own_out, span, own)


@kernel
def _unweigh(
    behaviours: Behaviours,
    unit: Unit,
    known: tuple[F32, F32, F32],
    out: tuple[F32, F32, F32, F32, F32],
    span: tuple[int, int],
    own: tuple[F32, F32, Room],
) -> None:
    keys_PD, begin_B, root_BD = behaviours
    hidden_PH, weights_P, grad_BD = known
    of_keys_PD, of_root_BD, of_hidden_BH, of_matrix_HX, of_unit_3H = out
    pairs_RX, of_product_RH, room = own
    end, width = begin_B[span[1]], keys_PD.shape[1]
    alone()
    b = after = span[0]
    for first in range(begin_B[span[0]], end, ROWS):
        count = min(ROWS, end - first)
        _pair(behaviours, first, count, b, pairs_RX)
        for r in range(count):
            p = first + r
            while begin_B[b + 1] <= p:
                b += 1
            _unit_gradients(hidden_PH[p], unit, _dot(grad_BD[b], keys_PD[p]), of_unit_3H, of_product_RH[r])
            of_hidden_H, of_product_H = of_hidden_BH[b], of_product_RH[r]
            for h in range(len(of_hidden_H)):
                of_hidden_H[h] += of_product_H[h]
        of_product_RH[count:] = np.float32(0.0)
        add_turned_times(sgemm, of_product_RH, pairs_RX, of_matrix_HX, room)
        times(sgemm, of_product_RH, unit.matrix_HX, pairs_RX, room)  # the pairs are not needed any more
        for r in range(count):
            p = first + r
            while begin_B[after + 1] <= p:
                after += 1
            of_key_D, of_root_D, key_D, root_D = of_keys_PD[p], of_root_BD[after], keys_PD[p], root_BD[after]
            grad_D, weight = grad_BD[after], weights_P[p]
            of_key, of_product = pairs_RX[r, :width], pairs_RX[r, width:]
            for d in range(width):
                of_key_D[d] = weight * grad_D[d] + of_key[d] + of_product[d] * root_D[d]
                of_root_D[d] += of_product[d] * key_D[d]


@inlined
def _unit_gradients(hidden_H: F32, unit: Unit, grad: Any, of_unit_3H: F32, of_product_H: F32) -> None:
    """Of a behaviour's weight: to slope, last and bias, and to its hidden units."""
    zero = np.float32(0.0)
    of_slope_H, of_last_H = of_unit_3H[0], of_unit_3H[1]
    of_unit_3H[2, 0] += grad
    for h in range(len(hidden_H)):
        value, slope, of_active = hidden_H[h], unit.slope_H[h], grad * unit.last_H[h]
        below = value if value < zero else zero
        of_last_H[h] += grad * ((value - below) + below * slope)
        of_slope_H[h] += of_active * below
        of_product_H[h] = of_active if value > zero else of_active * slope


@inlined
def _pair(behaviours: Behaviours, first: int, count: int, row: int, pairs_RX: F32) -> None:
    """[k, q * k] of a few behaviours, zeros behind them; `row` is that of the first, or one before it."""
    keys_PD, begin_B, root_BD = behaviours
    width = keys_PD.shape[1]
    for r in range(count):
        while begin_B[row + 1] <= first + r:
            row += 1
        key_D, root_D = keys_PD[first + r], root_BD[row]
        of_key, of_product = pairs_RX[r, :width], pairs_RX[r, width:]
        for d in range(width):
            of_key[d] = key_D[d]
            of_product[d] = key_D[d] * root_D[d]
    pairs_RX[count:] = np.float32(0.0)


@inlined
def _dot(left_X: F32, right_X: F32) -> Any:
    """Four sums side by side: one alone would wait for itself."""
    s0 = s1 = s2 = s3 = np.float32(0.0)
    whole = len(left_X) // 4 * 4
    for x in range(0, whole, 4):
        s0 += left_X[x] * right_X[x]
        s1 += left_X[x + 1] * right_X[x + 1]
        s2 += left_X[x + 2] * right_X[x + 2]
        s3 += left_X[x + 3] * right_X[x + 3]
    for x in range(whole, len(left_X)):
        s0 += left_X[x] * right_X[x]
    return (s0 + s1) + (s2 + s3)
