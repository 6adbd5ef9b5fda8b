"""Sequences and bags to one vector each column. Legend: B rows, T steps, C columns, W width, F ids."""

from collections.abc import Callable
from typing import Final

import torch
from torch import nn

from streamctr.schema.features import Pool


def sum_pool(values_BTCW: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """Sum over the steps that there are, (B, C, W); zeros for an empty sequence. Masked steps must hold zeros."""
    return values_BTCW.sum(1)


def mean_pool(values_BTCW: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """Mean over the steps that there are, (B, C, W); zeros for an empty sequence. Masked steps must hold zeros."""
    count_B = mask_BT.sum(1).clamp(min=1.0)
    return values_BTCW.sum(1) / count_B[:, None, None]


def max_pool(values_BTCW: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """Largest of the steps that there are, number by number, (B, C, W); zeros for an empty sequence.

    Equal largest ones share the gradient evenly.
    """
    there_BT11 = mask_BT[:, :, None, None] > 0
    largest_BCW = values_BTCW.masked_fill(~there_BT11, -torch.inf).amax(1)
    return largest_BCW.masked_fill(~there_BT11.any(1), 0.0)


POOLS: Final[dict[Pool, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]]] = {
    "sum": sum_pool,
    "mean": mean_pool,
    "max": max_pool,
}


class Pooled(nn.Module):
    """One of `POOLS` as a layer over a history, whatever the root's own ids are."""

    def __init__(self, pool: Pool) -> None:
        super().__init__()
        self._pool = POOLS[pool]

    def forward(self, values_BTCW: torch.Tensor, mask_BT: torch.Tensor, ids_BFW: torch.Tensor) -> torch.Tensor:
        """One vector a column, (B, C, W)."""
        return self._pool(values_BTCW, mask_BT)
