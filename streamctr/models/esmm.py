"""ESMM (Ma et al., SIGIR 2018): conversions learned over all impressions. Legend: B rows, S stages."""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from streamctr.errors import ConfigError
from streamctr.layers import Attention, Towers, chain_loss
from streamctr.models.port import InputShape, ModelInput, Targets
from streamctr.schema import Config, FeaturesConfig, Funnel


class EsmmConfig(Config):
    """A tower per stage over shared embeddings; funnels that are a chain."""

    name: Literal["esmm"] = "esmm"
    towers: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(256, 128), min_length=1)

    @property
    def entire_space(self) -> bool:
        """Whether it trains entire-space heads, which `absent` rows speak of."""
        return True

    def rows(self, funnel: Funnel, width: int, init_std: float) -> tuple[int, float]:
        """Width of its table rows and the deviation of new ones: as configured.

        Raises:
            ConfigError: the funnel is not a chain.
        """
        for place, stage in enumerate(funnel.stages[1:], start=1):
            if stage.parent != place - 1:
                above, parent = funnel.stages[place - 1].name, funnel.stages[stage.parent].name
                raise ConfigError(
                    f"model esmm takes a chain of stages, but {stage.name} follows {parent} beside {above}; "
                    f"set funnel.{stage.name}.after to {above}, or use model lr"
                )
        return width, init_std

    def check(self, features: FeaturesConfig) -> None:
        """Any features will do."""


class Esmm(nn.Module):
    """p(stage | root) is the product of the conditional probabilities down to it; only that is trained (eq. 2)."""

    def __init__(self, config: EsmmConfig, shape: InputShape, bias_S: torch.Tensor, generator: torch.Generator) -> None:
        super().__init__()
        pooled = [len(history.targets) * shape.width for history in shape.sequences]
        self.towers = Towers(shape.looked + shape.dense + sum(pooled), config.towers, bias_S, generator)
        self.attention = nn.ModuleList(
            Attention(inputs, history.steps, generator) for inputs, history in zip(pooled, shape.sequences, strict=True)
        )

    def forward(self, x: ModelInput) -> torch.Tensor:
        """Conditional logits (B, S)."""
        pooled = (
            attend(history.keys_PD, history.length_B, history.root_BD, history.room_BD)
            for attend, history in zip(self.attention, x.sequences, strict=True)
        )
        logits_BS: torch.Tensor = self.towers(x.looked_BX, x.dense_BM, *pooled)
        return logits_BS

    def loss(self, logits_BS: torch.Tensor, targets: Targets) -> torch.Tensor:
        """Weighted cross-entropy of every stage over the entire space, in logits (eq. 3), summed."""
        return chain_loss(logits_BS, targets.labels_BS, targets.entire_BS)
