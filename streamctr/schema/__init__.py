"""What a run file declares of its log: messages, funnel, features; and the texts for durations and moments."""

from streamctr.schema.features import (
    BagConfig,
    BucketConfig,
    FeaturesConfig,
    HistoryConfig,
    LookupConfig,
    LookupVersion,
    NumberConfig,
)
from streamctr.schema.funnel import Funnel, Stage, StageConfig
from streamctr.schema.messages import CsvConfig, MessagesConfig, RejectsConfig, TimeConfig
from streamctr.schema.units import (
    Config,
    DurationMs,
    InstantMs,
    Texts,
    duration_text,
    instant_text,
    parse_duration_ms,
    parse_instant_ms,
)

__all__ = ["BagConfig", "BucketConfig", "Config", "CsvConfig", "DurationMs", "FeaturesConfig", "Funnel"]
__all__ += ["HistoryConfig", "InstantMs", "LookupConfig", "LookupVersion", "MessagesConfig", "NumberConfig"]
__all__ += ["RejectsConfig", "Stage", "StageConfig", "Texts", "TimeConfig"]
__all__ += ["duration_text", "instant_text", "parse_duration_ms", "parse_instant_ms"]
