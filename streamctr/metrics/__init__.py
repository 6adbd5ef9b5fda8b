"""How good the predictions were: figures per head over the whole run, from a moment on, and per bucket of root time."""

from streamctr.metrics.config import MetricsConfig
from streamctr.metrics.judge import Judge
from streamctr.metrics.running import HeadFigures

__all__ = ["HeadFigures", "Judge", "MetricsConfig"]
