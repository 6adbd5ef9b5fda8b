"""Logistic regression: one weight per id and head. Legend: B rows, S stages, C columns."""

from typing import Literal

import torch
from torch import nn

from streamctr.errors import ConfigError
from streamctr.models.port import InputShape, ModelInput, Targets
from streamctr.schema import Config, FeaturesConfig, Funnel


class LrConfig(Config):
    """One linear head per stage, given its parent; any funnel."""

    name: Literal["lr"] = "lr"

    @property
    def entire_space(self) -> bool:
        """Whether it trains entire-space heads, which `absent` rows speak of."""
        return False

    def rows(self, funnel: Funnel, width: int, init_std: float) -> tuple[int, float]:
        """Width of its table rows, one weight a head, and the deviation of new ones: 0."""
        return len(funnel.stages) - 1, 0.0

    def check(self, features: FeaturesConfig) -> None:
        """Refuse what a sum of weights cannot do.

        Raises:
            ConfigError: a history is combined by attention.
        """
        for name, history in features.history.items():
            if history.pool == "attention":
                raise ConfigError(
                    f"model lr adds up weights and cannot weigh behaviours by attention; "
                    f"set features.history.{name}.pool to mean, sum or max, or use model esmm"
                )


class Lr(nn.Module):
    """logit_s = sum of the weights of the ids + those of bags and histories, pooled + linear in the numbers + bias."""

    def __init__(self, shape: InputShape, bias_S: torch.Tensor) -> None:
        super().__init__()
        self.numbers = nn.Parameter(torch.zeros(len(bias_S), shape.dense))
        self.bias = nn.Parameter(bias_S.clone())

    def forward(self, x: ModelInput) -> torch.Tensor:
        """Conditional logits (B, S)."""
        rows, weights = x.looked_BX.shape
        weights_BCS = x.looked_BX.view(rows, weights // len(self.bias), len(self.bias))
        return nn.functional.linear(x.dense_BM, self.numbers, self.bias) + weights_BCS.sum(1)

    def loss(self, logits_BS: torch.Tensor, targets: Targets) -> torch.Tensor:
        """Weighted cross-entropy of every conditional head, summed."""
        return nn.functional.binary_cross_entropy_with_logits(
            logits_BS, targets.labels_BS, weight=targets.given_BS, reduction="sum"
        )
