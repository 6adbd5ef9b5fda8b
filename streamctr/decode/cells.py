"""What the parsers of all formats give: the values of each field, as they stand in the messages. Legend: N messages."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Cells:
    """One field of N messages: Arrow arrays of different types, of which at most one holds a message's value.

    Types: string, int64, float64, bool, timestamp, and lists of string, int64, float64 or bool. What is null in all of
    them is missing.
    """

    arrays: tuple[Any, ...]
    strange: dict[int, str] = field(default_factory=dict)
    """What stands where no array can hold it, in words such as "an object", by message."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """The messages of a block that are well formed, and why the others are not."""

    cells: dict[str, Cells]
    """By the field's path."""
    places: NDArray[np.int64]
    """Of each message, its line or row in the block, from 0; (N,), ascending."""
    refused: dict[int, str]
    """By line or row: why it is no message."""
    text: Callable[[int, int], bytes]
    """The bytes of a line or row, as a letter keeps them: of which, and at most how many."""

    @property
    def messages(self) -> int:
        """How many lines or rows were not blank."""
        return len(self.places) + len(self.refused)
