"""ESMM (Ma et al., SIGIR 2018): conversions learned over all impressions. Legend: B rows, S stages, W width."""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from streamctr.errors import ConfigError
from streamctr.layers import Towers, history_pool, product_logit
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
        columns = shape.ids + sum(history.columns for history in shape.histories)
        inputs = columns * shape.width + shape.numbers + shape.flags
        self.towers = Towers(inputs, config.towers, bias_S, generator)
        self.pools = nn.ModuleList(
            history_pool(history.pool, history.targets, history.steps, shape.width, generator)
            for history in shape.histories
        )

    def forward(self, x: ModelInput) -> torch.Tensor:
        """Conditional logits (B, S)."""
        pooled = (
            pool(history.values_BTCW, history.mask_BT, x.ids_BFW).flatten(1)
            for pool, history in zip(self.pools, x.histories, strict=True)
        )
        logits_BS: torch.Tensor = self.towers(
            torch.cat((x.ids_BFW.flatten(1), x.numbers_BM, x.missing_BM, *pooled), dim=1)
        )
        return logits_BS

    def loss(self, logits_BS: torch.Tensor, targets: Targets) -> torch.Tensor:
        """Weighted cross-entropy of every stage over the entire space, in logits (eq. 3), summed."""
        paths = [logits_BS[:, 0]]
        for stage in range(1, logits_BS.shape[1]):
            paths.append(product_logit(paths[-1], logits_BS[:, stage]))
        return nn.functional.binary_cross_entropy_with_logits(
            torch.stack(paths, dim=1), targets.labels_BS, weight=targets.entire_BS, reduction="sum"
        )
