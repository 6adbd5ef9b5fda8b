"""All tables of one width, stacked. Legend: N samples, T steps, C columns, W width, R rows, U distinct rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from streamctr.errors import ConfigError
from streamctr.hashing import U64, hash_text, mix
from streamctr.ports import Arrays
from streamctr.tables import kernels
from streamctr.tables.config import TablesConfig


@dataclass(frozen=True, slots=True)
class RowGradients:
    """The gradient of every row that a batch touched, summed in the order of the batch."""

    rows_U: NDArray[np.int64]
    sums_UW: NDArray[np.float32]
    power_U: NDArray[np.float64]
    """Mean square of each row's gradient."""
    finite: bool


class FusedTable:
    """Turns ids into rows of numbers, and learns the rows that a batch touched.

    A row that nobody learned is not stored: it is a pure function of (seed, table, row), so looking never changes
    anything, and the order of first touch does not matter.

    >>> table = FusedTable(TablesConfig(rows=8), ("video", "author"), width=4, init_std=0.1, seed=0)
    >>> rows_NTC = table.rows(np.array([[7, 9]], np.uint64), np.array([0, 1]))
    >>> numbers_NTCW = torch.zeros(1, 1, 2, 4)
    >>> table.gather(rows_NTC, numbers_NTCW)
    >>> len(table)
    0
    """

    def __init__(self, config: TablesConfig, features: tuple[str, ...], width: int, init_std: float, seed: int) -> None:
        """Lay out the tables of `features` (ids, then bags); memory is committed as rows are learned.

        Raises:
            ConfigError: `shared` names no id or bag feature, or `sizes` no table.
        """
        tables = _tables_of(config, features)
        names = tuple(dict.fromkeys(tables))
        sizes = np.array([config.sizes.get(name, config.rows) for name in names], np.uint64)
        starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        salts = np.array([hash_text(name) for name in names], np.uint64)
        places = np.array([names.index(table) for table in tables], np.int64)
        self.width = width
        self._columns = salts[places], starts[places], sizes[places]
        self._draw = starts[:-1], mix(salts ^ mix(np.array([seed], np.uint64))), float(init_std)
        self._step = config.lr, config.eps, config.decay, config.initial_accumulator
        self._allocate(int(starts[-1]))

    def _allocate(self, rows: int) -> None:
        self._slot_R = np.zeros(rows, np.int32)
        self._weights_RW = np.zeros((rows, self.width), np.float32)
        self._accumulator_R = np.zeros(rows, np.float32)
        self._learned = 0

    def __len__(self) -> int:
        """Number of rows that were learned."""
        return self._learned

    @property
    def places(self) -> int:
        """Number of rows that all tables have room for."""
        return len(self._slot_R)

    def bytes(self) -> int:
        """Size in bytes of the learned rows: what `state` holds."""
        return self._learned * (4 * self.width + 4 + 8)

    def rows(
        self, ids: U64, columns: NDArray[np.int64], length_N: NDArray[np.integer[Any]] | None = None
    ) -> NDArray[np.int64]:
        """Rows (N, T, C) of ids (N, C), with T = 1, or (N, T, C); `columns` (C,) are places in `features`.

        A bag's items are steps of one column. Steps at and behind `length_N` have row -1: their numbers are 0 and they
        learn nothing.
        """
        ids_NTC = ids[:, None, :] if ids.ndim == 2 else ids
        n, steps, _ = ids_NTC.shape
        lengths = np.full(n, steps, np.int64) if length_N is None else length_N.astype(np.int64)
        salts, starts, sizes = self._columns
        rows_NTC = np.empty(ids_NTC.shape, np.int64)
        kernels.find_rows(ids_NTC, lengths, salts[columns], starts[columns], sizes[columns], rows_NTC)
        return rows_NTC

    def gather(self, rows_NTC: NDArray[np.int64], out_BTCW: torch.Tensor) -> None:
        """Write the rows' numbers into contiguous `out_BTCW`; zeros into what lies behind the first N samples."""
        out_BTCW[len(rows_NTC) :].zero_()
        out_PW = out_BTCW[: len(rows_NTC)].numpy().reshape(-1, self.width)
        kernels.gather(rows_NTC.reshape(-1), self._slot_R, self._weights_RW, self._draw, out_PW)

    def sum_gradients(self, rows: Sequence[NDArray[np.int64]], grads: Sequence[NDArray[np.float32]]) -> RowGradients:
        """Sum the gradients of equal rows over all groups; grads (N, T, C, W) may be views with strides of 0."""
        places = sum(group.size for group in rows)
        cells_H = np.zeros(1 << (2 * places).bit_length(), np.int32)
        distinct = np.empty(places, np.int64)
        slots = [np.empty(group.shape, np.int32) for group in rows]
        found = 0
        for group, slot in zip(rows, slots, strict=True):
            found = kernels.number_rows(group.reshape(-1), cells_H, distinct, found, slot.reshape(-1))
        sums_UW, power_U = np.zeros((found, self.width), np.float32), np.empty(found, np.float64)
        for slot, grad in zip(slots, grads, strict=True):
            kernels.add_gradients(slot, grad, sums_UW)
        return RowGradients(distinct[:found], sums_UW, power_U, kernels.mean_squares(sums_UW, power_U))

    def update(self, gradients: RowGradients) -> None:
        """One row-wise Adagrad step on the touched rows; new ones come to be here."""
        summed = gradients.rows_U, gradients.sums_UW, gradients.power_U
        store = self._weights_RW, self._accumulator_R
        self._learned = kernels.adagrad_rows(summed, self._slot_R, store, self._learned, self._draw, self._step)

    def state(self) -> Arrays:
        """The learned rows: `rows` (sorted places), `weights` and `accumulator`."""
        rows = np.flatnonzero(self._slot_R)
        slots = self._slot_R[rows] - 1
        return {"rows": rows, "weights": self._weights_RW[slots], "accumulator": self._accumulator_R[slots]}

    def restore(self, arrays: Arrays) -> None:
        """Hold these rows and no other."""
        self._allocate(len(self._slot_R))
        self._learned = len(arrays["rows"])
        self._slot_R[arrays["rows"]] = np.arange(1, self._learned + 1)
        self._weights_RW[: self._learned] = arrays["weights"]
        self._accumulator_R[: self._learned] = arrays["accumulator"]


def _tables_of(config: TablesConfig, features: tuple[str, ...]) -> tuple[str, ...]:
    """The table of each feature."""
    for feature in config.shared:
        if feature not in features:
            raise ConfigError(f'tables.shared: "{feature}" is not an id feature; these are {features}')
    tables = tuple(config.shared.get(feature, feature) for feature in features)
    for table in config.sizes:
        if table not in tables:
            raise ConfigError(f'tables.sizes: "{table}" is not a table; the tables are {tuple(dict.fromkeys(tables))}')
    return tables
