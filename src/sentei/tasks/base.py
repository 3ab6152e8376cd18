"""A task: data, loss and metric, and networks that fit it; used by the CLI and the bench."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from sentei.batches import Data, Loss, in_memory
from sentei.recovery.finetune import Evaluation, evaluate

__all__ = ["Task"]


@dataclass(frozen=True, eq=False)
class Task:
    """What a network is trained and judged on.

    Attributes:
        name: what tables call it.
        train, test: data as in `sentei.batches`; validation: None where none is set apart.
        example: example inputs for `analyze`: a tensor, a tuple of arguments or a mapping.
        loss: `loss(outputs, targets)`.
        evaluate: (model, data) -> Evaluation.
        models: name -> builder of a network at its initial weights, drawn from PyTorch's global
            random state.
        classes: number of classes; 0 where there are none.
        mean, std: of the raw training inputs; `x = (raw - mean) / std`.
        metric: what `Evaluation.accuracy` is called in tables.
    """

    name: str
    train: Data
    test: Data
    example: Any
    validation: Data = None
    loss: Loss | None = F.cross_entropy
    evaluate: Callable[[nn.Module, Data], Evaluation] = evaluate
    models: Mapping[str, Callable[[], nn.Module]] = field(default_factory=dict)
    classes: int = 0
    mean: float = 0.0
    std: float = 1.0
    metric: str = "accuracy"

    def hold_out(self, share: float = 0.2, seed: int = 0) -> Task:
        """The task with a random share of the training examples set apart as `validation`.

        Hyper-parameters are chosen on those; the test set stays unseen.

        Raises:
            ValueError: the training data is not one pair of tensors.
        """
        if not in_memory(self.train):
            raise ValueError(f"{self.name}: the training data brings its own batches")
        x, y = self.train
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
        apart, rest = order[: round(share * len(x))], order[round(share * len(x)) :]
        return replace(self, train=(x[rest], y[rest]), validation=(x[apart], y[apart]))

    def build(self, model: str, seed: int = 0) -> nn.Module:
        """A network of this task at the initial weights of a seed."""
        if model not in self.models:
            from sentei.graph.errors import PruneError, closest

            raise PruneError(
                f"task {self.name!r} has no model {model!r}; {closest(model, self.models)}"
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.models[model]()
