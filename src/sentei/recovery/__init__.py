"""How a pruned network heals."""

from sentei.recovery.finetune import Evaluation, evaluate, finetune
from sentei.recovery.train import Log, Recipe, TrainingError, train

__all__ = ["Evaluation", "Log", "Recipe", "TrainingError", "evaluate", "finetune", "train"]
