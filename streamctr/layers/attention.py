"""Attention over a history. Legend: B rows, T steps, C columns, W width, D = C W, H hidden units, F ids."""

from typing import Final, Literal

import torch
from torch import nn

from streamctr.layers.pooling import Pooled
from streamctr.schema.features import Pool

HIDDEN: Final = 36
"""Hidden units of the activation unit, as in the paper's figure 2."""


class Attention(nn.Module):
    """DIN's activation unit (Zhou et al., KDD 2018, section 4.3, eq. 3): behaviours weighed by the root, and summed.

    v(root) = sum_t a(q, k_t) k_t, with q the root's own numbers of the fields that a behaviour k_t consists of, and a
    a small network over [q, k, q - k, q * k]. The weights are not normalised: how much there is of what the root is
    about counts too. The hidden units are PReLU, which the paper has beside Dice: Dice standardises by the batch, and a
    score may not depend on its neighbours. The network starts near 1 / T: at the mean of a full history.
    """

    def __init__(self, targets: tuple[int, ...], steps: int, width: int, generator: torch.Generator) -> None:
        """Start as He et al. (2015), eq. 15, has it for PReLU with slopes of .25; `targets` are q's places in F."""
        super().__init__()
        inputs = 4 * len(targets) * width
        self.first = nn.Parameter(torch.empty(HIDDEN, inputs))
        self.first_bias = nn.Parameter(torch.zeros(HIDDEN))
        self.slope = nn.Parameter(torch.full((HIDDEN,), 0.25))
        self.last = nn.Parameter(torch.empty(1, HIDDEN))
        self.bias = nn.Parameter(torch.full((1,), 1.0 / steps))
        self.register_buffer("targets", torch.tensor(targets), persistent=False)
        nn.init.kaiming_normal_(self.first, a=0.25, generator=generator)
        nn.init.xavier_normal_(self.last, generator=generator)

    def forward(self, values_BTCW: torch.Tensor, mask_BT: torch.Tensor, ids_BFW: torch.Tensor) -> torch.Tensor:
        """One vector a column, (B, C, W); zeros for an empty history."""
        rows, steps, columns, width = values_BTCW.shape
        keys_BTD = values_BTCW.reshape(rows, steps, columns * width)
        root_BD = ids_BFW.index_select(1, self.get_buffer("targets")).reshape(rows, columns * width)
        weights_BT = self.weigh(root_BD, keys_BTD) * mask_BT
        return torch.bmm(weights_BT[:, None, :], keys_BTD).reshape(rows, columns, width)

    def weigh(self, root_BD: torch.Tensor, keys_BTD: torch.Tensor) -> torch.Tensor:
        """What each behaviour counts, (B, T).

        W [q, k, q - k, q * k] = (W_q + W_d) q + (W_k - W_d + W_p diag(q)) k: nothing of width 4 D is built.
        """
        rows, steps, _ = keys_BTD.shape
        of_root, of_key, of_difference, of_product = self.first.chunk(4, dim=1)
        hidden_B1H = nn.functional.linear(root_BD, of_root + of_difference, self.first_bias)[:, None, :]
        matrix_BDH = (of_key - of_difference).T + root_BD[:, :, None] * of_product.T
        hidden_BTH = torch.baddbmm(hidden_B1H, keys_BTD, matrix_BDH)
        active_PH = nn.functional.prelu(hidden_BTH.reshape(rows * steps, HIDDEN), self.slope)
        return nn.functional.linear(active_PH, self.last, self.bias).reshape(rows, steps)


def history_pool(
    pool: Pool | Literal["attention"], targets: tuple[int, ...], steps: int, width: int, generator: torch.Generator
) -> Attention | Pooled:
    """The layer that combines a history of so many steps, by its name; `generator` draws what it learns."""
    return Attention(targets, steps, width, generator) if pool == "attention" else Pooled(pool)
