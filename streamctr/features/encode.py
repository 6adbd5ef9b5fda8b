"""Encode once, at the root: a row of columns that waits with the open root and leaves with each of its samples.

Legend: S slots of open roots, F ids, M numbers, L behaviours, C ids taken of each, R rows.
"""

from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from streamctr.features.transforms import local_ms, time_part, transform
from streamctr.hashing import hash_texts
from streamctr.history import HistoryBuffer
from streamctr.join import Joined
from streamctr.names import Names
from streamctr.ports import Arrays
from streamctr.samples import NEVER_MS, History, SampleBatch
from streamctr.schema import FeaturesConfig, Funnel

_PARTS = {"hour": hash_texts([str(hour) for hour in range(24)]), "weekday": hash_texts([str(day) for day in range(7)])}


class Encoder:
    """Gives the rows of a joined chunk their features.

    Args:
        features: what a root is described by.
        funnel: the stages that histories follow.
        zone: of hour and weekday.
        max_users: bound of each history.
        names: told of the values of sliced ids, in release order.
    """

    def __init__(self, features: FeaturesConfig, funnel: Funnel, zone: ZoneInfo, max_users: int, names: Names) -> None:
        self._features, self._zone, self._names = features, zone, names
        self._valued = list(funnel.valued)
        self._stages = [funnel.names.index(history.of) for history in features.history.values()]
        self._taken = [[features.id.index(name) for name in h.take] for h in features.history.values()]
        self._buffers = {name: HistoryBuffer(h, max_users) for name, h in features.history.items()}
        self._open = self._columns(0)
        for part in features.time:
            names.offer(part, {int(value): str(place) for place, value in enumerate(_PARTS[part])})

    def encode(self, joined: Joined) -> SampleBatch:
        """Fill in the chunk's new roots, run the histories over it, and give every row the columns of its root."""
        self._make_room(joined.n_slots)
        roots = joined.joins.stage == 0
        slots, events = joined.joins.slot[roots], joined.joins.event[roots]
        time_ms = joined.joins.time_ms[roots]
        self._fill(slots, joined.events.ids_NF[events], joined.events.numbers_NM[events], time_ms)
        self._open["user"][slots] = joined.events.user[events]
        self._open["weight"][slots] = joined.events.weight[events]
        for place, stage in enumerate(self._valued):
            carries = joined.joins.stage == stage
            self._open["value_NV"][joined.joins.slot[carries], place] = joined.joins.value[carries]
        for place, buffer in enumerate(self._buffers.values()):
            happened = joined.joins.stage == self._stages[place]
            behaved = joined.joins.slot[happened]
            taken = self._open["ids_NF"][behaved][:, self._taken[place]]
            behaviour = (joined.joins.time_ms[happened], self._open["user"][behaved], taken)
            root = (time_ms, self._open["user"][slots], slots)
            buffer.run(root, behaviour, self._open[f"history{place}.ids"], self._open[f"history{place}.length"])
        return self._rows(joined)

    def size_bytes(self) -> dict[str, int]:
        """Bytes of the features of open roots, and of the histories."""
        return {
            "open_features": sum(array.nbytes for array in self._open.values()),
            "histories": sum(buffer.size_bytes() for buffer in self._buffers.values()),
        }

    def state(self) -> Arrays:
        """Features of open roots, by slot, and the histories."""
        arrays = {f"open.{name}": array for name, array in self._open.items()}
        for name, buffer in self._buffers.items():
            arrays |= {f"history.{name}.{field}": array for field, array in buffer.state().items()}
        return arrays

    def restore(self, arrays: Arrays) -> None:
        """Become the encoder that gave `arrays`."""
        self._open = {name: arrays[f"open.{name}"].copy() for name in self._open}
        for name, buffer in self._buffers.items():
            prefix = f"history.{name}."
            buffer.restore({key.removeprefix(prefix): a for key, a in arrays.items() if key.startswith(prefix)})

    def _fill(
        self, slots: NDArray[np.int64], ids: NDArray[np.uint64], raw: NDArray[np.float64], time_ms: NDArray[np.int64]
    ) -> None:
        ids_NF, numbers_NM = self._open["ids_NF"], self._open["numbers_NM"]
        declared = len(self._features.id)
        ids_NF[slots, :declared] = ids
        local = local_ms(time_ms, self._zone)
        for place, part in enumerate(self._features.time):
            ids_NF[slots, declared + place] = _PARTS[part][time_part(local, part)]
        for place, number in enumerate(self._features.number.values()):
            numbers_NM[slots, place] = transform(raw[:, place], number.transform)
        for place, name in enumerate(self._features.ids):
            self._names.claim(name, ids_NF[slots, place])

    def _rows(self, joined: Joined) -> SampleBatch:
        rows, n = joined.rows, len(joined.rows.slot)
        histories = (
            History(self._open[f"history{place}.ids"][rows.slot], self._open[f"history{place}.length"][rows.slot])
            for place in range(len(self._buffers))
        )
        return SampleBatch(
            ordinal=np.arange(joined.first_ordinal, joined.first_ordinal + n),
            emit_ms=rows.emit_ms,
            root=rows.root,
            says=rows.says,
            label=rows.label,
            at_ms=rows.at_ms,
            ids_NF=self._open["ids_NF"][rows.slot],
            numbers_NM=self._open["numbers_NM"][rows.slot],
            value_NV=np.where(rows.at_ms[:, self._valued] == NEVER_MS, np.nan, self._open["value_NV"][rows.slot]),
            weight=self._open["weight"][rows.slot],
            histories=tuple(histories),
        )

    def _columns(self, size: int) -> dict[str, NDArray[Any]]:
        columns: dict[str, NDArray[Any]] = {
            "user": np.zeros(size, np.uint64),
            "ids_NF": np.zeros((size, len(self._features.ids)), np.uint64),
            "numbers_NM": np.zeros((size, len(self._features.numbers)), np.float32),
            "weight": np.zeros(size, np.float32),
            "value_NV": np.zeros((size, len(self._valued)), np.float64),
        }
        for place, history in enumerate(self._features.history.values()):
            columns[f"history{place}.ids"] = np.zeros((size, history.last, len(history.take)), np.uint64)
            columns[f"history{place}.length"] = np.zeros(size, np.int32)
        return columns

    def _make_room(self, n_slots: int) -> None:
        old = len(self._open["user"])
        if n_slots > old:
            larger = self._columns(n_slots)
            for name, column in larger.items():
                column[:old] = self._open[name]
            self._open = larger
