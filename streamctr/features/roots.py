"""The columns that describe roots, of their messages and of lookups alone: no state, the same whenever it is asked.

Legend: N roots, F id columns, M number columns.
"""

from collections.abc import Mapping
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from streamctr.errors import ConfigError
from streamctr.features.columns import Layout, RootFields
from streamctr.features.lookup import Lookup
from streamctr.features.transforms import (
    bucket_texts,
    bucketised,
    clipped,
    crossed,
    local_ms,
    time_part,
    transform,
)
from streamctr.hashing import U64, hash_texts
from streamctr.schema import FeaturesConfig

_PARTS: Final[dict[str, list[str]]] = {
    "hour": [str(hour) for hour in range(24)],
    "weekday": [str(day) for day in range(7)],
}


class RootColumns:
    """Gives roots the feature columns of a `SampleBatch`, from those of an `EventBatch`.

    Args:
        features: what a root is described by.
        zone: of hour and weekday.
        lookups: those that the features declare, by name.

    Raises:
        ConfigError: a lookup's key is no field of the messages, and no lookup above it takes it.
    """

    def __init__(self, features: FeaturesConfig, zone: ZoneInfo, lookups: Mapping[str, Lookup]) -> None:
        self._features, self._zone = features, zone
        self._events, self._samples = Layout.of_events(features), Layout.of_samples(features)
        event_ids, sample_ids = ((layout.ids, layout.bags) for layout in (self._events, self._samples))
        self._no_other_ids = not features.lookup and event_ids == sample_ids
        kinds = [number.transform for number in features.number.values()]
        self._transformed = {kind: [place for place, one in enumerate(kinds) if one == kind] for kind in set(kinds)}
        self._lookups = [lookups[name] for name in features.lookup]
        self._ranges = {name: hash_texts(bucket_texts(bucket.at)) for name, bucket in features.bucket.items()}
        self._parts: dict[str, U64] = {part: hash_texts(_PARTS[part]) for part in features.time}
        known = set(self._events.ids)
        for name, lookup in features.lookup.items():
            if lookup.key not in known:
                raise ConfigError(
                    f'features.lookup.{name}.key: "{lookup.key}" is no field of the root, and no lookup above takes '
                    "it; name a field of its messages, or move the lookup that takes it up"
                )
            known.update(lookup.take)

    @property
    def texts(self) -> dict[str, dict[int, str]]:
        """By feature: what the ids stand for that are made here."""
        made: dict[str, list[str]] = {part: _PARTS[part] for part in self._parts}
        made |= {name: bucket_texts(bucket.at) for name, bucket in self._features.bucket.items()}
        ids = self._parts | self._ranges
        return {name: dict(zip(ids[name].tolist(), texts, strict=True)) for name, texts in made.items()}

    def of(self, time_ms: NDArray[np.int64], ids_NF: U64, numbers_NM: NDArray[np.float64]) -> RootFields:
        """All fields of N roots, made from their times and the columns of their events; numbers are raw."""
        fields = self._events.split(ids_NF, numbers_NM)
        for lookup in self._lookups:
            fields.update(lookup.apply(fields.ids[lookup.key], time_ms))
        self._make_ids(fields, time_ms)
        return fields

    def matrices(self, fields: RootFields, event_ids_NF: U64) -> tuple[U64, NDArray[np.float32]]:
        """Ids and numbers of the samples of N roots: (N, F) and (N, M), the numbers clipped and transformed."""
        n, numbers = len(event_ids_NF), self._features.number
        raw_NM = np.empty((n, len(numbers)))
        for place, (name, number) in enumerate(numbers.items()):
            raw_NM[:, place] = clipped(fields.numbers[name], number.clip)
        numbers_NM = np.empty((n, self._samples.n_numbers), np.float32)
        with np.errstate(over="ignore"):  # of a vector; see `transform`
            for kind, places in self._transformed.items():  # all columns at once: to call costs more than to compute
                numbers_NM[:, places] = transform(raw_NM[:, places], kind)
            self._samples.fill_vectors(fields, numbers_NM)
        if self._no_other_ids:
            return event_ids_NF, numbers_NM
        ids_NF = np.empty((n, self._samples.n_ids), np.uint64)
        self._samples.fill_ids(fields, ids_NF)
        return ids_NF, numbers_NM

    def _make_ids(self, fields: RootFields, time_ms: NDArray[np.int64]) -> None:
        """Add time parts, buckets and crosses."""
        if self._parts:
            local = local_ms(time_ms, self._zone)
            for part in self._features.time:
                fields.ids[part] = self._parts[part][time_part(local, part)]
        for name, bucket in self._features.bucket.items():
            fields.ids[name] = bucketised(fields.numbers[bucket.of], bucket.at, self._ranges[name])
        for name, members in self._features.crosses.items():
            fields.ids[name] = crossed([fields.ids[member] for member in members])
