"""Stages that fields of another stage's messages tell of: a flag or several, a time. Legend: N messages."""

import re
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from streamctr.decode.cells import Cells
from streamctr.decode.faults import Bools
from streamctr.decode.reading import Reading
from streamctr.decode.values import Column, Field, flags, numbers, texts, times
from streamctr.errors import ConfigError
from streamctr.schema import Stage, TimeConfig

_COMPARE: Final = {">=": np.greater_equal, ">": np.greater, "<=": np.less_equal, "<": np.less}
_COMPARISON: Final = re.compile(r"(>=|>|<=|<)\s*(\S+)")


class Condition:
    """One field of `when`: a flag that must be set, one of some texts, or a number that compares so.

    Raises:
        ConfigError: what begins like a comparison has no number.
    """

    def __init__(self, stage: str, field: str, wanted: tuple[str, ...]) -> None:
        self.field = field
        self._texts = tuple(text for text in wanted if text[:1] not in ("<", ">"))
        self._comparisons = [_comparison(stage, field, text) for text in wanted if text[:1] in ("<", ">")]

    def holds(self, reading: Reading) -> Bools:
        """Of which messages it holds, (N,); of none where the field is missing."""
        if self._comparisons and not self._texts:
            return self._compare(reading.read("number", self.field, numbers))
        if not self._texts:
            return np.asarray(reading.read("flag", self.field, flags).values)
        integer = reading.is_integer(self.field)
        found, faults = texts(reading.cells[self.field], reading.n, integer)
        wanted, _ = texts(Cells((pa.array(self._texts),)), len(self._texts), integer)
        held = np.asarray(pc.is_in(found, value_set=wanted.drop_null()).to_numpy(zero_copy_only=False))
        if self._comparisons:  # a value must be good for one of the two
            column = numbers(reading.cells[self.field], reading.n)
            held |= self._compare(column)
            faults = {row: fault for row, fault in faults.items() if row in column.faults}
        reading.fault("id", self.field, faults)
        return held

    def _compare(self, column: Column) -> Bools:
        held = np.zeros(len(column.values), np.bool_)
        for compare, bound in self._comparisons:
            held |= compare(column.values, bound)
        return held


class Derived:
    """When a stage happened, by the fields of the messages that tell of it.

    Args:
        place: of the stage in the funnel.
        stage: what it is told by.
        time: how times are written; its field is not looked at.
    """

    def __init__(self, place: int, stage: Stage, time: TimeConfig) -> None:
        self.place, self.config, self._time = place, stage.config, time
        self._when = [Condition(stage.name, field, wanted) for field, wanted in stage.config.when.items()]

    def fields(self) -> tuple[str, ...]:
        """What is read."""
        fields = (*(condition.field for condition in self._when), self.config.at, self.config.value)
        return tuple(field for field in fields if field is not None)

    def read(
        self, reading: Reading, time_ms: NDArray[np.int64]
    ) -> tuple[Bools, NDArray[np.int64], NDArray[np.float64]]:
        """Of which messages it happened, when, and with what value, (N,) each; `time_ms` are the messages' own."""
        happened, at_ms = np.ones(reading.n, np.bool_), time_ms
        for condition in self._when:
            happened &= condition.holds(reading)
        if self.config.at is not None:
            column = reading.read("time", self.config.at, lambda cells, n: times(_without_empty(cells), n, self._time))
            happened &= ~column.missing
            at_ms = column.values
        value = np.full(reading.n, np.nan)
        if self.config.value is not None:
            value = reading.read("number", self.config.value, numbers).values
        return happened, np.where(happened, at_ms, 0) + self.config.delay, value


def _comparison(stage: str, field: str, text: str) -> tuple[Any, float]:
    parts = _COMPARISON.fullmatch(text.strip())
    try:
        return _COMPARE[parts[1]], float(parts[2])  # type: ignore[index]
    except (TypeError, ValueError):
        raise ConfigError(f'{stage}.when.{field}: "{text}" compares with no number; write one as in ">= 4"') from None


def _without_empty(cells: Field) -> Cells:
    """An empty text is missing, as in a CSV record."""
    arrays = (pc.if_else(pc.equal(a, ""), None, a) if pa.types.is_string(a.type) else a for a in cells.arrays)
    return Cells(tuple(arrays), cells.strange)
