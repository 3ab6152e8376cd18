"""How a pruned network heals."""

from sentei.recovery.finetune import Evaluation, TrainingError, evaluate, finetune

__all__ = ["Evaluation", "TrainingError", "evaluate", "finetune"]
