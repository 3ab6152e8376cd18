"""The small network of the claims about second order: MLP 64-16-10 at a minimum, in float64."""

from __future__ import annotations

import copy
from functools import cache

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.claims.h0 import DENSE, accuracy, data, mlp
from sentei.methods import METHODS, Setting, apply
from sentei.recovery.train import Recipe, train

__all__ = ["pruned", "training_loss"]

SIZES, DECAY = (64, 16, 10), 1e-3


@cache
def at_minimum(seed: int) -> nn.Module:
    """Trained with weight decay 1e-3, then polished with L-BFGS on the same objective."""
    model = mlp(seed, SIZES)
    recipe = Recipe(epochs=DENSE.epochs, lr=DENSE.lr, weight_decay=DECAY)
    train(model, data().train, recipe, seed=1000 + seed)
    model.double()
    x, y = wide()
    parameters = list(model.parameters())
    optimizer = torch.optim.LBFGS(
        parameters, max_iter=2000, history_size=50, line_search_fn="strong_wolfe",
        tolerance_grad=1e-8, tolerance_change=1e-14,
    )  # fmt: skip

    def closure():
        optimizer.zero_grad()
        decay = sum(p.square().sum() for p in parameters)
        value = F.cross_entropy(model(x), y) + DECAY / 2 * decay
        value.backward()
        return value

    optimizer.step(closure)
    optimizer.zero_grad(set_to_none=True)
    return model


def wide() -> tuple[torch.Tensor, torch.Tensor]:
    x, y = data().train
    return x.double(), y


def training_loss(model: nn.Module) -> float:
    x, y = wide()
    with torch.no_grad():
        return F.cross_entropy(model(x), y).item()


def pruned(method: str, seed: int, density: float, **options) -> tuple[float, float]:
    """(training loss, test accuracy in points) straight after pruning."""
    model = copy.deepcopy(at_minimum(seed))
    given = Setting(
        model, wide(), density=density, tuning=Recipe(epochs=0), calibration=len(wide()[0]),
        example=data().example.double(), seed=seed,
    )  # fmt: skip
    apply(METHODS[method], given, **options)
    loss = training_loss(model)
    return loss, accuracy(model.float())
