"""The table of all models. To add one: its file (config, `forward`, `loss`), and its lines here."""

from typing import Annotated, Any, assert_never

import torch
from pydantic import BeforeValidator, Field

from streamctr.models.esmm import Esmm, EsmmConfig
from streamctr.models.lr import Lr, LrConfig
from streamctr.models.port import HistoryShape, InputShape, Model, ModelInput, SequenceInput, Targets

__all__ = ["EsmmConfig", "HistoryShape", "InputShape", "LrConfig", "Model", "ModelConfig", "ModelInput"]
__all__ += ["SequenceInput", "Targets", "build"]


def _short_form(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


ModelConfig = Annotated[LrConfig | EsmmConfig, Field(discriminator="name"), BeforeValidator(_short_form)]
"""A model by its `name`; `model: esmm` is short for `model: {name: esmm}`."""


def build(config: ModelConfig, shape: InputShape, bias_S: torch.Tensor, generator: torch.Generator) -> Lr | Esmm:
    """The model that `config` names; `bias_S` (S,) are the logits that its heads start at."""
    match config:
        case LrConfig():
            return Lr(shape, bias_S)
        case EsmmConfig():
            return Esmm(config, shape, bias_S, generator)
        case _:
            assert_never(config)
