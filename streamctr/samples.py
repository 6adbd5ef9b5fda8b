"""The emission log: what the front half says of each root, row by row. Legend: N rows, K stages, F ids, M numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

OBSERVED: Final = 1
LATE: Final = 2
FINAL: Final = 4
ABSENT: Final = 8
"""The bits of `SampleBatch.says`; a row that says nothing of any stage is an arrived root, to be scored."""

SAYS: Final = {OBSERVED: "observed", LATE: "late", FINAL: "final", ABSENT: "absent"}
"""The bits in words, for people."""

NEVER_MS: Final = np.iinfo(np.int64).min
"""In `at_ms`: the stage had not happened when the row left."""


@dataclass(frozen=True, slots=True)
class History:
    """One behaviour buffer as of the root: T last behaviours, oldest first, zeros behind `length`; C taken ids."""

    ids_NTC: NDArray[np.uint64]
    length: NDArray[np.int32]

    def take(self, index: Any) -> "History":
        """The rows that `index` names."""
        return History(self.ids_NTC[index], self.length[index])


@dataclass(frozen=True, slots=True)
class SampleBatch:
    """Rows of the emission log, in order: a pure function of the events and the config.

    `says` and `label` are (N, K) over the stages of the funnel (column 0, the root, stays 0); `at_ms` (N, K) are the
    times of the stages that had happened, `at_ms[:, 0]` the root's. Features are those of the root at its own time,
    laid out as `FeaturesConfig.ids` and the properties behind it say; a missing number is NaN, already transformed
    otherwise. `value_NV` are the values of the stages in `Funnel.valued`, NaN where the stage had not happened or
    carries none; `weight` is how much the root counts in learning.
    """

    ordinal: NDArray[np.int64]
    emit_ms: NDArray[np.int64]
    root: NDArray[np.uint64]
    says: NDArray[np.uint8]
    label: NDArray[np.uint8]
    at_ms: NDArray[np.int64]
    ids_NF: NDArray[np.uint64]
    numbers_NM: NDArray[np.float32]
    value_NV: NDArray[np.float64]
    weight: NDArray[np.float32]
    histories: tuple[History, ...]

    def __len__(self) -> int:
        return len(self.ordinal)

    @property
    def arrived(self) -> NDArray[np.bool_]:
        """Which rows announce a root, (N,)."""
        return np.asarray(self.says.max(axis=1) == 0)

    def take(self, index: Any) -> "SampleBatch":
        """The rows that `index` (places, a mask or a slice) names, in its order."""
        columns: dict[str, Any] = {name: getattr(self, name)[index] for name in COLUMNS}
        return SampleBatch(**columns, histories=tuple(history.take(index) for history in self.histories))

    @classmethod
    def concat(cls, batches: "Sequence[SampleBatch]") -> "SampleBatch":
        """One batch of all rows, in order."""
        if len(batches) == 1:
            return batches[0]
        columns: dict[str, Any] = {name: np.concatenate([getattr(b, name) for b in batches]) for name in COLUMNS}
        histories = (
            History(np.concatenate([h.ids_NTC for h in same]), np.concatenate([h.length for h in same]))
            for same in zip(*(b.histories for b in batches), strict=True)
        )
        return cls(**columns, histories=tuple(histories))

    def to_arrays(self) -> "dict[str, NDArray[Any]]":
        """Named arrays, for snapshots; `from_arrays` is the way back."""
        arrays = {name: getattr(self, name) for name in COLUMNS}
        for place, history in enumerate(self.histories):
            arrays[f"history{place}.ids"], arrays[f"history{place}.length"] = history.ids_NTC, history.length
        return arrays

    @classmethod
    def from_arrays(cls, arrays: "dict[str, NDArray[Any]]") -> "SampleBatch":
        """The batch that `to_arrays` gave."""
        n_histories = (len(arrays) - len(COLUMNS)) // 2
        histories = (History(arrays[f"history{p}.ids"], arrays[f"history{p}.length"]) for p in range(n_histories))
        columns: dict[str, Any] = {name: arrays[name] for name in COLUMNS}
        return cls(**columns, histories=tuple(histories))


COLUMNS: Final = ("ordinal", "emit_ms", "root", "says", "label", "at_ms", "ids_NF", "numbers_NM", "value_NV", "weight")
