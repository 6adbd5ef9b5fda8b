"""From the emission log to a model: score what arrived, learn what is said, judge what is final."""

from streamctr.training.config import Recipe, TrainingConfig
from streamctr.training.learner import Learner
from streamctr.training.trainer import Judge, Trainer

__all__ = ["Judge", "Learner", "Recipe", "Trainer", "TrainingConfig"]
