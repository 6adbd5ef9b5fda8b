"""How a model learns, and everything that a learner is made from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from streamctr.feedback import MethodName
from streamctr.models import ModelConfig
from streamctr.schema import Config, FeaturesConfig, Funnel
from streamctr.tables import TablesConfig


class TrainingConfig(Config):
    """The learning step: its batch, its dense optimiser, its labels; table rows have their own rate in `tables`."""

    batch: int = Field(default=256, ge=1, le=2**20, description="rows of a learning step")
    seed: int = Field(default=0, ge=0, lt=2**63)
    optimizer: Literal["adam", "adagrad"] = Field(default="adam", description="of the dense parameters")
    lr: float = Field(default=1e-3, gt=0)
    decay: float = Field(default=0.9999, gt=0, le=1, description="what Adagrad keeps of its squared gradients per step")
    delayed_feedback: MethodName = "cross_entropy"
    base_rate: Mapping[str, Annotated[float, Field(gt=0, lt=1)]] = Field(
        default_factory=dict, description="head: the rate that it starts from; default .5"
    )
    max_bad_steps: int = Field(default=10, ge=1, description="non-finite steps in a row that stop the run")
    threads: int = Field(
        default=2,
        ge=1,
        le=64,
        description="parts of a batch, each for a core of its own; the same bits on any number of cores",
    )
    precision: Literal["fp32", "bf16"] = Field(
        default="fp32", description="of the towers' products; bf16 where the CPU has it"
    )


@dataclass(frozen=True, slots=True)
class Recipe:
    """The configs that together decide what is learned."""

    model: ModelConfig
    tables: TablesConfig
    training: TrainingConfig
    features: FeaturesConfig
    funnel: Funnel
