"""How the messages of a log are written: where the key, the time and the stage stand in them, and as what."""

from collections.abc import Mapping
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator, model_validator

from streamctr.schema.units import Config, Texts


class TimeConfig(Config):
    """Where an event's time stands and how it is written: text is ISO-8601, numbers are in `unit`."""

    field: str
    unit: Literal["ms", "s", "us"] = "ms"
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


class CsvConfig(Config):
    """How files with a record a line are written; fields may stand in double quotes, a quote in one is doubled."""

    delimiter: str = Field(default=",", min_length=1, description="one character, or tab; files named .tsv have tabs")
    columns: tuple[str, ...] = Field(default=(), description="names of the columns, where the first line is no header")
    missing: Texts = Field(default=(), description="texts that stand for no value, besides an empty field")

    @field_validator("delimiter")
    @classmethod
    def _one_byte(cls, text: str) -> str:
        delimiter = "\t" if text in ("tab", "\\t") else text
        if len(delimiter.encode()) != 1 or delimiter in '"\r\n':
            raise ValueError(f'"{text}" is no delimiter; write one character such as ; or the word tab')
        return delimiter


class RejectsConfig(Config):
    """When so many messages are malformed that somebody must have changed the schema."""

    share: float = Field(default=0.5, gt=0, le=1, description="more than this of the last messages stops the run")
    of_last: int = Field(default=1000, ge=1, description="messages of a file or topic, counted off in such pieces")


class MessagesConfig(Config):
    """Everything that says how a log's messages are read, besides what funnel and features name."""

    key: Texts = Field(min_length=1)
    time: TimeConfig
    user: Texts = ()
    stage: str | None = None
    ignore: Texts = ()
    weight: str | None = None
    types: Mapping[str, Literal["text", "integer"]] = Field(default_factory=dict)
    csv: CsvConfig = CsvConfig()
    rejects: RejectsConfig = RejectsConfig()
