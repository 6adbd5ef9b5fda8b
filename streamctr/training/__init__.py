"""From the emission log to a model: score what arrived, learn what is said, judge what is final."""

from streamctr.training.config import Recipe, TrainingConfig
from streamctr.training.epochs import Epochs, last_final_bucket
from streamctr.training.learner import Learner
from streamctr.training.trainer import HeldOut, Judge, Trainer

__all__ = ["Epochs", "HeldOut", "Judge", "Learner", "Recipe", "Trainer", "TrainingConfig", "last_final_bucket"]
