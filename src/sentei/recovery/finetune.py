"""Training on after pruning, and the evaluation that goes with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from rich.progress import Progress
from torch import nn

from sentei.batches import Data, Loss, batches, forward, home_of, size, to_device
from sentei.recovery.train import Recipe, TrainingError, check_data, progress_bar, train

__all__ = ["Evaluation", "TrainingError", "evaluate", "finetune", "progress_bar"]


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    Attributes:
        accuracy: share of examples whose largest logit is the target's, in [0, 1].
        loss: mean over all examples.
        count: number of examples.
        top5: share of examples whose target is among the five largest logits; None where there
            are five classes or fewer.
    """

    accuracy: float
    loss: float
    count: int
    top5: float | None = None


def finetune(
    model: nn.Module,
    data: Data,
    epochs: int = 10,
    lr: float = 0.05,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    batch_size: int = 64,
    seed: int = 0,
    progress: bool | Progress = True,
    schedule: str | Callable[[float], float] = "cosine",
    loss: Loss = F.cross_entropy,
) -> nn.Module:
    """Train `model` in place by stochastic gradient descent with momentum, and return it.

    v <- momentum · v + gradient + weight_decay · w
    w <- w - lr · schedule(step / steps) · v

    `sentei.recovery.train` with these numbers: see there for what is promised.

    Args:
        model: called as `model(x)`; batches are moved to where its parameters are.
        data: `(x, y)` tensors of equal length, or batches such as a `DataLoader`'s (it then
            shuffles as it likes, and `batch_size` is not used).
        epochs: passes over the data; 0 leaves the model untouched.
        lr: the learning rate at the first step.
        schedule: one of `SCHEDULES`, or a function from progress in [0, 1) to a factor on `lr`.
        loss: `loss(model(x), y)`.
        seed: for the order of examples, dropout and whatever else draws numbers in the model.
        progress: show a bar; or a running `rich.progress.Progress` to add a line to.
    Returns:
        `model` itself.
    Raises:
        TrainingError: the loss became nan or infinite. The weights are those before that step.
        ValueError: no data, lengths that differ, nothing to train, an unknown schedule.

    >>> line = nn.Linear(1, 1)
    >>> x = torch.linspace(-1, 1, 64)[:, None]
    >>> _ = finetune(line, (x, 3 * x), 20, lr=0.2, batch_size=8, progress=False, loss=F.mse_loss)
    >>> round(line.weight.item(), 2)
    3.0
    """
    recipe = Recipe(
        epochs, lr, batch_size, momentum=momentum, weight_decay=weight_decay, schedule=schedule
    )
    train(model, data, recipe, loss=loss, seed=seed, progress=progress)
    return model


@torch.inference_mode()
def evaluate(
    model: nn.Module, data: Data, batch_size: int = 512, loss: Loss = F.cross_entropy
) -> Evaluation:
    """Accuracy and mean loss of a classifier, in eval mode; training flags are restored.

    Args:
        model: `model(x)` gives logits `(N, classes, ...)`.
        data: `(x, y)` or batches of it, as for `finetune`; y holds classes `(N, ...)`, -100 where
            none counts.
        loss: the mean over a batch, as for `finetune`.
    Returns:
        `Evaluation(accuracy, loss, count, top5)`.
    Raises:
        ValueError: no data, lengths that differ.

    >>> eye = torch.eye(3)
    >>> evaluate(nn.Identity(), (eye, torch.tensor([0, 1, 0]))).count
    3
    """
    check_data(data)
    device = home_of(model)
    flags = {module: module.training for module in model.modules()}
    right, near, targets, count, total, classes = 0, 0, 0, 0, 0.0, 0
    model.eval()
    try:
        for batch in batches(data, batch_size):
            batch = to_device(batch, device)
            logits, y = forward(model, batch), batch[1]
            right += int((logits.argmax(1) == y).sum())
            classes = logits.shape[1]
            if classes > 5:
                near += int((logits.topk(5, dim=1).indices == y.unsqueeze(1)).sum())
            targets += int((y != -100).sum())  # as cross_entropy: those targets do not count
            total += loss(logits, y).item() * size(batch)
            count += size(batch)
    finally:
        for module, flag in flags.items():
            module.training = flag
    if not count:
        raise ValueError("no data to evaluate on: there were no batches")
    top5 = near / targets if classes > 5 else None
    return Evaluation(accuracy=right / targets, loss=total / count, count=count, top5=top5)
