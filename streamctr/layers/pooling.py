"""Sequences to one vector. Legend: B rows, T steps, C columns, W width."""

import torch


def mean_pool(values_BTCW: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """Mean over the steps that there are, (B, C, W); zeros for an empty sequence. Masked steps must hold zeros."""
    count_B = mask_BT.sum(1).clamp(min=1.0)
    return values_BTCW.sum(1) / count_B[:, None, None]
