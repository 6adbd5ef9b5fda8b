"""What a model reads and offers. Legend: B rows, S stages behind the root, F ids, M numbers, T steps, C columns."""

from dataclasses import dataclass
from typing import Literal, Protocol

import torch

from streamctr.errors import ConfigError
from streamctr.schema import FeaturesConfig
from streamctr.schema.features import Pool


@dataclass(frozen=True, slots=True)
class HistoryShape:
    """A history of so many steps; `targets` are the places in `FeaturesConfig.ids` of the fields that it takes."""

    steps: int
    targets: tuple[int, ...]
    pool: Pool | Literal["attention"] = "mean"

    @property
    def columns(self) -> int:
        """How many ids a behaviour has."""
        return len(self.targets)


@dataclass(frozen=True, slots=True)
class InputShape:
    """Sizes of a run's input: looked-up ids and bags, numbers with vectors' columns, flags of what may be missing."""

    ids: int
    numbers: int
    flags: int
    width: int
    histories: tuple[HistoryShape, ...] = ()

    @classmethod
    def of(cls, features: FeaturesConfig, width: int) -> "InputShape":
        """The sizes that follow from the features, for table rows of so many numbers.

        Raises:
            ConfigError: a history takes what is no id feature.
        """
        for name, history in features.history.items():
            for field in history.take:
                if field not in features.ids:
                    raise ConfigError(
                        f'features.history.{name}.take: "{field}" is not an id feature; '
                        f"the id features are {features.ids}"
                    )
        histories = tuple(
            HistoryShape(history.last, tuple(features.ids.index(field) for field in history.take), history.pool)
            for history in features.history.values()
        )
        flags = len(features.number) + len(features.vector)
        return cls(len(features.tables), features.number_columns, flags, width, histories)


@dataclass(frozen=True, slots=True)
class SequenceInput:
    """A history: numbers of its ids, zeros at steps that the mask (1 or 0) leaves out."""

    values_BTCW: torch.Tensor
    mask_BT: torch.Tensor


@dataclass(frozen=True, slots=True)
class ModelInput:
    """A batch as a model sees it: looked-up ids, then pooled bags; numbers, then vectors; flags (1: missing).

    `missing_BM` has a flag for each number, then one for each vector.
    """

    ids_BFW: torch.Tensor
    numbers_BM: torch.Tensor
    missing_BM: torch.Tensor
    histories: tuple[SequenceInput, ...]


@dataclass(frozen=True, slots=True)
class Targets:
    """What a batch teaches, per stage behind the root: -weight (label log p + (1 - label) log(1 - p)).

    `given_BS` weighs the conditional heads (stage given its parent), `entire_BS` the entire-space ones (stage given
    the root). Weights are constants; 0 leaves a head alone.
    """

    labels_BS: torch.Tensor
    given_BS: torch.Tensor
    entire_BS: torch.Tensor


class Model(Protocol):
    """A model is `forward` and `loss`; everything it learns is in its parameters and in table rows."""

    def forward(self, x: ModelInput) -> torch.Tensor:
        """Conditional logits (B, S): column s is stage s + 1 given its parent."""
        ...

    def loss(self, logits_BS: torch.Tensor, targets: Targets) -> torch.Tensor:
        """Sum of the weighted losses of all heads that the model trains, a scalar."""
        ...
