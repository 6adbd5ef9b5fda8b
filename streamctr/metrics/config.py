"""What the figures are split by."""

from pydantic import ConfigDict, Field, field_validator

from streamctr.schema import Config, DurationMs, InstantMs


class MetricsConfig(Config):
    """Buckets, ticks, slices and the moment from which roots are also judged apart.

    >>> MetricsConfig.model_validate({"bucket": "1h", "from": "2022-04-26T00:00Z"}).from_ms
    1650931200000
    """

    model_config = ConfigDict(serialize_by_alias=True, validate_default=False)

    bucket: DurationMs = Field(default=3_600_000, description="width of a bucket of root time")
    tick: DurationMs = Field(default=3_600_000, description="event time between two lines of metrics.jsonl")
    from_ms: InstantMs | None = Field(
        default=None, alias="from", description="roots from here on are also judged apart"
    )
    slices: tuple[str, ...] = Field(default=(), description="id features whose values are judged one by one")

    @field_validator("bucket", "tick")
    @classmethod
    def _takes_time(cls, value: int) -> int:
        if value == 0:
            raise ValueError("0 is no width; write a duration such as 1h")
        return value
