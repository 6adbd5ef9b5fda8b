"""What is known of roots as named columns, and where each stands in the two matrices of a batch.

Legend: N roots, F id columns, M number columns, C columns of one bag or vector.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamctr.hashing import U64
from streamctr.schema import FeaturesConfig

Numbers = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class RootFields:
    """Fields of N roots by kind and name; one field may be of several kinds."""

    ids: dict[str, U64]
    """(N,) each; 0 for missing."""
    bags: dict[str, U64]
    """(N, C) each; unused columns 0."""
    numbers: dict[str, Numbers]
    """(N,) each, raw; NaN for missing."""
    vectors: dict[str, Numbers]
    """(N, C) each; NaN for missing."""

    def update(self, more: "RootFields") -> None:
        """Add the fields of `more`."""
        self.ids.update(more.ids)
        self.bags.update(more.bags)
        self.numbers.update(more.numbers)
        self.vectors.update(more.vectors)


@dataclass(frozen=True, slots=True)
class Layout:
    """The order of fields in a matrix of ids, bags behind single ones, and of numbers, vectors behind single ones.

    >>> layout = Layout(("user",), {"tags": 2}, ("price",), {})
    >>> fields = layout.split(np.array([[7, 8, 9]], np.uint64), np.array([[1.5]]))
    >>> fields.bags["tags"].tolist(), fields.numbers["price"].tolist()
    ([[8, 9]], [1.5])
    """

    ids: tuple[str, ...]
    bags: Mapping[str, int]
    """How many columns each has; likewise `vectors`."""
    numbers: tuple[str, ...]
    vectors: Mapping[str, int]

    @classmethod
    def of_events(cls, features: FeaturesConfig) -> "Layout":
        """That of `EventBatch`."""
        bags = {name: bag.most for name, bag in features.event_bags.items()}
        return cls(features.event_ids, bags, features.event_numbers, features.event_vectors)

    @classmethod
    def of_samples(cls, features: FeaturesConfig) -> "Layout":
        """That of `SampleBatch`."""
        bags = {name: bag.most for name, bag in features.bag.items()}
        return cls(features.ids, bags, features.numbers, features.vector)

    @property
    def n_ids(self) -> int:
        """Width of the matrix of ids."""
        return len(self.ids) + sum(self.bags.values())

    @property
    def n_numbers(self) -> int:
        """Width of the matrix of numbers."""
        return len(self.numbers) + sum(self.vectors.values())

    def split(self, ids_NF: U64, numbers_NM: Numbers) -> RootFields:
        """The fields that two matrices hold, as views of them."""
        ids, bags = _split(ids_NF, self.ids, self.bags)
        numbers, vectors = _split(numbers_NM, self.numbers, self.vectors)
        return RootFields(ids, bags, numbers, vectors)

    def fill(self, fields: RootFields, ids_NF: U64, numbers_NM: Numbers) -> None:
        """Write into two matrices what they are laid out for; `fields` may hold more."""
        self.fill_ids(fields, ids_NF)
        _write(_split(numbers_NM, self.numbers, {})[0], fields.numbers)
        self.fill_vectors(fields, numbers_NM)

    def fill_ids(self, fields: RootFields, ids_NF: U64) -> None:
        """Write ids and bags alone."""
        for views, columns in zip(_split(ids_NF, self.ids, self.bags), (fields.ids, fields.bags), strict=True):
            _write(views, columns)

    def fill_vectors(self, fields: RootFields, numbers_NM: Numbers) -> None:
        """Write vectors alone."""
        _write(_split(numbers_NM, self.numbers, self.vectors)[1], fields.vectors)


def _write(views: dict[str, Any], columns: Mapping[str, NDArray[Any]]) -> None:
    for name, view in views.items():
        view[...] = columns[name]


def _split(
    matrix: NDArray[Any], single: tuple[str, ...], wide: Mapping[str, int]
) -> tuple[dict[str, Any], dict[str, Any]]:
    ends = list(accumulate(wide.values(), initial=len(single)))
    columns = {name: matrix[:, place] for place, name in enumerate(single)}
    return columns, {name: matrix[:, a:b] for name, a, b in zip(wide, ends, ends[1:], strict=False)}
