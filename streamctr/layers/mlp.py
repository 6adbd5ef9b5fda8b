"""Multi-layer perceptrons. Legend: B rows, D inputs, S towers."""

from itertools import pairwise

import torch
from torch import nn


class Towers(nn.Module):
    """One ReLU tower per stage over the same input, each ending in one logit with its own bias.

    Hidden layers start as He et al. (2015), eq. 10, with zero biases; the last one as Glorot and Bengio (2010).
    The first layers of all towers are one matrix, so that the shared input is read once.
    """

    def __init__(self, inputs: int, hidden: tuple[int, ...], bias_S: torch.Tensor, generator: torch.Generator) -> None:
        super().__init__()
        self.hidden = hidden
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

    def forward(self, x_BD: torch.Tensor) -> torch.Tensor:
        """Logits (B, S)."""
        deeper = len(self.hidden) - 1
        first = torch.relu(nn.functional.linear(x_BD, self.first, self.first_bias))
        logits = []
        for stage, hidden in enumerate(torch.split(first, self.hidden[0], dim=1)):
            for layer in range(stage * deeper, (stage + 1) * deeper):
                hidden = torch.relu(nn.functional.linear(hidden, self.weights[layer], self.biases[layer]))
            logits.append(nn.functional.linear(hidden, self.last[stage], self.bias[stage]))
        return torch.cat(logits, dim=1)
