"""The shared recipe H0 of the cards: digits, an MLP 64-300-100-10, seconds of training.

SGD, momentum 0.9, batch 64, learning rate 0.05 with a cosine per step, 40 epochs; weights
N(0, 2/fan_in), biases 0; model seed s, data order 1000 + s. Accuracies are in points.
"""

from __future__ import annotations

import copy
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from sentei.methods import METHODS, Outcome, Setting, apply
from sentei.recovery.finetune import evaluate
from sentei.recovery.train import Recipe, train
from sentei.tasks.digits import digits

DENSE = Recipe(epochs=40, lr=0.05)
TUNING = Recipe(epochs=20, lr=0.02)


def mlp(seed: int, sizes: tuple[int, ...] = (64, 300, 100, 10)) -> nn.Module:
    """A ReLU network of these widths at its initial weights."""
    generator = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = [nn.Flatten()]
    for fan_in, fan_out in pairwise(sizes):
        layer = nn.Linear(fan_in, fan_out)
        with torch.no_grad():
            layer.weight.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
            layer.bias.zero_()
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


@cache
def data() -> Any:
    return digits()


@cache
def _dense(seed: int, recipe: Recipe, sizes: tuple[int, ...]) -> nn.Module:
    model = mlp(seed, sizes)
    train(model, data().train, recipe, seed=1000 + seed)
    return model


def dense(
    seed: int, recipe: Recipe = DENSE, sizes: tuple[int, ...] = (64, 300, 100, 10)
) -> nn.Module:
    """A trained network; trained once a process."""
    return copy.deepcopy(_dense(seed, recipe, sizes))


def setting(
    seed: int,
    density: float | None = None,
    *,
    starts: str = "trained",
    recipe: Recipe = DENSE,
    tuning: Recipe = TUNING,
    sizes: tuple[int, ...] = (64, 300, 100, 10),
    **more: Any,
) -> Setting:
    """The setting of H0, with the network trained (by `recipe`) or at its initial weights."""
    initial = mlp(seed, sizes)
    model = dense(seed, recipe, sizes) if starts == "trained" else copy.deepcopy(initial)
    return Setting(
        model,
        data().train,
        density=density,
        recipe=recipe,
        tuning=tuning,
        initial=initial.state_dict(),
        example=data().example,
        seed=seed,
        **more,
    )


def run(method: str, seed: int, density: float, *, options: Any = None, **more: Any) -> Outcome:
    """Carry out a method at H0."""
    chosen = METHODS[method]
    return apply(chosen, setting(seed, density, starts=chosen.starts, **more), **(options or {}))


def accuracy(model: nn.Module) -> float:
    """Test accuracy in points."""
    return 100 * evaluate(model, data().test).accuracy
