"""The fields of a stage's messages by their roles, and why some of the messages are malformed. Legend: N messages."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from streamctr.decode.cells import Cells
from streamctr.decode.faults import Bools, Faults
from streamctr.decode.scalars import read_id_table, read_number_table
from streamctr.decode.spans import Fields, Spans
from streamctr.decode.tokens import FALSE, PARSED, TRUE
from streamctr.decode.values import Column, Field, ids, numbers, texts
from streamctr.hashing import U64, hash_text

_EMPTY_ID: Final = np.uint64(hash_text(""))


class Reading:
    """N messages of one stage. The first thing that is wrong with a message is why it is malformed.

    Args:
        cells: their fields.
        n: how many messages there are.
        integers: fields whose ids are whole numbers.
    """

    def __init__(self, cells: Mapping[str, Field], n: int, integers: frozenset[str]) -> None:
        self.cells, self.n = cells, n
        self.reasons: Faults = {}
        """By message."""
        self._integers = integers
        self._ids: dict[str, Column] = {}

    def read(self, role: str, name: str, rule: Callable[[Field, int], Column]) -> Column:
        """A field by one of the rules of `values`."""
        column = rule(self.cells[name], self.n)
        self.fault(role, name, column.faults)
        return column

    def fault(self, role: str, name: str, faults: Faults) -> None:
        """What is wrong with a field, in words that go behind its name."""
        for row, fault in faults.items():
            self.reasons.setdefault(row, f'{role} "{name}" {fault}')

    def require(self, role: str, name: str, missing: Bools) -> None:
        """These messages miss a field that they need."""
        self.fault(role, name, dict.fromkeys(np.flatnonzero(missing).tolist(), "is missing"))

    def is_integer(self, name: str) -> bool:
        """Whether the ids of this field are whole numbers."""
        return name in self._integers

    def ids(self, name: str, role: str = "id") -> Column:
        """Single ids of a field; hashed once, whatever their roles."""
        if name not in self._ids:
            self._ids[name] = ids(self.cells[name], self.n, name in self._integers)
        self.fault(role, name, self._ids[name].faults)
        return self._ids[name]

    def id_table(self, names: tuple[str, ...], ids_NF: U64) -> None:
        """Write single ids of several fields as the first columns of a table."""
        rest: Iterable[int] = range(len(names))
        if isinstance(self.cells, Fields):
            fields_F, rest_F = self.cells.rows_of(names), np.zeros(len(names), np.int64)
            integers_F = np.array([name in self._integers for name in names], np.bool_)
            read_id_table(self.cells.text, self.cells.spans_WN, fields_F, integers_F, ids_NF, rest_F)
            rest = np.flatnonzero(rest_F).tolist()
        for place in rest:
            ids_NF[:, place] = self.ids(names[place]).values

    def number_table(self, names: tuple[str, ...], numbers_NM: NDArray[np.float64]) -> None:
        """Write numbers of several fields as the first columns of a table."""
        rest: Iterable[int] = range(len(names))
        if isinstance(self.cells, Fields):
            fields_M, rest_M = self.cells.rows_of(names), np.zeros(len(names), np.int64)
            read_number_table(self.cells.text, self.cells.spans_WN, fields_M, numbers_NM, rest_M)
            rest = np.flatnonzero(rest_M).tolist()
        for place in rest:
            numbers_NM[:, place] = self.read("number", names[place], numbers).values

    def key(self, names: tuple[str, ...]) -> U64:
        """The root's id, (N,): every field must be there, none may be empty or a boolean."""
        for name in names:
            self._refuse_booleans(name)
        if len(names) > 1:
            return self._joined("key", names, required=True)
        column = self.ids(names[0], "key")
        self.require("key", names[0], column.missing)
        self._refuse_empty(names[0], column.values == _EMPTY_ID)
        return column.values

    def user(self, names: tuple[str, ...]) -> U64:
        """The user's id, (N,); missing where one of the fields is, or none is named."""
        if len(names) > 1:
            return self._joined("id", names, required=False)
        return self.ids(names[0]).values if names else np.zeros(self.n, np.uint64)

    def _joined(self, role: str, names: Iterable[str], required: bool) -> U64:
        """The ids of several fields' canonical texts with colons between them.

        So a message of another stage may have the same key as one text. It also makes "a:b" and "c" what "a" and "b:c"
        are: values with colons belong behind those without.
        """
        parts = []
        for name in names:
            part, faults = texts(self.cells[name], self.n, name in self._integers)
            self.fault(role, name, faults)
            if required:
                self.require(role, name, _mask(part.is_null()))
                self._refuse_empty(name, _mask(pc.equal(part, "").fill_null(False)))
            parts.append(part)
        return ids(Cells((pc.binary_join_element_wise(*parts, ":"),)), self.n).values

    def _refuse_empty(self, name: str, empty: Bools) -> None:
        self.fault("key", name, dict.fromkeys(np.flatnonzero(empty).tolist(), "is empty"))

    def _refuse_booleans(self, name: str) -> None:
        cells = self.cells[name]
        if isinstance(cells, Spans) and not cells.present & {TRUE, FALSE, PARSED}:
            return
        for array in cells.arrays:
            if pa.types.is_boolean(array.type):
                self.fault("key", name, dict.fromkeys(np.flatnonzero(_mask(array.is_valid())).tolist(), "is a boolean"))


def _mask(column: Any) -> NDArray[np.bool_]:
    return np.asarray(column.to_numpy(zero_copy_only=False))
