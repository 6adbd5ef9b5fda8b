"""All tables of one width, stacked.

Legend: N samples, P items, C columns, W width, R rows, L room for learned rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from streamctr.errors import ConfigError
from streamctr.finite import is_below
from streamctr.hashing import U64, hash_text, mix
from streamctr.ports import Arrays
from streamctr.schema.features import Pool
from streamctr.tables import kernels
from streamctr.tables.config import TablesConfig
from streamctr.tables.kernels import F32, I64, Columns, Draw, Store
from streamctr.tables.sums import Given, Sums, adagrad_rows, add, clear, new_sums

_BELOW: Final = 40
"""A row's number may change by a gradient smaller than 2^40."""
_HOW: Final[dict[Pool, int]] = {"sum": kernels.SUM, "mean": kernels.MEAN, "max": kernels.MAX}


@dataclass(frozen=True, slots=True)
class Places:
    """Where numbers came from: a slot a column of each sample, or of each of its items."""

    slots: I64
    """(N, C), or (P, C)."""
    columns: Columns
    begin_N: I64 | None = None
    """Where each sample's items begin, and where the last one's end, (N + 1,)."""
    how: int = kernels.EACH


@dataclass(frozen=True, slots=True)
class RowGradients:
    """The gradient of the numbers that a look gave: from column `start` on, as many columns as it wrote."""

    places: Places
    grads_NX: F32
    start: int = 0

    def given(self) -> Given:
        """The same as kernels take it."""
        places = self.places
        begin_N = np.array(() if places.begin_N is None else places.begin_N, np.int64)  # a copy: all are of one type
        return Given(places.slots, begin_N, places.how, self.grads_NX, self.start)


class FusedTable:
    """Turns ids into rows of numbers, and learns the rows that a batch touched.

    A row that nobody learned is not stored: it is a pure function of (seed, table, row), so looking never changes
    anything, and the order of first touch does not matter.

    >>> table = FusedTable(TablesConfig(rows=8), ("video", "author"), width=4, init_std=0.1, seed=0)
    >>> numbers_ND = np.empty((1, 8), np.float32)
    >>> places = table.look(np.array([[7, 9]], np.uint64), table.columns([0, 1]), numbers_ND)
    >>> len(table)
    0
    >>> table.admit([places])
    >>> table.update([RowGradients(places, np.ones((1, 8), np.float32))])
    True
    >>> len(table)
    2
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
        self.width, self._parts = width, 1
        places = [names.index(table) for table in tables]
        self._columns = Columns(salts[places], starts[places], sizes[places])
        self._draw = Draw(starts[:-1], mix(salts ^ mix(np.array([seed], np.uint64))), float(init_std))
        self._step = config.lr, config.eps, config.decay
        self._initial = config.initial_accumulator
        self._allocate(int(starts[-1]))

    def _allocate(self, rows: int) -> None:
        zeros = np.zeros(rows, np.int32), np.zeros(rows, np.int64)
        self._store = Store(*zeros, np.zeros((rows, self.width), np.float32), np.zeros(rows, np.float32))
        self._sums = new_sums(self._parts, 0, self.width)
        self._learned = self._admitted_from = 0

    def __len__(self) -> int:
        """Number of rows that were learned."""
        return self._learned

    @property
    def places(self) -> int:
        """Number of rows that all tables have room for."""
        return len(self._store.slot_R)

    def bytes(self) -> int:
        """Size in bytes of the learned rows: what `state` holds."""
        return self._learned * (4 * self.width + 4 + 8)

    def share_out(self, parts: int) -> None:
        """Learn in so many parts from now on, each for a core of its own; what comes out is the same."""
        self._parts = parts
        self._sums = new_sums(parts, 0, self.width)

    def columns(self, features: Sequence[int]) -> Columns:
        """The columns of ids of these places in `features`, as `look` wants them."""
        places, (salts_C, starts_C, sizes_C) = list(features), self._columns
        return Columns(salts_C[places], starts_C[places], sizes_C[places])

    def rows(self, ids_PC: U64, columns: Columns) -> I64:
        """The row of each id, (P, C)."""
        rows_PC = np.empty(ids_PC.shape, np.int64)
        kernels.find_rows(ids_PC, columns, rows_PC)
        return rows_PC

    def look(self, ids_NC: U64, columns: Columns, out_NX: F32) -> Places:
        """Write the numbers of every id, those of a sample side by side in its first C W columns."""
        slots_NC = np.empty(ids_NC.shape, np.int64)
        kernels.look(ids_NC, columns, self._store, self._draw, (slots_NC, out_NX))
        return Places(slots_NC, columns)

    def pool(self, items: tuple[U64, I64], columns: Columns, how: Pool, out_NX: F32, start: int = 0) -> Places:
        """Write each sample's items combined, zeros where there is none, into C W columns from `start` on.

        `items` are ids (P, C), one sample's behind the other's, and where each sample's begin, (N + 1,).
        """
        ids_PC, begin_N = items
        slots_PC = np.empty(ids_PC.shape, np.int64)
        out = slots_PC, out_NX, start
        kernels.pool((ids_PC, begin_N, _HOW[how]), columns, self._store, self._draw, out)
        return Places(slots_PC, columns, begin_N, _HOW[how])

    def admit(self, looked: Sequence[Places]) -> None:
        """Let the rows of these places that nobody learned come to be: as a look gave them."""
        before = self._admitted_from = self._learned
        for places in looked:
            self._learned = kernels.admit(places.slots, self._store, self._learned)
        if self._learned > before:
            kernels.draw_rows(self._store, self._draw, self._initial, before, self._learned)

    def update(self, gradients: Sequence[RowGradients]) -> bool:
        """One row-wise Adagrad step on the touched rows, all of which must have been admitted.

        Gradients of equal rows are summed in the order given.

        Returns:
            Whether all sums were finite and can be squared; where not, nothing is learned, and rows that were admitted
            last are forgotten.
        """
        if not gradients:
            return True
        sums = self._with_room(sum(gradient.places.slots.size for gradient in gradients))
        good = is_below(add([gradient.given() for gradient in gradients], sums, self._store.weights_LW), _BELOW)
        if good:
            adagrad_rows(sums, self._store, self._step)
        else:
            for part in range(self._parts):
                clear(sums, part)
            kernels.forget(self._store, self._admitted_from, self._learned)
            self._learned = self._admitted_from
        return good

    def state(self) -> Arrays:
        """The learned rows as views, in the order in which they came: `rows` (places), `weights`, `accumulator`."""
        learned = slice(0, self._learned)
        rows = self._store.place_L[learned]
        rows.flags.writeable = False  # once learned, a row stays where it is
        return {
            "rows": rows,
            "weights": self._store.weights_LW[learned],
            "accumulator": self._store.accumulator_L[learned],
        }

    def restore(self, arrays: Arrays) -> None:
        """Hold these rows and no other, in whatever order they come."""
        self._allocate(self.places)
        self._learned = len(arrays["rows"])
        self._store.slot_R[arrays["rows"]] = np.arange(1, self._learned + 1)
        self._store.place_L[: self._learned] = arrays["rows"]
        self._store.weights_LW[: self._learned] = arrays["weights"]
        self._store.accumulator_L[: self._learned] = arrays["accumulator"]

    def _with_room(self, places: int) -> Sums:
        """For the rows of so many places."""
        if self._sums.row_QP.shape[1] < places:
            self._sums = new_sums(self._parts, places, self.width)
        return self._sums


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
