"""Probabilities as logits. Legend: B rows, S stages of a chain."""

from collections.abc import Sequence
from math import exp, log1p
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamctr.kernel import inlined, kernel
from streamctr.layers.tape import applied

Floats = NDArray[np.floating[Any]]


def chain_loss(logits_BS: Tensor, labels_BS: Tensor, weights_BS: Tensor) -> Tensor:
    """Summed cross-entropy of every stage of a chain given the root, whose probability is the product down to it.

    With a and b the logits of two probabilities and l that of their product: 1/p - 1 = e^-a + e^-b + e^-(a+b), so
    l = -logsumexp(-a, -b, -a-b), exact where 1 - p would round to 0; of a, its derivative is the share of e^-a and
    e^-(a+b) in that sum. A stage costs weight (max(l, 0) - label l + log(1 + e^-|l|)), whose derivative by l is
    weight (sigmoid(l) - label).
    """
    return applied(_Call(labels_BS, weights_BS), (logits_BS,))


class _Call:
    """Loss and gradient at once, in 64 bits."""

    sums = None

    def __init__(self, labels_BS: Tensor, weights_BS: Tensor) -> None:
        self._labels_BS, self._weights_BS = labels_BS, weights_BS

    def forward(self, *inputs: Tensor) -> Tensor:
        tensors = inputs[0], self._labels_BS, self._weights_BS
        logits_BS, labels_BS, weights_BS = (np.ascontiguousarray(tensor.detach().numpy()) for tensor in tensors)
        self._grad_BS, room_S = np.empty_like(logits_BS), np.empty((2, logits_BS.shape[1]), np.float64)
        loss = descend(logits_BS, labels_BS, weights_BS, room_S, self._grad_BS)
        with np.errstate(over="ignore"):  # then it is infinite
            return torch.from_numpy(np.array(loss, logits_BS.dtype))

    def backward(self, grad: Tensor, wanted: Sequence[bool]) -> list[Tensor | None]:
        return [torch.from_numpy(self._grad_BS * grad.numpy())]


@kernel
def descend(logits_BS: Floats, labels_BS: Floats, weights_BS: Floats, room_2S: Floats, out_BS: Floats) -> float:
    """The loss; `out_BS` gets its gradient, `room_2S` is overwritten."""
    loss, stages = 0.0, logits_BS.shape[1]
    path_S, share_S = room_2S[0], room_2S[1]
    for row in range(len(logits_BS)):
        path_S[0] = logits_BS[row, 0]
        for stage in range(1, stages):
            above, here = path_S[stage - 1], np.float64(logits_BS[row, stage])
            # the sum's terms as parts of its largest one, e^most
            most = max(-above, -here, -above - here)
            of_above, of_here, of_both = exp(-above - most), exp(-here - most), exp(-above - here - most)
            total = of_above + of_here + of_both
            path_S[stage] = -most - np.log(total)
            share_S[stage] = (of_above + of_both) / total
            out_BS[row, stage] = (of_here + of_both) / total
        down = 0.0
        for stage in range(stages - 1, -1, -1):
            path, label, weight = path_S[stage], labels_BS[row, stage], weights_BS[row, stage]
            loss += weight * _cost(path, label)
            down += weight * (_sigmoid(path) - label)
            if stage > 0:
                out_BS[row, stage] *= down
                down *= share_S[stage]
            else:
                out_BS[row, 0] = down
    return loss


@inlined
def _cost(logit: float, label: float) -> float:
    return max(logit, 0.0) - label * logit + log1p(exp(-abs(logit)))


@inlined
def _sigmoid(logit: float) -> float:
    low = exp(-abs(logit))
    return 1.0 / (1.0 + low) if logit >= 0 else low / (1.0 + low)
