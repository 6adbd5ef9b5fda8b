"""Messages of one stage to events: its own, and those of the stages that their fields tell of.

Legend: N messages, F id columns, M number columns.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamctr.decode.derived import Derived
from streamctr.decode.faults import Faults
from streamctr.decode.reading import Reading
from streamctr.decode.values import Field, bag, numbers, times, vector
from streamctr.events import EventBatch
from streamctr.hashing import U64, combine
from streamctr.names import Names
from streamctr.schema import FeaturesConfig, Funnel, MessagesConfig, instant_text

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]

_WEIGHT_MAX: Final = float(np.finfo(np.float32).max)
"""A larger one would be infinite in the samples, and every step with it would be lost."""


_AHEAD: Final = "not within what its record's own timestamp allows"


@dataclass(frozen=True, slots=True)
class Told:
    """What the messages of one stage tell."""

    events: EventBatch
    """One for each good message."""
    good: I64
    """Which messages those are, ascending."""
    derived: list[tuple[EventBatch, I64]]
    """Events of other stages, and the messages that told of them."""
    reasons: Faults
    """Why the other messages are malformed."""
    early: list[tuple[int, int, str]]
    """Derived events that are rejected: message, stage, reason."""


class StageReader:
    """Reads the messages of one stage.

    Args:
        config: where things stand in messages.
        funnel: all stages.
        features: what a root carries.
        place: of the stage in the funnel.
        names: gets the texts of the ids that it looks for.
    """

    def __init__(
        self, config: MessagesConfig, funnel: Funnel, features: FeaturesConfig, place: int, names: Names
    ) -> None:
        stage = funnel.stages[place].config
        self._place, self._features, self._names = place, features, names
        self._key = stage.key or config.key
        self._time = config.time.model_copy(update={"field": stage.time or config.time.field})
        self._user = config.user if place == 0 else ()
        self._weight = config.weight if place == 0 else None
        self._value = stage.value
        self._integers = frozenset(name for name, kind in config.types.items() if kind == "integer")
        told = [(k, s) for k, s in enumerate(funnel.stages) if s.told_by == place and k != place]
        self._derived = [Derived(k, s, config.time) for k, s in told]

    def fields(self) -> tuple[str, ...]:
        """The fields that are read."""
        root = self._features if self._place == 0 else FeaturesConfig()
        ids = (*self._key, *self._user, *root.event_ids, *root.event_bags)
        numbers = (*root.event_numbers, *root.event_vectors, self._weight, self._value)
        derived = (field for one in self._derived for field in one.fields())
        named = (*ids, *numbers, self._time.field, *derived)
        return tuple(dict.fromkeys(name for name in named if name is not None))

    def read(self, cells: Mapping[str, Field], n: int, latest_ms: I64 | None = None) -> Told:
        """The events of `n` messages, none of which happens behind its `latest_ms`, (N,)."""
        reading = Reading(cells, n, self._integers)
        root = reading.key(self._key)
        time = reading.read("time", self._time.field, partial(times, config=self._time))
        reading.require("time", self._time.field, time.missing)
        if latest_ms is not None:
            ahead = np.flatnonzero(time.values > latest_ms).tolist()
            said = {row: f"is {instant_text(int(time.values[row]))}, {_AHEAD}" for row in ahead}
            reading.fault("time", self._time.field, said)
        if self._place == 0:
            events = self._roots(reading, time.values, root)
        else:
            events = self._children(self._place, time.values, root, self._number(reading, self._value))
        derived = [(one, *one.read(reading, time.values)) for one in self._derived]
        good = np.ones(n, np.bool_)
        good[list(reading.reasons)] = False
        told, early = [], []
        for one, happened, at_ms, value in derived:
            before = happened & good & (at_ms < time.values)
            reason = f'time "{one.config.at}" is before "{self._time.field}", the time of the message that tells of it'
            early += [(row, one.place, reason) for row in np.flatnonzero(before).tolist()]
            rows = np.flatnonzero(happened & good & ~before)
            told.append((self._children(one.place, at_ms[rows], root[rows], value[rows]), rows))
        rows = np.flatnonzero(good)
        return Told(events if len(rows) == n else events.take(rows), rows, told, reading.reasons, early)

    def _roots(self, reading: Reading, time_ms: I64, root: U64) -> EventBatch:
        n, user = reading.n, reading.user(self._user)
        ids_NF, numbers_NM = self._ids(reading), self._numbers(reading)
        weight, value = self._weights(reading), self._number(reading, self._value)
        stage = np.zeros(n, np.int64)
        hashed = [time_ms.view(np.uint64), stage.view(np.uint64), root, user, ids_NF, numbers_NM.view(np.uint64)]
        hashed += [value.view(np.uint64)] if self._value is not None else []
        hashed += [weight.view(np.uint64)] if self._weight is not None else []
        return EventBatch(time_ms, stage, root, user, ids_NF, numbers_NM, combine(hashed), value, weight)

    def _ids(self, reading: Reading) -> U64:
        """Single ids, then bags, (N, F)."""
        features = self._features
        ids_NF = np.empty((reading.n, features.event_id_columns), np.uint64)
        reading.id_table(features.event_ids, ids_NF)
        for name in filter(self._names.wants, features.event_ids):
            self._names.offer(name, reading.ids(name).named())
        at = len(features.event_ids)
        for name, config in features.event_bags.items():
            column = reading.read("bag", name, partial(bag, config=config, integer=reading.is_integer(name)))
            ids_NF[:, at : at + config.most] = column.values
            at += config.most
        return ids_NF

    def _numbers(self, reading: Reading) -> F64:
        """Single numbers, then vectors, (N, M)."""
        features = self._features
        numbers_NM = np.empty((reading.n, features.event_number_columns))
        reading.number_table(features.event_numbers, numbers_NM)
        at = len(features.event_numbers)
        for name, size in features.event_vectors.items():
            numbers_NM[:, at : at + size] = reading.read("vector", name, partial(vector, size=size)).values
            at += size
        return numbers_NM

    def _children(self, place: int, time_ms: I64, root: U64, value: F64) -> EventBatch:
        n, features = len(time_ms), self._features
        stage = np.full(n, place, np.int64)
        return EventBatch(
            time_ms=time_ms,
            stage=stage,
            root=root,
            user=np.zeros(n, np.uint64),
            ids_NF=np.zeros((n, features.event_id_columns), np.uint64),
            numbers_NM=np.full((n, features.event_number_columns), np.nan),
            content=combine([time_ms.view(np.uint64), stage.view(np.uint64), root, value.view(np.uint64)]),
            value=value,
            weight=np.ones(n),
        )

    def _weights(self, reading: Reading) -> F64:
        if self._weight is None:
            return np.ones(reading.n)
        weight = self._number(reading, self._weight)
        outside = np.flatnonzero((weight < 0) | (weight > _WEIGHT_MAX)).tolist()
        wanted = "not 0 or more and within 32 bits"
        reading.fault("weight", self._weight, {row: f"is {weight[row]:g}, {wanted}" for row in outside})
        return np.where(np.isnan(weight), 1.0, weight)

    @staticmethod
    def _number(reading: Reading, name: str | None) -> F64:
        return np.full(reading.n, np.nan) if name is None else reading.read("number", name, numbers).values
