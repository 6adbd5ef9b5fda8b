"""Torch blocks that models are made of."""

from streamctr.layers.attention import Attention
from streamctr.layers.blas import HAS_BF16, HAS_FP32
from streamctr.layers.logits import chain_loss
from streamctr.layers.mlp import Towers
from streamctr.layers.sums import SumsGradients

__all__ = ["HAS_BF16", "HAS_FP32", "Attention", "SumsGradients", "Towers", "chain_loss"]
