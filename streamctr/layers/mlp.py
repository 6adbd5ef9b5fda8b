"""Multi-layer perceptrons, with a backward of their own. Legend: B rows, D inputs, S towers, H hidden units."""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from streamctr.layers import dense
from streamctr.layers.blas import HAS_FP32

F32 = NDArray[np.float32]


class Towers(nn.Module):
    """One ReLU tower per stage over the same input, each ending in one logit with its own bias.

    Hidden layers start as He et al. (2015), eq. 10, with zero biases; the last one as Glorot and Bengio (2010).
    The first layers of all towers are one matrix, so that the shared input is read once.
    """

    def __init__(self, inputs: int, hidden: tuple[int, ...], bias_S: Tensor, generator: torch.Generator) -> None:
        super().__init__()
        self.parts = 1
        """In how many parts a batch goes through the hidden layers, each for a core of its own."""
        self.bf16 = False
        """Whether products of hidden layers take their factors in 16 bits."""
        stages = len(bias_S)
        widths = (inputs, *hidden)
        self.first = nn.Parameter(torch.empty(stages * hidden[0], inputs))
        self.first_bias = nn.Parameter(torch.zeros(stages * hidden[0]))
        self.weights = nn.ParameterList(
            nn.Parameter(torch.empty(outs, ins)) for _ in range(stages) for ins, outs in pairwise(widths[1:])
        )
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(outs)) for _ in range(stages) for outs in widths[2:])
        self.last = nn.ParameterList(nn.Parameter(torch.empty(1, widths[-1])) for _ in range(stages))
        self.bias = nn.ParameterList(nn.Parameter(bias_S[s : s + 1].clone()) for s in range(stages))
        for weight in (self.first, *self.weights):
            nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator)
        for weight in self.last:
            nn.init.xavier_normal_(weight, generator=generator)

    def forward(self, *parts_BX: Tensor) -> Tensor:
        """Logits (B, S) of inputs side by side, D columns together; nothing is copied where they lie so in memory."""
        if not HAS_FP32:
            return self.plain(*parts_BX)
        parameters = (self.first, self.first_bias, *self.weights, *self.biases, *self.last, *self.bias)
        products = _Products(self.parts, self.bf16)
        logits_BS: Tensor = _Towers.apply(len(self.last), products, len(parts_BX), *parts_BX, *parameters)
        return logits_BS

    def plain(self, *parts_BX: Tensor) -> Tensor:
        """The same op by op, for torches whose BLAS cannot be called from kernels."""
        stages, logits = len(self.last), []
        firsts_BH = torch.relu(nn.functional.linear(torch.cat(parts_BX, dim=1), self.first, self.first_bias))
        deeper = len(self.weights) // stages
        for stage, hidden_BH in enumerate(firsts_BH.chunk(stages, dim=1)):
            for layer in range(stage * deeper, (stage + 1) * deeper):
                hidden_BH = torch.relu(nn.functional.linear(hidden_BH, self.weights[layer], self.biases[layer]))
            logits.append(nn.functional.linear(hidden_BH, self.last[stage], self.bias[stage]))
        return torch.cat(logits, dim=1)


class _Towers(torch.autograd.Function):
    """All of it in a few kernels: autograd would keep, mask and sum op by op, and step into Python between them."""

    @staticmethod
    def forward(ctx: Any, stages: int, products: "_Products", n_parts: int, *tensors: Tensor) -> Tensor:
        inputs, parameters = tensors[:n_parts], tensors[n_parts:]
        x_BX = beside(inputs).numpy()
        first, first_bias, weights, biases, last, bias = _parted([p.numpy() for p in parameters], stages)
        firsts_BX = products.layer((x_BX, 0), first, first_bias)
        deeper, width, hidden = len(weights) // stages, len(first) // stages, []
        logits_SB = np.empty((stages, len(x_BX)), np.float32)
        for stage in range(stages):
            top = firsts_BX, stage * width
            for place in range(stage * deeper, (stage + 1) * deeper):
                top = products.layer(top, weights[place], biases[place]), 0
                hidden.append(top[0])
            dense.logits(top, last[stage][0], bias[stage][0], logits_SB[stage], products.parts)
        if any(ctx.needs_input_grad):
            ctx.kept = stages, products, x_BX, firsts_BX, hidden, [part.shape[1] for part in inputs]
            ctx.save_for_backward(*parameters)
        return torch.from_numpy(np.ascontiguousarray(logits_SB.T))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        stages, products, x_BX, firsts_BX, hidden, sizes = ctx.kept
        first, _, weights, _, last, _ = _parted([p.numpy() for p in ctx.saved_tensors], stages)
        of_last, of_bias = (
            [np.zeros((products.parts, units), np.float32) for _ in last] for units in (last[0].shape[1], 1)
        )
        of_deeper: list[list[F32]] = [[] for _ in weights]
        deeper, width = len(weights) // stages, len(first) // stages
        grad_SB, of_firsts_BX = np.ascontiguousarray(grads[0].numpy().T), np.empty_like(firsts_BX)
        for stage in range(stages):
            # the outputs of its layers, and their gradients, with the column from which on they stand
            tower = [(firsts_BX, stage * width), *((h, 0) for h in hidden[stage * deeper : (stage + 1) * deeper])]
            of_tower = [(of_firsts_BX, stage * width), *((np.empty_like(h), 0) for h, _ in tower[1:])]
            dense.unlogits(grad_SB[stage], tower[-1], last[stage][0], (of_last[stage], of_bias[stage], of_tower[-1][0]))
            for layer in range(deeper, 0, -1):
                place = stage * deeper + layer - 1
                grad = of_tower[layer][0], tower[layer][0]
                of_deeper[place] = products.unlayer(grad, tower[layer - 1], weights[place], of_tower[layer - 1])
        ends = list(accumulate(sizes, initial=0))
        wanted = ctx.needs_input_grad[3 : 3 + len(sizes)]
        # what stands behind the last part that wants a gradient, such as numbers, costs nothing
        reach = max((end for end, want in zip(ends[1:], wanted, strict=True) if want), default=0)
        of_x_BX = np.empty((len(x_BX), reach), np.float32)
        of_first = products.unlayer((of_firsts_BX, firsts_BX), (x_BX, 0), first, (of_x_BX, 0))
        cuts = zip(pairwise(ends), wanted, strict=True)
        of_inputs = [torch.from_numpy(of_x_BX[:, a:b]) if want else None for (a, b), want in cuts]
        of_weights, of_biases = ([of[side] for of in of_deeper] for side in (0, 1))
        of_heads = (*(of.sum(axis=0, keepdims=True) for of in of_last), *(of.sum(axis=0) for of in of_bias))
        found = (*of_first, *of_weights, *of_biases, *of_heads)
        return (None, None, None, *of_inputs, *(torch.from_numpy(of) for of in found))


class _Products:
    """The layers of one batch in so many parts, by one of two kinds of product."""

    def __init__(self, parts: int, bf16: bool) -> None:
        self.parts, self._bf16 = parts, bf16
        self._room = np.empty((parts, 6), np.int32), np.ones((parts, 2), np.float32)

    def layer(self, x: tuple[F32, int], weight_HD: F32, bias_H: F32) -> F32:
        """Outputs (B, H) of the inputs that stand from a column on."""
        out_BH = np.empty((len(x[0]), len(weight_HD)), np.float32)
        dense.layer(x, weight_HD, bias_H, out_BH, self._rounded(weight_HD), self._room)
        return out_BH

    def unlayer(self, grad: tuple[F32, F32], x: tuple[F32, int], weight_HD: F32, of_x: tuple[F32, int]) -> list[F32]:
        """Gradients of weights and bias; those of the inputs are written from a column on, as many as fit."""
        found = np.zeros((self.parts, *weight_HD.shape), np.float32), np.zeros((self.parts, len(weight_HD)), np.float32)
        dense.unlayer(grad, x, weight_HD, (*found, *of_x), self._rounded(weight_HD), self._room)
        return [of[0] for of in found]

    def _rounded(self, weight_HD: F32) -> dense.Rounded:
        units, inputs = weight_HD.shape if self._bf16 else (0, 0)
        rows = self.parts, dense.ROWS if self._bf16 else 0
        sizes = (units, inputs), (*rows, inputs), (*rows, units)
        return dense.Rounded(*(np.empty(size, np.uint16) for size in sizes))


def _parted(parameters: Sequence[Any], stages: int) -> tuple[Any, ...]:
    """First matrix and bias, then by stage and layer the deeper ones, and by stage the last."""
    deeper = (len(parameters) - 2) // 2 - stages
    cuts = list(accumulate([2, deeper, deeper, stages, stages]))
    return *parameters[:2], *(parameters[a:b] for a, b in pairwise(cuts))


def beside(parts_BX: Sequence[Tensor]) -> Tensor:
    """The parts' columns as one matrix, its first ones: the rows they lie in where they are neighbours, or a copy."""
    parts = [part for part in parts_BX if part.shape[1]] or list(parts_BX)  # of no columns, torch says no address
    first, at, neighbours = parts[0], 0, True
    for part in parts:
        here = first.data_ptr() + at * first.element_size()
        neighbours = neighbours and part.data_ptr() == here and part.stride() == first.stride()
        at += part.shape[1]
    width, step = first.stride()
    room = first.untyped_storage().nbytes() // first.element_size() - first.storage_offset()
    if not (neighbours and step == 1 and at <= width and len(first) * width <= room):
        return torch.cat(parts, dim=1)
    return first.as_strided((len(first), width), (width, 1))
