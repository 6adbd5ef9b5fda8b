"""What a run file declares: the funnel as a tree of stages, the features, and the texts for durations and moments."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, field_validator, model_validator

_UNITS_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def parse_duration_ms(value: Any) -> int:
    """Milliseconds of a duration such as `30s`, `5m`, `1h`, `7d` or `250ms`; an integer already is milliseconds.

    >>> parse_duration_ms("30m")
    1800000
    """
    if isinstance(value, int) and value >= 0:
        return value
    text = str(value).strip()
    match = re.fullmatch(r"(\d+)\s*(ms|s|m|h|d)", text)
    if match is None and text != "0":
        raise ValueError(f'"{text}" is not a duration; write a whole number and ms, s, m, h or d, such as 30m')
    return int(match[1]) * _UNITS_MS[match[2]] if match else 0


def duration_text(duration_ms: int) -> str:
    """The shortest text that `parse_duration_ms` reads as `duration_ms`.

    >>> duration_text(1_800_000)
    '30m'
    """
    unit = next((unit for unit, size in reversed(_UNITS_MS.items()) if duration_ms % size == 0 < duration_ms), "ms")
    return f"{duration_ms // _UNITS_MS[unit]}{unit}"


def parse_instant_ms(value: Any) -> int:
    """Milliseconds since the epoch of an ISO-8601 moment with an offset or Z; an integer already is milliseconds.

    >>> parse_instant_ms("2022-04-26T00:00Z")
    1650931200000
    """
    if isinstance(value, int):
        return value
    try:
        moment = datetime.fromisoformat(str(value).strip())
    except ValueError:
        raise ValueError(f'"{value}" is not a moment; write ISO-8601 such as 2022-04-26T00:00Z') from None
    if moment.tzinfo is None:
        raise ValueError(f'"{value}" has no offset; add Z for UTC or one such as +08:00')
    return round(moment.timestamp() * 1000)


def instant_text(instant_ms: int) -> str:
    """ISO-8601 in UTC, which `parse_instant_ms` reads as `instant_ms`.

    >>> instant_text(1_650_931_200_000)
    '2022-04-26T00:00:00Z'
    """
    precision = "milliseconds" if instant_ms % 1000 else "seconds"
    moment = datetime.fromtimestamp(instant_ms // 1000, UTC).replace(microsecond=instant_ms % 1000 * 1000)
    return moment.isoformat(timespec=precision).replace("+00:00", "Z")


DurationMs = Annotated[int, BeforeValidator(parse_duration_ms), PlainSerializer(duration_text, when_used="json")]
InstantMs = Annotated[int, BeforeValidator(parse_instant_ms), PlainSerializer(instant_text, when_used="json")]
"""Milliseconds that a run file writes as text: JSON dumps of a config write them so too, and load again."""


class Config(BaseModel):
    """Base of every config: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class StageConfig(Config):
    """One stage behind the root: windows are counted from its parent's time and half-open."""

    after: str | None = Field(default=None, description="the stage it follows; default: the one above")
    observe: DurationMs = Field(description="how long its first label is waited for")
    window: DurationMs | None = Field(default=None, description="how long it may still happen; default: observe")

    @model_validator(mode="after")
    def _window_holds_observe(self) -> "StageConfig":
        window_ms = self.observe if self.window is None else self.window
        if window_ms < self.observe:
            raise ValueError("window is shorter than observe: the label would be final before it is observed")
        if window_ms == 0:
            raise ValueError("window is 0: nothing can happen in it; set window, or a longer observe")
        return self


class Stage(Config):
    """A stage of the resolved funnel; `parent` is a place in `Funnel.stages`, -1 for the root."""

    name: str
    parent: int
    observe_ms: int
    window_ms: int


class Funnel(Config):
    """The tree of stages, parents before children; stage 0 is the root, the event that is scored."""

    stages: tuple[Stage, ...]

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, StageConfig | None]) -> "Funnel":
        """Resolve `after` and `window`.

        Raises:
            ValueError: a stage follows one that does not stand above it.
        """
        places = {name: place for place, name in enumerate(mapping)}
        stages: list[Stage] = []
        for place, (name, config) in enumerate(mapping.items()):
            if place == 0 or config is None:
                stages.append(Stage(name=name, parent=-1, observe_ms=0, window_ms=0))
                continue
            parent = place - 1 if config.after is None else places.get(config.after, place)
            if parent >= place:
                raise ValueError(f'{name}.after: "{config.after}" is not a stage above {name}')
            window_ms = config.observe if config.window is None else config.window
            stages.append(Stage(name=name, parent=parent, observe_ms=config.observe, window_ms=window_ms))
        return cls(stages=tuple(stages))

    @property
    def names(self) -> tuple[str, ...]:
        """Stage names in the run file's order."""
        return tuple(stage.name for stage in self.stages)

    def path(self, place: int) -> tuple[int, ...]:
        """Places from the first stage behind the root down to `place`."""
        return () if place == 0 else (*self.path(self.stages[place].parent), place)

    def span_ms(self) -> int:
        """From a root's time until every label of it is final, at most."""
        return max(sum(self.stages[p].window_ms for p in self.path(s)) for s in range(len(self.stages)))


class NumberConfig(Config):
    """A number: its transform, and what a missing one counts as (raw units; it passes the transform too)."""

    transform: Literal["none", "log1p"] = "none"
    default: float = 0.0

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"transform": value} if isinstance(value, str) else value


class TimeConfig(Config):
    """Where an event's time stands and how it is written: text is ISO-8601, numbers are in `unit`."""

    field: str
    unit: Literal["ms", "s"] = "ms"
    zone: str = Field(default="UTC", description="IANA zone of hour and weekday, and of ISO text without an offset")

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"field": value} if isinstance(value, str) else value

    @field_validator("zone")
    @classmethod
    def _zone_exists(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f'"{zone}" is not an IANA time zone; write one such as Asia/Shanghai') from None
        return zone


class HistoryConfig(Config):
    """The last behaviours of the root's user: of which stage, which of the root's ids, how many."""

    of: str
    take: tuple[str, ...] = Field(min_length=1)
    last: int = Field(default=50, ge=1, le=1000)


class FeaturesConfig(Config):
    """What a root is described by. Names are fields of the root's events."""

    id: tuple[str, ...] = ()
    number: Mapping[str, NumberConfig] = Field(default_factory=dict)
    time: tuple[Literal["hour", "weekday"], ...] = ()
    history: Mapping[str, HistoryConfig] = Field(default_factory=dict)

    @property
    def ids(self) -> tuple[str, ...]:
        """Names of the id columns of a sample, in order: declared ids, then time parts."""
        return (*self.id, *self.time)

    @property
    def numbers(self) -> tuple[str, ...]:
        """Names of the number columns of a sample, in order."""
        return tuple(self.number)
