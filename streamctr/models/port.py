"""What a model reads and offers. Legend: B rows, S stages behind the root, M numbers,
P behaviours of all rows, W width, D numbers of a behaviour, X numbers that were looked up."""

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

    @property
    def looked(self) -> int:
        """Columns of `ModelInput.looked_BX`."""
        pooled = sum(len(history.targets) for history in self.histories if history.pool != "attention")
        return self.width * (self.ids + pooled)

    @property
    def dense(self) -> int:
        """Columns of `ModelInput.dense_BM`."""
        return self.numbers + self.flags

    @property
    def sequences(self) -> tuple[HistoryShape, ...]:
        """The histories that a model combines itself."""
        return tuple(history for history in self.histories if history.pool == "attention")


@dataclass(frozen=True, slots=True)
class SequenceInput:
    """A history that a model combines itself, one row's behaviours behind the other's, oldest first."""

    keys_PD: torch.Tensor
    """Of each behaviour, the numbers of the ids it consists of, side by side."""
    length_B: torch.Tensor
    """How many of them each row has, int32."""
    root_BD: torch.Tensor
    """The root's own numbers of the same fields."""
    room_BD: torch.Tensor | None = None
    """Where a model may write what it makes of them: behind `dense_BM` in memory."""


@dataclass(frozen=True, slots=True)
class ModelInput:
    """A batch as a model sees it.

    `looked_BX` has W numbers for every id, then for every bag, then for every field of the histories that are pooled.
    `dense_BM` are numbers, then vectors, then a flag (1: missing) for each number and vector. Both lie side by side in
    memory.
    """

    looked_BX: torch.Tensor
    dense_BM: torch.Tensor
    sequences: tuple[SequenceInput, ...] = ()


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
