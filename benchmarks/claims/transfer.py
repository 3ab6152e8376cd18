"""H0 as transfer: pre-trained on the digits 0 to 4, pruned and fine-tuned on 5 to 9."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.claims.h0 import data, mlp
from sentei.methods import Setting
from sentei.recovery.finetune import evaluate
from sentei.recovery.train import Recipe, train

HEAD = "5"  # the last layer of the network 64-300-100-5, which is never pruned


def half(which: str, upper: bool) -> tuple[Tensor, Tensor]:
    """The train or test examples of the digits 0-4 or 5-9, labelled 0-4."""
    x, y = getattr(data(), which)
    mine = (y >= 5) == upper
    return x[mine], y[mine] - 5 * upper


@cache
def _pretrained(seed: int) -> nn.Module:
    model = mlp(seed, (64, 300, 100, 5))
    train(model, half("train", upper=False), Recipe(epochs=40, lr=0.05), seed=1000 + seed)
    return model


def setting(seed: int, density: float, recipe: Recipe, **more: Any) -> Setting:
    """The pre-trained network with a new head, and the upper digits to train on."""
    model = copy.deepcopy(_pretrained(seed))
    fresh = mlp(seed + 500, (64, 300, 100, 5))
    model[int(HEAD)].load_state_dict(fresh[int(HEAD)].state_dict())
    return Setting(
        model,
        half("train", upper=True),
        density=density,
        recipe=recipe,
        tuning=recipe,
        example=torch.zeros(1, 1, 8, 8),
        protect=(HEAD,),
        seed=seed,
        **more,
    )


def accuracy(model: nn.Module) -> float:
    """Test accuracy on the upper digits, in points."""
    return 100 * evaluate(model, half("test", upper=True)).accuracy
