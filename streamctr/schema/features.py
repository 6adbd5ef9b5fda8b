"""What a root is described by, and which columns that makes of its events and of its samples."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from streamctr.schema.units import Config, DurationMs, InstantMs

Pool = Literal["sum", "mean", "max"]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class NumberConfig(Config):
    """A number: clipped in raw units, transformed, standardised; and what a missing one counts as (in raw units)."""

    transform: Literal["none", "log1p"] = "none"
    clip: tuple[Finite | None, Finite | None] = (None, None)
    standardise: bool = True
    default: Finite = 0.0

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"transform": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _bounds_in_order(self) -> "NumberConfig":
        low, high = self.clip
        if low is not None and high is not None and low >= high:
            raise ValueError(f"clip [{low:g}, {high:g}] leaves nothing between: write the smaller bound first")
        return self


class BagConfig(Config):
    """An id of several values: a list, or a text that is split. Of a root's values the first `most` count."""

    pool: Pool = "mean"
    split: str = Field(default=",", description="where a text is split; nothing: a text is one value")
    most: int = Field(default=10, ge=1, le=256)

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"pool": value} if isinstance(value, str) else value


class BucketConfig(Config):
    """An id made of a number: which of the half-open ranges between ascending bounds it lies in."""

    of: str
    at: tuple[Finite, ...] = Field(min_length=1)

    @field_validator("at")
    @classmethod
    def _ascending(cls, bounds: tuple[float, ...]) -> tuple[float, ...]:
        if list(bounds) != sorted(set(bounds)):
            raise ValueError("the bounds do not ascend; write each once, the smallest first")
        return bounds


class HistoryConfig(Config):
    """The last behaviours of the root's user: of which stage, which of the root's ids, how many, how combined.

    `attention` is that of DIN (Zhou et al., KDD 2018): each behaviour counts by what it has to do with the root.
    """

    of: str
    take: tuple[str, ...] = Field(min_length=1)
    last: int = Field(default=50, ge=1, le=1000)
    lag: DurationMs = Field(default=0, description="behaviours of so short a time before the root are not seen yet")
    pool: Literal["sum", "mean", "max", "attention"] = "mean"


class LookupVersion(Config):
    """One state of a lookup table, and from which event time on it holds."""

    from_ms: InstantMs | None = Field(default=None, alias="from", description="default: since ever")
    file: str
    sha256: str | None = Field(default=None, description="of the file; what is read must have it")


class LookupConfig(Config):
    """Columns that a table adds to the root, found by one of its ids."""

    key: str = Field(description="the root's field, and the table's column unless `column` names another")
    column: str | None = None
    take: Mapping[str, str] = Field(min_length=1, description="field: column; a list where both have one name")
    versions: tuple[LookupVersion, ...] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        """`file: items.csv` (and its `sha256`) is short for a single version."""
        if not isinstance(value, dict) or "file" not in value:
            return value
        given = {name: value[name] for name in ("file", "sha256") if name in value}
        return {name: kept for name, kept in value.items() if name not in given} | {"versions": [given]}

    @field_validator("take", mode="before")
    @classmethod
    def _same_names(cls, value: Any) -> Any:
        return {name: name for name in value} if isinstance(value, list | tuple) else value

    @field_validator("versions")
    @classmethod
    def _in_order(cls, versions: tuple[LookupVersion, ...]) -> tuple[LookupVersion, ...]:
        times = [version.from_ms for version in versions]
        if any(later is None or (early is not None and later <= early) for early, later in zip(times, times[1:])):  # noqa: B905, RUF007
            raise ValueError("versions do not stand in the order of their `from`, which only the first may lack")
        return versions


class FeaturesConfig(Config):
    """What a root is described by. Names are fields of the root's messages, or columns that a lookup takes."""

    id: tuple[str, ...] = ()
    bag: Mapping[str, BagConfig] = Field(default_factory=dict)
    number: Mapping[str, NumberConfig] = Field(default_factory=dict)
    vector: Mapping[str, Annotated[int, Field(ge=1, le=4096)]] = Field(
        default_factory=dict, description="a list of so many numbers, such as a pretrained embedding"
    )
    bucket: Mapping[str, BucketConfig] = Field(default_factory=dict)
    cross: tuple[Annotated[tuple[str, ...], Field(min_length=2)], ...] = ()
    time: tuple[Literal["hour", "weekday"], ...] = ()
    history: Mapping[str, HistoryConfig] = Field(default_factory=dict)
    lookup: Mapping[str, LookupConfig] = Field(default_factory=dict)

    @field_validator("bag", mode="before")
    @classmethod
    def _plain_bags(cls, value: Any) -> Any:
        return {name: {} for name in value} if isinstance(value, list | tuple) else value

    @property
    def ids(self) -> tuple[str, ...]:
        """Names of the single id columns of a sample, in order; a cross is called `a*b`. Bags' columns follow."""
        return (*self.id, *self.time, *self.bucket, *self.crosses)

    @property
    def crosses(self) -> dict[str, tuple[str, ...]]:
        """Crosses by their names in `ids`: the members of each."""
        return {"*".join(members): members for members in self.cross}

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of all that has table rows, in order: `ids`, then bags."""
        return (*self.ids, *self.bag)

    @property
    def id_columns(self) -> int:
        """Width of `SampleBatch.ids_NF`: `ids`, then `most` columns of each bag, unused ones 0."""
        return len(self.ids) + sum(bag.most for bag in self.bag.values())

    @property
    def numbers(self) -> tuple[str, ...]:
        """Names of the single number columns of a sample, in order. Vectors' columns follow."""
        return tuple(self.number)

    @property
    def number_columns(self) -> int:
        """Width of `SampleBatch.numbers_NM`: `numbers`, then the columns of each vector."""
        return len(self.number) + sum(self.vector.values())

    @property
    def taken(self) -> dict[str, str]:
        """Fields that lookups add, with the lookup's name."""
        return {field: name for name, lookup in self.lookup.items() for field in lookup.take}

    @property
    def event_ids(self) -> tuple[str, ...]:
        """Single ids that are read of root messages: the first columns of `EventBatch.ids_NF`."""
        keys = (lookup.key for lookup in self.lookup.values())
        crossed = (field for fields in self.cross for field in fields)
        made = {*self.taken, *self.time, *self.bucket}
        return tuple(dict.fromkeys(name for name in (*self.id, *crossed, *keys) if name not in made))

    @property
    def event_bags(self) -> dict[str, BagConfig]:
        """Bags that are read of root messages: `most` columns each of `EventBatch.ids_NF`, behind the single ids."""
        return {name: bag for name, bag in self.bag.items() if name not in self.taken}

    @property
    def event_id_columns(self) -> int:
        """Width of `EventBatch.ids_NF`."""
        return len(self.event_ids) + sum(bag.most for bag in self.event_bags.values())

    @property
    def event_numbers(self) -> tuple[str, ...]:
        """Single numbers that are read of root messages: the first columns of `EventBatch.numbers_NM`."""
        of = (bucket.of for bucket in self.bucket.values())
        return tuple(dict.fromkeys(name for name in (*self.number, *of) if name not in self.taken))

    @property
    def event_vectors(self) -> dict[str, int]:
        """Vectors that are read of root messages: columns of `EventBatch.numbers_NM` behind the single numbers."""
        return {name: size for name, size in self.vector.items() if name not in self.taken}

    @property
    def event_number_columns(self) -> int:
        """Width of `EventBatch.numbers_NM`."""
        return len(self.event_numbers) + sum(self.event_vectors.values())
