"""From the emission log to a model: score what arrived, learn what is said, judge what is final."""

from streamctr.training.config import Recipe, TrainingConfig
from streamctr.training.epochs import Epochs, last_final_bucket
from streamctr.training.learner import Learner
from streamctr.training.schedule import HeldOut, Step
from streamctr.training.trainer import Judge, Judged, Trainer

__all__ = ["Epochs", "HeldOut", "Judge", "Judged", "Learner", "Recipe", "Step", "Trainer", "TrainingConfig"]
__all__ += ["last_final_bucket"]
