"""Encode once, at the root: a row of columns that waits with the open root and leaves with each of its samples.

Legend: S slots of open roots, N roots, K stages, F ids, M numbers, V values, L behaviours, C ids taken of each, R rows.
"""

from collections.abc import Mapping
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from streamctr.events import EventBatch, spread
from streamctr.features.columns import RootFields
from streamctr.features.lookup import Lookup
from streamctr.features.roots import RootColumns
from streamctr.history import HistoryBuffer
from streamctr.join import Joined
from streamctr.names import Names
from streamctr.ports import Arrays
from streamctr.samples import NEVER_MS, History, SampleBatch
from streamctr.schema import FeaturesConfig, Funnel

NO_LOOKUPS: Final[Mapping[str, Lookup]] = {}


class Encoder:
    """Gives the rows of a joined chunk their features.

    Args:
        features: what a root is described by.
        funnel: the stages that histories follow.
        zone: of hour and weekday.
        max_users: bound of each history.
        names: told of the values of sliced ids, in release order.
        lookups: those that the features declare, by name.

    Raises:
        ConfigError: a lookup's key is not known where it stands.
    """

    def __init__(
        self,
        features: FeaturesConfig,
        funnel: Funnel,
        zone: ZoneInfo,
        max_users: int,
        names: Names,
        lookups: Mapping[str, Lookup] = NO_LOOKUPS,
    ) -> None:
        self._features, self._names, self._n_stages = features, names, len(funnel.stages)
        self._roots = RootColumns(features, zone, lookups)
        self._lookup_texts = {name: texts for lookup in lookups.values() for name, texts in lookup.texts.items()}
        self._valued = list(funnel.valued)
        self._stages = [funnel.names.index(history.of) for history in features.history.values()]
        self._taken = [[features.ids.index(name) for name in h.take] for h in features.history.values()]
        self._buffers = {name: HistoryBuffer(h, max_users) for name, h in features.history.items()}
        self._open = self._columns(0)
        for name, texts in self._roots.texts.items():
            names.offer(name, texts)
        self._named = [name for name in features.ids if names.wants(name)]

    def encode(self, joined: Joined) -> SampleBatch:
        """Fill in the chunk's new roots, run the histories over it, and give every row the columns of its root."""
        self._make_room(joined.n_slots)
        roots = joined.joins.stage == 0
        slots, events = joined.joins.slot[roots], joined.joins.event[roots]
        time_ms = joined.joins.time_ms[roots]
        ids_NF, numbers_NM = joined.events.ids_NF.take(events, 0), joined.events.numbers_NM.take(events, 0)
        fields = self._roots.of(time_ms, ids_NF, numbers_NM)
        self._claim(fields)
        spread(self._roots.matrices(fields, ids_NF), slots, (self._open["ids_NF"], self._open["numbers_NM"]))
        self._open["user"][slots] = joined.events.user[events]
        self._open["weight"][slots] = joined.events.weight[events]
        for place, stage in enumerate(self._valued):
            carries = joined.joins.stage == stage
            self._open["value_NV"][joined.joins.slot[carries], place] = joined.joins.value[carries]
        for place, buffer in enumerate(self._buffers.values()):
            happened = joined.joins.stage == self._stages[place]
            behaved = joined.joins.slot[happened]
            taken = self._open["ids_NF"][behaved[:, None], self._taken[place]]
            behaviour = (joined.joins.time_ms[happened], self._open["user"][behaved], taken)
            root = (time_ms, self._open["user"][slots], slots)
            buffer.run(root, behaviour, self._open[f"history{place}.ids"], self._open[f"history{place}.length"])
        return self._rows(joined)

    def encode_roots(self, events: EventBatch) -> SampleBatch:
        """The rows that would announce these roots if they came now: histories as they stand, nothing remembered."""
        n, time_ms = len(events), events.time_ms
        fields = self._roots.of(time_ms, events.ids_NF, events.numbers_NM)
        ids_NF, numbers_NM = self._roots.matrices(fields, events.ids_NF)
        at_ms = np.full((n, self._n_stages), NEVER_MS)
        at_ms[:, 0] = time_ms
        value_NV = np.full((n, len(self._valued)), np.nan)
        value_NV[:, [place for place, stage in enumerate(self._valued) if stage == 0]] = events.value[:, None]
        return SampleBatch(
            ordinal=np.arange(n),
            emit_ms=time_ms,
            root=events.root,
            says=np.zeros((n, self._n_stages), np.uint8),
            label=np.zeros((n, self._n_stages), np.uint8),
            at_ms=at_ms,
            ids_NF=ids_NF,
            numbers_NM=numbers_NM,
            value_NV=value_NV,
            weight=events.weight.astype(np.float32),
            histories=tuple(History.of_padded(*buffer.show(time_ms, events.user)) for buffer in self._buffers.values()),
        )

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

    def _claim(self, fields: RootFields) -> None:
        """Tell the names of new roots' ids, and first what the decoder did not know: texts of lookups and crosses."""
        names = self._names
        for name, texts in self._lookup_texts.items():
            if names.wants(name):
                present = np.unique(fields.ids[name]).tolist()
                names.offer(name, {value: texts[value] for value in present if value in texts})
        for name in self._named:
            members = self._features.crosses.get(name, ())
            if members and names.wants(name):
                values, rows = np.unique(fields.ids[name], return_index=True)
                combined = (
                    " x ".join(names.offered(member, int(fields.ids[member][row])) for member in members)
                    for row in rows.tolist()
                )
                names.offer(name, dict(zip(values.tolist(), combined, strict=True)))
            names.claim(name, fields.ids[name])

    def _rows(self, joined: Joined) -> SampleBatch:
        rows, n = joined.rows, len(joined.rows.slot)
        histories = (
            History.of_places(self._open[f"history{place}.ids"], self._open[f"history{place}.length"], rows.slot)
            for place in range(len(self._buffers))
        )
        return SampleBatch(
            ordinal=np.arange(joined.first_ordinal, joined.first_ordinal + n),
            emit_ms=rows.emit_ms,
            root=rows.root,
            says=rows.says,
            label=rows.label,
            at_ms=rows.at_ms,
            ids_NF=self._open["ids_NF"].take(rows.slot, 0),
            numbers_NM=self._open["numbers_NM"].take(rows.slot, 0),
            value_NV=np.where(rows.at_ms[:, self._valued] == NEVER_MS, np.nan, self._open["value_NV"][rows.slot]),
            weight=self._open["weight"].take(rows.slot),
            histories=tuple(histories),
        )

    def _columns(self, size: int) -> dict[str, NDArray[Any]]:
        columns: dict[str, NDArray[Any]] = {
            "user": np.zeros(size, np.uint64),
            "ids_NF": np.zeros((size, self._features.id_columns), np.uint64),
            "numbers_NM": np.zeros((size, self._features.number_columns), np.float32),
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
