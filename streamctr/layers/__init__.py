"""Torch blocks that models are made of."""

from streamctr.layers.attention import Attention, history_pool
from streamctr.layers.logits import product_logit
from streamctr.layers.mlp import Towers
from streamctr.layers.pooling import POOLS, Pooled, max_pool, mean_pool, sum_pool

__all__ = ["POOLS", "Attention", "Pooled", "Towers", "history_pool", "max_pool", "mean_pool", "product_logit"]
__all__ += ["sum_pool"]
