"""How a pruned network heals.

- `finetune`, `train`: training on, with hooks; with `sentei.hooks.Distill` the unpruned network
  teaches the pruned one.
- `recalibrate`: batch-norm statistics of the network as it is now.
- `compensate`: the constant part of what was removed, folded into biases.
- `reconstruct`: layers refitted by least squares to what the original computed. No labels.
- `soften`: logits made less sure, so that training after a refit has a gradient. No labels.
- `merge`: removed units merged into the kept ones most like them. No data.
"""

from sentei.recovery.compensate import compensate
from sentei.recovery.finetune import Evaluation, evaluate, finetune
from sentei.recovery.merge import merge
from sentei.recovery.recalibrate import recalibrate
from sentei.recovery.reconstruct import reconstruct
from sentei.recovery.resumable import train_resumably
from sentei.recovery.soften import soften
from sentei.recovery.train import Log, Recipe, TrainingError, train

__all__ = ["Evaluation", "Log", "Recipe", "TrainingError", "compensate", "evaluate", "finetune",
           "merge", "recalibrate", "reconstruct", "soften", "train", "train_resumably"]  # fmt: skip
