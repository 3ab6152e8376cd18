"""Pieces of claims about pruning before training: masks of untrained networks, and training them.

The deep network of the cards is an MLP 64 - 8 x 100 - 10, trained for 40 epochs at 0.03.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from benchmarks.claims.h0 import DENSE, accuracy, data, mlp, setting
from sentei.allocation.weights import select
from sentei.criteria.weights import Saliency, weigh
from sentei.methods import METHODS, apply
from sentei.recovery.train import Recipe, train
from sentei.structures import Masks

__all__ = ["DEEP", "DEEP_RECIPE", "masks_of", "scored", "trained"]

DEEP = (64, *[100] * 8, 10)
DEEP_RECIPE = Recipe(epochs=40, lr=0.03)
UNTRAINED = Recipe(epochs=0)
H0 = (64, 300, 100, 10)


def masks_of(
    method: str, seed: int, density: float, sizes: tuple[int, ...] = H0, **options
) -> Masks:
    """What a method keeps of an untrained network."""
    given = setting(seed, density, starts="initial", recipe=UNTRAINED, sizes=sizes)
    return apply(METHODS[method], given, **options).masks


def scored(
    saliency: str | Saliency, seed: int, density: float, sizes: tuple[int, ...] = H0,
    scope: str = "global",
) -> Masks:  # fmt: skip
    """What a saliency keeps of an untrained network."""
    given = setting(seed, starts="initial", sizes=sizes)
    return select(weigh(saliency, given.evidence()), density, scope)


def trained(
    masks: Masks | None,
    seed: int,
    sizes: tuple[int, ...] = H0,
    recipe: Recipe = DENSE,
    start: Callable[[], nn.Module] | None = None,
) -> float:
    """Test accuracy after training from the seed's initial weights (or `start`'s) with masks."""
    from sentei.hooks import MaskHook

    model = (start or partial(mlp, seed, sizes))()
    hooks = [MaskHook(masks)] if masks is not None else []
    train(model, data().train, recipe, seed=1000 + seed, hooks=hooks)
    return accuracy(model)


def shuffled(masks: Masks, seed: int) -> Masks:
    """The same density of every layer at other places."""
    generator = torch.Generator().manual_seed(seed)
    return Masks(
        {
            n: m.flatten()[torch.randperm(m.numel(), generator=generator)].view_as(m)
            for n, m in masks.items()
        }
    )
