"""The emission log: what the front half says of each root, row by row.

Legend: N rows, K stages, F ids, M numbers, P behaviours, T of them at most, C ids of each.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from itertools import accumulate
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streamctr.kernel import kernel

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

OBSERVED: Final = 1
LATE: Final = 2
FINAL: Final = 4
ABSENT: Final = 8
"""The bits of `SampleBatch.says`; a row that says nothing of any stage is an arrived root, to be scored."""

SAYS: Final = {OBSERVED: "observed", LATE: "late", FINAL: "final", ABSENT: "absent"}
"""The bits in words, for people."""

NEVER_MS: Final = np.iinfo(np.int64).min
"""In `at_ms`: the stage had not happened when the row left."""


@kernel
def gather_spans(ids_X: U64, begin_N: I64, length_N: NDArray[np.int32], columns: int, out_X: U64) -> None:
    """Put rows of so many columns one behind the other: of each span where it begins, and how many rows it has."""
    at = 0
    for span in range(len(begin_N)):
        begin, count = begin_N[span] * columns, length_N[span] * columns
        from_X, to_X = ids_X[begin : begin + count], out_X[at : at + count]
        for x in range(len(from_X)):
            to_X[x] = from_X[x]
        at += count


@dataclass(frozen=True)
class History:
    """One behaviour buffer as of N roots: the last behaviours of each, oldest first, root behind root.

    >>> history = History.of_padded(np.array([[[5], [6]], [[7], [0]]], np.uint64), np.array([2, 1], np.int32))
    >>> history.ids_PC.tolist(), history.take([1]).padded().tolist()
    ([[5], [6], [7]], [[[7], [0]]])
    """

    ids_PC: U64
    """C taken ids of each of the P behaviours, contiguous."""
    length: NDArray[np.int32]
    """How many behaviours each root has, (N,); P together."""
    steps: int
    """T: the most that a root may have."""

    @classmethod
    def of_padded(cls, ids_NTC: U64, length: NDArray[np.int32]) -> "History":
        """The behaviours of each root that stand before its `length`."""
        return cls(ids_NTC[np.arange(ids_NTC.shape[1]) < length[:, None]], length, ids_NTC.shape[1])

    @classmethod
    def of_places(cls, ids_STC: U64, length_S: NDArray[np.int32], places: I64) -> "History":
        """Those of the roots at `places` of padded columns that hold many."""
        _, steps, taken = ids_STC.shape
        return _spans([(ids_STC.reshape(-1, taken), places * steps, length_S.take(places))], steps)

    def padded(self) -> U64:
        """All of them padded to T, zeros behind `length`: for logs and people."""
        ids_NTC = np.zeros((len(self.length), self.steps, self.ids_PC.shape[1]), np.uint64)
        ids_NTC[np.arange(self.steps) < self.length[:, None]] = self.ids_PC
        return ids_NTC

    @cached_property
    def begin(self) -> I64:
        """Where each root's behaviours begin in `ids_PC`, and where the last one's end, (N + 1,)."""
        begin = np.zeros(len(self.length) + 1, np.int64)
        np.cumsum(self.length, out=begin[1:])
        return begin

    def take(self, index: Any) -> "History":
        """The rows that `index` names."""
        begin = self.begin
        if isinstance(index, slice) and index.step in (None, 1):
            first, last, _ = index.indices(len(self.length))
            return History(self.ids_PC[begin[first] : begin[max(first, last)]], self.length[index], self.steps)
        return History.gather([(self, np.arange(len(self.length))[index])])

    @classmethod
    def gather(cls, pieces: "Sequence[tuple[History, I64]]") -> "History":
        """One of the rows at places of others, in order; each is copied once."""
        parts = [(h.ids_PC, h.begin.take(at), h.length.take(at)) for h, at in pieces]
        return _spans(parts, pieces[0][0].steps)

    @classmethod
    def concat(cls, parts: "Sequence[History]") -> "History":
        """One of all rows, in order."""
        ids, length = (np.concatenate([getattr(part, name) for part in parts]) for name in ("ids_PC", "length"))
        return cls(ids, length, parts[0].steps)


def _spans(parts: list[tuple[U64, I64, NDArray[np.int32]]], steps: int) -> History:
    """The spans of rows that begin in an array and are so long, of several one behind the other."""
    ends = list(accumulate(int(length.sum()) for _, _, length in parts))
    out = np.empty((ends[-1], parts[0][0].shape[1]), np.uint64)
    for (ids, begin, length), start, end in zip(parts, [0, *ends], ends, strict=False):
        ids_X, columns, out_X = ids.reshape(-1), out.shape[1], out[start:end].reshape(-1)
        gather_spans(ids_X, begin, length, columns, out_X)
    lengths = [length for _, _, length in parts]
    return History(out, lengths[0] if len(lengths) == 1 else np.concatenate(lengths), steps)


@kernel
def gather_rows(columns: Any, places: I64, begin: int, into: Any) -> None:
    """Copy the rows at places of a batch's columns into others, from `begin` on: one call for all of them."""
    ordinal, emit_ms, root, says, label, at_ms, ids, numbers, value, weight = columns
    for row in range(len(places)):
        of, to = places[row], begin + row
        into[0][to] = ordinal[of]
        into[1][to] = emit_ms[of]
        into[2][to] = root[of]
        for stage in range(says.shape[1]):
            into[3][to, stage] = says[of, stage]
            into[4][to, stage] = label[of, stage]
            into[5][to, stage] = at_ms[of, stage]
        for column in range(ids.shape[1]):
            into[6][to, column] = ids[of, column]
        for column in range(numbers.shape[1]):
            into[7][to, column] = numbers[of, column]
        for column in range(value.shape[1]):
            into[8][to, column] = value[of, column]
        into[9][to] = weight[of]


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
        return np.asarray(self.said == 0)

    @property
    def said(self) -> NDArray[np.uint8]:
        """All bits that each row says of any stage, (N,)."""
        return reduce(np.bitwise_or, self.says.T)  # column by column: a reduction of short rows takes ten times as long

    def undescribed(self) -> "SampleBatch":
        """The same without ids, numbers and histories of the roots."""
        ids_NF, numbers_NM = np.empty((len(self), 0), np.uint64), np.empty((len(self), 0), np.float32)
        return replace(self, ids_NF=ids_NF, numbers_NM=numbers_NM, histories=())

    def take(self, index: Any) -> "SampleBatch":
        """The rows that `index` (places, a mask or a slice) names, in its order."""
        if not isinstance(index, slice):
            return SampleBatch.gather([(self, np.arange(len(self))[index])])
        columns: dict[str, Any] = {name: getattr(self, name)[index] for name in COLUMNS}
        return SampleBatch(**columns, histories=tuple(history.take(index) for history in self.histories))

    @classmethod
    def gather(cls, pieces: "Sequence[tuple[SampleBatch, I64]]") -> "SampleBatch":
        """One batch of the rows at places of others, in order; each is copied once."""
        rows, begin = sum(len(places) for _, places in pieces), 0
        into = tuple(np.empty((rows, *c.shape[1:]), c.dtype) for c in pieces[0][0]._columns())
        for batch, places in pieces:
            gather_rows(batch._columns(), places, begin, into)
            begin += len(places)
        histories = (
            History.gather([(batch.histories[number], places) for batch, places in pieces])
            for number in range(len(pieces[0][0].histories))
        )
        columns: dict[str, Any] = dict(zip(COLUMNS, into, strict=True))
        return cls(**columns, histories=tuple(histories))

    def _columns(self) -> "tuple[NDArray[Any], ...]":
        return tuple(getattr(self, name) for name in COLUMNS)

    @classmethod
    def concat(cls, batches: "Sequence[SampleBatch]") -> "SampleBatch":
        """One batch of all rows, in order."""
        if len(batches) == 1:
            return batches[0]
        columns: dict[str, Any] = {name: np.concatenate([getattr(b, name) for b in batches]) for name in COLUMNS}
        histories = map(History.concat, zip(*(b.histories for b in batches), strict=True))
        return cls(**columns, histories=tuple(histories))

    def to_arrays(self) -> "dict[str, NDArray[Any]]":
        """Named arrays, for snapshots; `from_arrays` is the way back."""
        arrays = {name: getattr(self, name) for name in COLUMNS}
        for place, history in enumerate(self.histories):
            arrays[f"history{place}.ids"], arrays[f"history{place}.length"] = history.padded(), history.length
        return arrays

    @classmethod
    def from_arrays(cls, arrays: "dict[str, NDArray[Any]]") -> "SampleBatch":
        """The batch that `to_arrays` gave."""
        n_histories = (len(arrays) - len(COLUMNS)) // 2
        padded = ((arrays[f"history{p}.ids"], arrays[f"history{p}.length"]) for p in range(n_histories))
        columns: dict[str, Any] = {name: arrays[name] for name in COLUMNS}
        return cls(**columns, histories=tuple(History.of_padded(*pair) for pair in padded))


COLUMNS: Final = ("ordinal", "emit_ms", "root", "says", "label", "at_ms", "ids_NF", "numbers_NM", "value_NV", "weight")
