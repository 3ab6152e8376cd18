"""Small networks and settings for the lottery family."""

import copy

import pytest
import torch
from torch import nn

from sentei.methods import Setting
from sentei.recovery.train import Recipe

SHORT = Recipe(epochs=3, lr=0.05, batch_size=16)


def toy(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(96, 8, generator=generator)
    return x, (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0).long()


@pytest.fixture
def make():
    """A function that builds an untrained setting; batch-norm and biases included."""

    def build(density=0.25, seed=0, model=None, data=None, **more):
        torch.manual_seed(seed)
        model = model or nn.Sequential(
            nn.Linear(8, 24), nn.BatchNorm1d(24), nn.ReLU(),
            nn.Linear(24, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4),
        )  # fmt: skip
        more.setdefault("recipe", SHORT)
        more.setdefault("tuning", SHORT)
        return Watched(
            model, data or toy(), density=density, initial=copy.deepcopy(model.state_dict()),
            example=(data or toy())[0][:2], calibration=64, seed=seed, **more,
        )  # fmt: skip

    return build


class Watched(Setting):
    """Writes down what each training began with."""

    def train(self, hooks=(), **how):
        self.__dict__.setdefault("began", []).append((self.state(), dict(how)))
        return super().train(hooks, **how)
