"""What a model reads and offers. Legend: B rows, S stages behind the root, F ids, M numbers, T steps, C columns."""

from dataclasses import dataclass
from typing import Protocol

import torch


@dataclass(frozen=True, slots=True)
class InputShape:
    """Sizes of a run's input; `histories` holds (steps T, columns C) of each."""

    ids: int
    numbers: int
    width: int
    histories: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class SequenceInput:
    """A history: numbers of its ids, zeros at steps that the mask (1 or 0) leaves out."""

    values_BTCW: torch.Tensor
    mask_BT: torch.Tensor


@dataclass(frozen=True, slots=True)
class ModelInput:
    """A batch as a model sees it: looked-up ids, standardised numbers with flags of the missing ones, histories."""

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
