"""Lookup tables: columns that a table adds to the root, found by one of its ids as of its time.

Legend: N roots, R rows of all versions and one of missing values, F id columns, M number columns.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streamctr.decode import values
from streamctr.decode.cells import Parsed
from streamctr.errors import DataError
from streamctr.features.columns import Layout, RootFields
from streamctr.hashing import U64
from streamctr.schema import FeaturesConfig, LookupConfig

_SINCE_EVER_MS: Final = np.iinfo(np.int64).min


class Lookup:
    """Finds what a table says of roots: of its versions the newest one that holds at the root's time.

    A value is read by the rule for the same value in an event, and as what the features use its field for. Before the
    first version, and of a key that the table lacks, everything is missing.

    Args:
        config: the key, the columns, and from when on each version holds.
        features: as what the fields are used.
        tables: of each version all rows, with the cells of the key's column and of every column taken.
        types: as in `MessagesConfig`, by field.
        named: fields whose texts are to be had from `texts`.

    Raises:
        DataError: a table is empty, has a key twice or none in a row, or a value that is not good.
    """

    def __init__(
        self,
        config: LookupConfig,
        features: FeaturesConfig,
        tables: Sequence[Parsed],
        types: Mapping[str, str],
        named: Collection[str] = (),
    ) -> None:
        self.key: Final = config.key
        self._config, self._features, self._types = config, features, types
        self._layout = _layout(config, features)
        self.texts: Final[dict[str, dict[int, str]]] = {name: {} for name in self._layout.ids if name in named}
        """What the hashes of the named fields stand for."""
        read = [self._read(version.file, table) for version, table in zip(config.versions, tables, strict=True)]
        ids_1F = np.zeros((1, self._layout.n_ids), np.uint64)
        numbers_1M = np.full((1, self._layout.n_numbers), np.nan)
        self._keys = [keys for keys, _, _ in read]
        self._ids_RF = np.concatenate([*(ids for _, ids, _ in read), ids_1F])
        self._numbers_RM = np.concatenate([*(numbers for _, _, numbers in read), numbers_1M])
        self._begins = np.cumsum([0, *map(len, self._keys)])
        starts = (version.from_ms for version in config.versions)
        self._from_ms = np.array([_SINCE_EVER_MS if ms is None else ms for ms in starts], np.int64)

    def apply(self, key_N: U64, time_ms_N: NDArray[np.int64]) -> RootFields:
        """The fields taken, of roots with these keys at these times."""
        versions = np.searchsorted(self._from_ms, time_ms_N, side="right") - 1
        row_N = np.full(len(key_N), self._begins[-1])
        for version in np.unique(versions[versions >= 0]).tolist():
            at = np.flatnonzero(versions == version)
            keys, wanted = self._keys[version], key_N[at]
            places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
            found = keys[places] == wanted
            row_N[at[found]] = self._begins[version] + places[found]
        return self._layout.split(self._ids_RF[row_N], self._numbers_RM[row_N])

    def size_bytes(self) -> int:
        """Bytes of all versions."""
        return sum(array.nbytes for array in (self._ids_RF, self._numbers_RM, *self._keys))

    def _read(self, file: str, table: Parsed) -> tuple[U64, U64, NDArray[np.float64]]:
        """Keys in ascending order, and the matrices of their rows."""
        n = len(table.places)
        if n == 0:
            raise DataError(f"{file}: a lookup table without a row finds nothing; name another file, or leave it out")
        keys, order = self._ordered_keys(file, table)
        ids_NF, numbers_NM = np.empty((n, self._layout.n_ids), np.uint64), np.empty((n, self._layout.n_numbers))
        self._layout.fill(self._fields(file, table), ids_NF, numbers_NM)
        return keys, ids_NF[order], numbers_NM[order]

    def _ordered_keys(self, file: str, table: Parsed) -> tuple[U64, NDArray[np.int64]]:
        name = self._config.column or self.key
        column = self._good(
            file, table, name, values.ids(table.cells[name], len(table.places), self._integer(self.key))
        )
        for row in np.flatnonzero(column.missing)[:1].tolist():
            raise DataError(f'{file}: row {table.places[row] + 1} has no key "{name}"; give it one, or take it out')
        order = np.argsort(column.values, kind="stable")
        keys = column.values[order]
        for place in np.flatnonzero(keys[1:] == keys[:-1])[:1].tolist():
            first, again = order[place], order[place + 1]
            raise DataError(
                f"{file}: rows {table.places[first] + 1} and {table.places[again] + 1} both have the {name} "
                f'"{_shown(table.cells[name], int(first))}"; leave one row of each key'
            )
        return keys, order

    def _fields(self, file: str, table: Parsed) -> RootFields:
        n, layout, fields = len(table.places), self._layout, RootFields({}, {}, {}, {})

        def good(field: str, column: values.Column) -> Any:
            return self._good(file, table, self._config.take[field], column).values

        cells = {field: table.cells[column] for field, column in self._config.take.items()}
        for name in layout.ids:
            column = values.ids(cells[name], n, self._integer(name))
            fields.ids[name] = good(name, column)
            if name in self.texts:
                self.texts[name].update(column.named())
        for name in layout.bags:
            bag = values.bag(cells[name], n, self._features.bag[name], self._integer(name))
            fields.bags[name] = good(name, bag)
        fields.numbers.update({name: good(name, values.numbers(cells[name], n)) for name in layout.numbers})
        fields.vectors.update(
            {name: good(name, values.vector(cells[name], n, size)) for name, size in layout.vectors.items()}
        )
        return fields

    def _good(self, file: str, table: Parsed, name: str, column: values.Column) -> values.Column:
        for row in sorted(column.faults)[:1]:
            raise DataError(f'{file}: row {table.places[row] + 1}: "{name}" {column.faults[row]}; mend the table')
        return column

    def _integer(self, field: str) -> bool:
        return self._types.get(field) == "integer"


def _layout(config: LookupConfig, features: FeaturesConfig) -> Layout:
    """What a lookup is to read, each field as all that it is used for."""
    keys = (lookup.key for lookup in features.lookup.values())
    ids = {*features.id, *(name for names in features.cross for name in names), *keys}
    numbers = {*features.number, *(bucket.of for bucket in features.bucket.values())}
    return Layout(
        tuple(name for name in config.take if name in ids),
        {name: features.bag[name].most for name in config.take if name in features.bag},
        tuple(name for name in config.take if name in numbers),
        {name: features.vector[name] for name in config.take if name in features.vector},
    )


def _shown(cells: values.Field, row: int) -> str:
    return next(str(array[row].as_py()) for array in cells.arrays if array[row].is_valid)
