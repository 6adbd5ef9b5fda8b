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
        how = self.parts, self.bf16
        logits_BS: Tensor = _Towers.apply(len(self.last), how, len(parts_BX), *parts_BX, *parameters)
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
    """All of it in two kernels: autograd would keep, mask and sum op by op, and step into Python between them."""

    @staticmethod
    def forward(ctx: Any, stages: int, how: tuple[int, bool], n_parts: int, *tensors: Tensor) -> Tensor:
        inputs, parameters = tensors[:n_parts], tensors[n_parts:]
        x_BX, net = beside(inputs).numpy(), _net([p.numpy() for p in parameters], stages)
        rounded, own = _rounded(net, how[1]), _own(net, *how)
        outs = tuple(np.empty((len(x_BX), len(bias)), np.float32) for bias in net.biases)
        logits_SB = np.empty((stages, len(x_BX)), np.float32)
        of_net = net.weights, net.biases, net.last, net.bias
        dense.forward(x_BX, of_net, (outs, logits_SB), rounded, own[:5], own[5:])
        if any(ctx.needs_input_grad):
            ctx.kept = net, x_BX, outs, rounded, own, [part.shape[1] for part in inputs]
            ctx.save_for_backward(*parameters)
        return torch.from_numpy(np.ascontiguousarray(logits_SB.T))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        ctx.saved_tensors  # noqa: B018 - which refuses parameters that were changed since
        net, x_BX, outs, rounded, own, sizes = ctx.kept
        ends = list(accumulate(sizes, initial=0))
        wanted = ctx.needs_input_grad[3 : 3 + len(sizes)]
        # what stands behind the last part that wants a gradient, such as numbers, costs nothing
        reach = max((end for end, want in zip(ends[1:], wanted, strict=True) if want), default=0)
        of_x_BX = np.empty((len(x_BX), reach), np.float32)
        by_part = [tuple(np.zeros((len(own[0]), *of.shape), np.float32) for of in side) for side in net]
        x = x_BX, np.ascontiguousarray(grads[0].numpy().T)
        sums = by_part[0], by_part[1], by_part[2], by_part[3], of_x_BX
        dense.backward(x, (net.weights, net.last), outs, sums, rounded, own)
        of_weights, of_biases = ([of[0] for of in side] for side in by_part[:2])
        of_last, of_bias = ([of.sum(axis=0) for of in side] for side in by_part[2:])
        found = (of_weights[0], of_biases[0], *of_weights[1:], *of_biases[1:], *(of[None] for of in of_last), *of_bias)
        cuts = zip(pairwise(ends), wanted, strict=True)
        of_inputs = [torch.from_numpy(of_x_BX[:, a:b]) if want else None for (a, b), want in cuts]
        return (None, None, None, *of_inputs, *(torch.from_numpy(of) for of in found))


def _net(parameters: Sequence[F32], stages: int) -> dense.Net:
    """First matrix and bias, then by stage and layer the deeper ones, and by stage the last."""
    deeper = (len(parameters) - 2) // 2 - stages
    cuts = pairwise(accumulate([2, deeper, deeper, stages, stages]))
    weights, biases, last, bias = (parameters[a:b] for a, b in cuts)
    first, first_bias = parameters[:2]
    return dense.Net((first, *weights), (first_bias, *biases), tuple(of[0] for of in last), tuple(bias))


def _rounded(net: dense.Net, bf16: bool) -> tuple[NDArray[np.uint16], ...]:
    """The weights in 16 bits; without rows where they are not asked for."""
    rounded = tuple(np.empty(of.shape if bf16 else (0, 0), np.uint16) for of in net.weights)
    if bf16:
        for weight_HD, out_HD in zip(net.weights, rounded, strict=True):
            dense.round_weights(weight_HD, out_HD)
    return rounded


def _own(net: dense.Net, parts: int, bf16: bool) -> tuple[Any, ...]:
    """Room of each part: see `dense.Scratch` and `blas.Room`."""
    widest = max(max(of.shape) for of in net.weights)
    few = parts, dense.ROWS, widest
    factors = (np.empty(few if bf16 else (parts, 0, 0), np.uint16) for _ in range(2))
    grads = (np.empty(few, np.float32) for _ in range(3))
    return (*factors, *grads, np.empty((parts, 6), np.int32), np.ones((parts, 2), np.float32))


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
