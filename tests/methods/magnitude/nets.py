"""Small networks and data for the tests of this family."""

import copy

import torch
from torch import nn

from sentei.methods import Setting
from sentei.recovery.train import Recipe

SHORT = Recipe(epochs=2, lr=0.05, batch_size=16)


def toy(seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(96, 8, generator=generator)
    return x, (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0).long()


def mlp(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 4)
    )


def setting(density=0.25, model=None, **more):
    model = mlp() if model is None else model
    given = {
        "recipe": SHORT,
        "tuning": SHORT,
        "initial": copy.deepcopy(model.state_dict()),
        "example": toy()[0][:1],
        "calibration": 64,
    }
    data = more.pop("data", None) or toy()
    return Setting(model, data, density=density, **(given | more))
