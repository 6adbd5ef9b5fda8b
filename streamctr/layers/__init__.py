"""Torch blocks that models are made of."""

from streamctr.layers.attention import Attention
from streamctr.layers.blas import HAS_BF16
from streamctr.layers.logits import chain_loss
from streamctr.layers.mlp import Towers

__all__ = ["HAS_BF16", "Attention", "Towers", "chain_loss"]
