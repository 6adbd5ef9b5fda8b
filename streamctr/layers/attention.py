"""Attention over a history, with a backward of its own.

Legend: B rows, P behaviours of all rows, R a few of them, C columns, W width, D = C W, H hidden units, X = 2 D,
Q parts, N numbers of a part's row of gradients.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numba import prange
from numpy.typing import NDArray
from torch import Tensor, nn

from streamctr.cores import Turns, done, piece, side_by_side, turn
from streamctr.finite import exponents
from streamctr.kernel import any_order, inlined, kernel
from streamctr.layers.blas import HAS_FP32, Room, add_turned_times, alone, sgemm, times, times_turned
from streamctr.layers.sums import Sums, SumsGradients
from streamctr.layers.tape import applied
from streamctr.layers.wide import in_rows

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

HIDDEN: Final = 36
"""Hidden units of the activation unit, as in the paper's figure 2."""
LANES: Final = 40
"""Units as kernels have them, zeros behind the last: whole registers."""
ROWS: Final = 256
"""Behaviours that are multiplied at a time, zeros behind the last: over fewer, a product has other last bits."""
AT_ONCE: Final = 128
"""Rows of a batch that a core weighs at a time."""


class Attention(SumsGradients):
    """DIN's activation unit (Zhou et al., KDD 2018, section 4.3, eq. 3): behaviours weighed by the root, and summed.

    v(root) = sum_t a(q, k_t) k_t, with q the root's own numbers of the fields that a behaviour k_t consists of, and a
    a small network over [q, k, q - k, q * k]. The weights are not normalised: how much there is of what the root is
    about counts too. The hidden units are PReLU, which the paper has beside Dice: Dice standardises by the batch, and a
    score may not depend on its neighbours. The network starts near 1 / T: at the mean of a full history.
    """

    def __init__(self, inputs: int, steps: int, generator: torch.Generator) -> None:
        """Start as He et al. (2015), eq. 15, has it for PReLU with slopes of .25, for D inputs and at most T steps."""
        super().__init__()
        self.first = nn.Parameter(torch.empty(HIDDEN, 4 * inputs))
        self.first_bias = nn.Parameter(torch.zeros(HIDDEN))
        self.slope = nn.Parameter(torch.full((HIDDEN,), 0.25))
        self.last = nn.Parameter(torch.empty(1, HIDDEN))
        self.bias = nn.Parameter(torch.full((1,), 1.0 / steps))
        nn.init.kaiming_normal_(self.first, a=0.25, generator=generator)
        nn.init.xavier_normal_(self.last, generator=generator)

    def forward(self, keys_PD: Tensor, length_B: Tensor, root_BD: Tensor, room_BD: Tensor | None = None) -> Tensor:
        """One vector a row, (B, D), zeros for an empty history; where there is `room_BD`, written there.

        `keys_PD` are the behaviours of the first row, then those of the second; row b has `length_B[b]` of them.

        W [q, k, q - k, q * k] = (W_q + W_d) q + (W_k - W_d) k + W_p (q * k): nothing of width 4 D is built.
        """
        if not HAS_FP32:
            return self.plain(keys_PD, length_B, root_BD)
        work = self.kept(lambda sums: _Work(self, sums))
        room_BD = torch.empty_like(root_BD) if room_BD is None else room_BD
        return applied(_Call(work, length_B, room_BD), (keys_PD, root_BD), self)

    def plain(self, keys_PD: Tensor, length_B: Tensor, root_BD: Tensor) -> Tensor:
        """The same op by op, for torches whose BLAS cannot be called from kernels."""
        of_root, of_key, of_difference, of_product = self.first.chunk(4, dim=1)
        hidden_BH = nn.functional.linear(root_BD, of_root + of_difference, self.first_bias)
        matrix_HX = torch.cat((of_key - of_difference, of_product), dim=1)
        row_P = torch.repeat_interleave(torch.arange(len(root_BD)), length_B.long())
        pairs_PX = torch.cat((keys_PD, keys_PD * root_BD.index_select(0, row_P)), dim=1)
        active_PH = nn.functional.prelu(pairs_PX @ matrix_HX.T + hidden_BH.index_select(0, row_P), self.slope)
        weights_P1 = nn.functional.linear(active_PH, self.last, self.bias)
        return torch.zeros_like(root_BD).index_add(0, row_P, weights_P1 * keys_PD)


class Behaviours(NamedTuple):
    """The behaviours of all rows, where those of each row begin and end, and the roots."""

    keys_PD: F32
    begin_B: I64
    root_BD: F32


class Unit(NamedTuple):
    """The activation unit, with zeros behind its hidden units."""

    root_HD: F32
    """W_q + W_d."""
    pair_HX: F32
    """W_k - W_d and W_p, side by side."""
    first_bias_H: F32
    slope_H: F32
    last_H: F32
    bias_1: F32


class Parameters(NamedTuple):
    """What they are made of, as they are learned."""

    first_HX: F32
    first_bias_H: F32
    slope_H: F32
    last_1H: F32
    bias_1: F32


class Own(NamedTuple):
    """Room of a part: for the pairs and units of a few behaviours, the units of a few rows, and what a product is told.

    Gradients of parameters stand behind it.
    """

    pairs_RX: F32
    units_RH: F32
    of_rows_RH: F32
    sizes_6: I32
    factors_2: F32
    of_root_HD: F32
    of_pair_HX: F32
    of_unit_4H: F32
    """Of first bias, slope and last, and of bias in the last row's first place."""


class _Work:
    """What the kernels are given of a layer, and room for each part."""

    def __init__(self, layer: Attention, sums: Sums) -> None:
        self.parameters = Parameters(*(p.detach().numpy() for p in layer.parameters()))
        self.sums, self.starts = sums, np.array(sums.starts(self.parameters))
        inputs, parts = self.parameters.first_HX.shape[1] // 4, layer.parts
        shapes = (LANES, inputs), (LANES, 2 * inputs), (LANES,), (LANES,), (LANES,)
        root, pair, first_bias, slope, last = (np.zeros(shape, np.float32) for shape in shapes)
        self.unit = Unit(root, pair, first_bias, slope, last, self.parameters.bias_1)
        few = (ROWS, 2 * inputs), (ROWS, LANES), (AT_ONCE, LANES), *shapes[:2], (4, LANES)
        pairs, units, of_rows, *grads = (np.empty((parts, *shape), np.float32) for shape in few)
        self.own = Own(pairs, units, of_rows, np.empty((parts, 6), np.int32), np.ones((parts, 2), np.float32), *grads)


class _Call:
    """sum_t a_t k_t with a_t = last . prelu(h_b + M [k_t, q_b * k_t]) + bias, over the behaviours that there are."""

    def __init__(self, work: _Work, length_B: Tensor, room_BD: Tensor) -> None:
        self._work, self._length_B, self._room_BD, self.sums = work, length_B, room_BD, work.sums

    def forward(self, *inputs: Tensor) -> Tensor:
        keys_PD, root_BD = (tensor.detach().numpy() for tensor in inputs)
        begin_B = np.zeros(len(self._length_B) + 1, np.int64)
        np.cumsum(self._length_B.numpy(), out=begin_B[1:])
        behaviours = Behaviours(keys_PD, begin_B, np.ascontiguousarray(root_BD))
        hidden_PH, weights_P = np.empty((len(keys_PD), LANES), np.float32), np.empty(len(keys_PD), np.float32)
        factor(self._work.parameters, self._work.unit)
        weigh(behaviours, self._work.unit, (hidden_PH, weights_P, *in_rows(self._room_BD)), self._work.own)
        self._behaviours, self._known = behaviours, (hidden_PH, weights_P)
        return self._room_BD.detach()

    def backward(self, grad: Tensor, wanted: Sequence[bool]) -> list[Tensor | None]:
        work, behaviours = self._work, self._behaviours
        of_keys_PD, of_root_BD = np.empty_like(behaviours.keys_PD), np.empty_like(behaviours.root_BD)
        into = of_keys_PD, of_root_BD, work.starts, *work.sums[:2]
        unweigh(behaviours, work.unit, (*self._known, *in_rows(grad)), into, work.own)
        return [torch.from_numpy(of_keys_PD), torch.from_numpy(of_root_BD)]


@kernel
def factor(parameters: Parameters, unit: Unit) -> None:
    """The matrices of the root and of the pairs, and the rest as it is."""
    first_HX, width = parameters.first_HX, unit.root_HD.shape[1]
    for h in range(len(first_HX)):
        for d in range(width):
            of_root, of_key, of_difference = first_HX[h, d], first_HX[h, width + d], first_HX[h, 2 * width + d]
            unit.root_HD[h, d] = of_root + of_difference
            unit.pair_HX[h, d] = of_key - of_difference
            unit.pair_HX[h, width + d] = first_HX[h, 3 * width + d]
        unit.first_bias_H[h], unit.slope_H[h] = parameters.first_bias_H[h], parameters.slope_H[h]
        unit.last_H[h] = parameters.last_1H[0, h]


@side_by_side
def weigh(turns: Turns, behaviours: Behaviours, unit: Unit, out: tuple[F32, F32, F32, int], room: Own) -> None:
    """Hidden units and weight of every behaviour, and the weighted sum of those of each row, from a column on."""
    rows = len(behaviours.root_BD)
    parts = (rows + AT_ONCE - 1) // AT_ONCE
    for worker in prange(min(turns.workers, len(room.sizes_6))):
        own = _own(room, worker)
        part = turn(turns, parts)
        while part < parts:
            _weigh(behaviours, unit, out, (part * AT_ONCE, min(rows, (part + 1) * AT_ONCE)), own)
            part = turn(turns, parts)


@inlined
def _own(room: Own, part: int) -> Own:
    pairs_RX, units_RH, of_rows_RH = room.pairs_RX[part], room.units_RH[part], room.of_rows_RH[part]
    sums = room.of_root_HD[part], room.of_pair_HX[part], room.of_unit_4H[part]
    return Own(pairs_RX, units_RH, of_rows_RH, room.sizes_6[part], room.factors_2[part], *sums)


@kernel
def _weigh(behaviours: Behaviours, unit: Unit, out: tuple[F32, F32, F32, int], span: tuple[int, int], own: Own) -> None:
    keys_PD, begin_B, root_BD = behaviours
    hidden_PH, weights_P, pooled_BX, column = out
    room, width = Room(own.sizes_6, own.factors_2), keys_PD.shape[1]
    zero, end, b = np.float32(0.0), begin_B[span[1]], span[0]
    alone()
    times_turned(sgemm, root_BD[span[0] : span[1]], unit.root_HD, own.of_rows_RH[: span[1] - span[0]], room)
    for row in range(span[0], span[1]):
        pooled_BX[row, column : column + width] = zero
        of_row_H = own.of_rows_RH[row - span[0]]
        for h in range(LANES):
            of_row_H[h] += unit.first_bias_H[h]
    for first in range(begin_B[span[0]], end, ROWS):
        count = min(ROWS, end - first)
        _pair(behaviours, first, count, b, own.pairs_RX)
        times_turned(sgemm, own.pairs_RX, unit.pair_HX, own.units_RH, room)
        for r in range(count):
            p = first + r
            while begin_B[b + 1] <= p:
                b += 1
            hidden_H, of_row_H, active_H = hidden_PH[p], own.of_rows_RH[b - span[0]], own.units_RH[r]
            for h in range(LANES):
                value = active_H[h] + of_row_H[h]
                hidden_H[h] = value
                active_H[h] = value if value > zero else value * unit.slope_H[h]
            weight = _dot(active_H, unit.last_H) + unit.bias_1[0]
            weights_P[p] = weight
            pooled_D, key_D = pooled_BX[b, column : column + width], keys_PD[p]
            for d in range(width):
                pooled_D[d] += weight * key_D[d]


@side_by_side
def unweigh(
    turns: Turns,
    behaviours: Behaviours,
    unit: Unit,
    known: tuple[F32, F32, F32, int],
    out: tuple[F32, F32, I64, F32, I32],
    room: Own,
) -> None:
    """Gradients of behaviours and roots; those of parameters are added where they stand in a part's row.

    `known` are the hidden units and weights of the behaviours, and the gradient of the weighted sums from a column on.
    """
    of_keys_PD, of_root_BD, starts, grads_QN, largest_Q16 = out
    parts, rows = len(grads_QN), len(behaviours.root_BD)
    for _ in prange(turns.workers):
        part, place = piece(turns, parts)
        while part < parts:
            own, begin, end = _own(room, part), rows * part // parts + place * AT_ONCE, rows * (part + 1) // parts
            span, last = (begin, min(begin + AT_ONCE, end)), begin + AT_ONCE >= end
            if place == 0:
                _clear(own)
            _unweigh(behaviours, unit, known, (of_keys_PD, of_root_BD), span, own)
            _unroot(behaviours.root_BD, unit, of_root_BD, span, own)
            if last:
                _unfactor(own, starts, grads_QN[part])
                exponents(grads_QN[part, starts[0] : starts[-1]].view(np.int32), largest_Q16[part])
            done(turns, part, last)
            part, place = piece(turns, parts)


@kernel
def _clear(own: Own) -> None:
    own.of_root_HD[:] = np.float32(0.0)
    own.of_pair_HX[:] = np.float32(0.0)
    own.of_unit_4H[:] = np.float32(0.0)


@kernel
def _unweigh(
    behaviours: Behaviours,
    unit: Unit,
    known: tuple[F32, F32, F32, int],
    out: tuple[F32, F32],
    span: tuple[int, int],
    own: Own,
) -> None:
    """Of all that the pairs are made of, of the rows' units, and of slope, last and bias."""
    keys_PD, begin_B, root_BD = behaviours
    hidden_PH, weights_P, grad_BX, column = known
    of_keys_PD, of_root_BD = out
    pairs_RX, of_units_RH, room = own.pairs_RX, own.units_RH, Room(own.sizes_6, own.factors_2)
    zero, end, width = np.float32(0.0), begin_B[span[1]], keys_PD.shape[1]
    of_root_BD[span[0] : span[1]] = zero
    own.of_rows_RH[:] = zero
    alone()
    b = after = span[0]
    for first in range(begin_B[span[0]], end, ROWS):
        count = min(ROWS, end - first)
        _pair(behaviours, first, count, b, pairs_RX)
        for r in range(count):
            p = first + r
            while begin_B[b + 1] <= p:
                b += 1
            grad = _dot(grad_BX[b, column : column + width], keys_PD[p])
            _unit_gradients(hidden_PH[p], unit, grad, own, r, b - span[0])
        of_units_RH[count:] = zero
        add_turned_times(sgemm, of_units_RH, pairs_RX, own.of_pair_HX, room)
        times(sgemm, of_units_RH, unit.pair_HX, pairs_RX, room)  # the pairs are not needed any more
        for r in range(count):
            p = first + r
            while begin_B[after + 1] <= p:
                after += 1
            of_key_D, of_root_D, key_D, root_D = of_keys_PD[p], of_root_BD[after], keys_PD[p], root_BD[after]
            grad_D, weight = grad_BX[after, column : column + width], weights_P[p]
            of_key, of_product = pairs_RX[r, :width], pairs_RX[r, width:]
            for d in range(width):
                of_key_D[d] = weight * grad_D[d] + of_key[d] + of_product[d] * root_D[d]
                of_root_D[d] += of_product[d] * key_D[d]


@kernel
def _unroot(root_BD: F32, unit: Unit, of_root_BD: F32, span: tuple[int, int], own: Own) -> None:
    """Of what the rows' units are made of: bias, matrix and roots."""
    rows, width, room = span[1] - span[0], root_BD.shape[1], Room(own.sizes_6, own.factors_2)
    of_units_RH, spare_RD, of_bias_H = own.of_rows_RH[:rows], own.pairs_RX[:rows, :width], own.of_unit_4H[0]
    for r in range(rows):
        of_unit_H = of_units_RH[r]
        for h in range(LANES):
            of_bias_H[h] += of_unit_H[h]
    add_turned_times(sgemm, of_units_RH, root_BD[span[0] : span[1]], own.of_root_HD, room)
    times(sgemm, of_units_RH, unit.root_HD, spare_RD, room)
    for r in range(rows):
        of_root_D, more_D = of_root_BD[span[0] + r], own.pairs_RX[r, :width]
        for d in range(width):
            of_root_D[d] += more_D[d]


@kernel
def _unfactor(own: Own, starts: I64, sums_N: F32) -> None:
    """Of [W_q, W_k, W_d, W_p], added, from those of W_q + W_d and of [W_k - W_d, W_p]; and of the other parameters."""
    width = own.of_root_HD.shape[1]
    for h in range(HIDDEN):
        of_first, of_root, of_pair = sums_N[starts[0] + 4 * h * width :], own.of_root_HD[h], own.of_pair_HX[h]
        for d in range(width):
            of_first[d] += of_root[d]
            of_first[width + d] += of_pair[d]
            of_first[2 * width + d] += of_root[d] - of_pair[d]
            of_first[3 * width + d] += of_pair[width + d]
        for place in range(3):
            sums_N[starts[1 + place] + h] += own.of_unit_4H[place, h]
    sums_N[starts[4]] += own.of_unit_4H[3, 0]


@inlined
def _unit_gradients(hidden_H: F32, unit: Unit, grad: Any, own: Own, r: int, row: int) -> None:
    """Of a behaviour's weight: to slope, last and bias, to its hidden units, and to its row's."""
    zero, of_unit_H, of_row_H = np.float32(0.0), own.units_RH[r], own.of_rows_RH[row]
    of_slope_H, of_last_H = own.of_unit_4H[1], own.of_unit_4H[2]
    own.of_unit_4H[3, 0] += grad
    for h in range(LANES):
        value, slope, of_active = hidden_H[h], unit.slope_H[h], grad * unit.last_H[h]
        below = value if value < zero else zero
        of_last_H[h] += grad * ((value - below) + below * slope)
        of_slope_H[h] += of_active * below
        of_value = of_active if value > zero else of_active * slope
        of_unit_H[h] = of_value
        of_row_H[h] += of_value


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


@any_order
def _dot(left_X: F32, right_X: F32) -> Any:
    total = np.float32(0.0)
    for x in range(len(left_X)):
        total += left_X[x] * right_X[x]
    return total
