"""Torch blocks that models are made of."""

from streamctr.layers.logits import product_logit
from streamctr.layers.mlp import Towers
from streamctr.layers.pooling import mean_pool

__all__ = ["Towers", "mean_pool", "product_logit"]
