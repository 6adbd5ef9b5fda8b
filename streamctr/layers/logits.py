"""Probabilities combined as logits. Legend: B rows."""

import torch


def product_logit(a_B: torch.Tensor, b_B: torch.Tensor) -> torch.Tensor:
    """Logit of the product of two probabilities given as logits, (B,).

    1/p - 1 = e^-a + e^-b + e^-(a+b), so logit(p) = -logsumexp(-a, -b, -a-b), exact where 1 - p would round to 0.
    """
    return -torch.logaddexp(torch.logaddexp(-a_B, -b_B), -a_B - b_B)
