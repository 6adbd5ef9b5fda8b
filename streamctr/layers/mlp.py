"""Multi-layer perceptrons, with a backward of their own.

Legend: B rows, D inputs, S towers, H hidden units, Q parts of a batch, N parameters.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from streamctr.layers import dense
from streamctr.layers.blas import HAS_FP32
from streamctr.layers.sums import Sums, SumsGradients
from streamctr.layers.tape import applied
from streamctr.layers.wide import beside

F32 = NDArray[np.float32]


class Towers(SumsGradients):
    """One ReLU tower per stage over the same input, each ending in one logit with its own bias.

    Hidden layers start as He et al. (2015), eq. 10, with zero biases; the last one as Glorot and Bengio (2010).
    The first layers of all towers are one matrix, so that the shared input is read once.
    """

    def __init__(self, inputs: int, hidden: tuple[int, ...], bias_S: Tensor, generator: torch.Generator) -> None:
        super().__init__()
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
        work = self.kept(lambda sums: _Work(self, sums))
        return applied(_Call(work), parts_BX, self)

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


class _Work:
    """What the kernels are given of towers, and room for a few rows of each part."""

    def __init__(self, towers: Towers, sums: Sums) -> None:
        parameters, stages = [p.detach().numpy() for p in towers.parameters()], len(towers.last)
        self.sums, self.bf16 = sums, towers.bf16
        weights, biases, last, bias = _net(parameters, stages)
        self.net = dense.Net(weights, biases, tuple(of[0] for of in last), bias)
        *starts, end = sums.starts(parameters)
        self.starts = np.array([*(start for of in _net(starts, stages) for start in of), end])
        self.rounded = tuple(np.empty(of.shape if towers.bf16 else (0, 0), np.uint16) for of in weights)
        few = towers.parts, dense.ROWS, max(max(of.shape) for of in weights)
        factors = (np.empty(few if towers.bf16 else (towers.parts, 0, 0), np.uint16) for _ in range(2))
        grads = (np.empty(few, np.float32) for _ in range(3))
        room = np.empty((towers.parts, 6), np.int32), np.ones((towers.parts, 2), np.float32)
        self.own: Any = (*factors, *grads, *room)


class _Call:
    """All of it in two kernels: autograd would keep, mask and sum op by op, and step into Python between them."""

    def __init__(self, work: _Work) -> None:
        self._work, self.sums = work, work.sums

    def forward(self, *inputs: Tensor) -> Tensor:
        work, x_BX = self._work, beside(inputs).numpy()
        if work.bf16:
            for weight_HD, out_HD in zip(work.net.weights, work.rounded, strict=True):
                dense.round_weights(weight_HD, out_HD)
        outs = tuple(np.empty((len(x_BX), len(bias)), np.float32) for bias in work.net.biases)
        logits_BS = np.empty((len(x_BX), len(work.net.last)), np.float32)
        dense.forward(x_BX, work.net, (outs, logits_BS), work.rounded, work.own)
        self._x_BX, self._outs = x_BX, outs
        self._ends = list(accumulate((part_BX.shape[1] for part_BX in inputs), initial=0))
        return torch.from_numpy(logits_BS)

    def backward(self, grad: Tensor, wanted: Sequence[bool]) -> list[Tensor | None]:
        work, x_BX = self._work, self._x_BX
        # what stands behind the last part that wants a gradient, such as numbers, costs nothing
        reach = max((end for end, want in zip(self._ends[1:], wanted, strict=True) if want), default=0)
        of_x_BX = np.empty((len(x_BX), reach), np.float32)
        x, net = (x_BX, np.ascontiguousarray(grad.numpy())), (work.net.weights, work.net.last, work.rounded)
        dense.backward(x, net, self._outs, (work.starts, *work.sums[:2], of_x_BX), work.own)
        cuts, of_x = zip(pairwise(self._ends), wanted, strict=True), torch.from_numpy(of_x_BX)
        return [of_x[:, a:b] if want else None for (a, b), want in cuts]  # whose rows stay in one memory


def _net(parameters: Sequence[Any], stages: int) -> tuple[tuple[Any, ...], ...]:
    """Weights, biases, last weights and biases; in order of layers, the first one in front."""
    deeper = (len(parameters) - 2) // 2 - stages
    cuts = pairwise(accumulate([2, deeper, deeper, stages, stages]))
    weights, biases, last, bias = (tuple(parameters[a:b]) for a, b in cuts)
    return (parameters[0], *weights), (parameters[1], *biases), last, bias
