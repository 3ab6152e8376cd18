"""Small networks in float64, and what the cards' exact facts are told about."""

import itertools

import torch
import torch.nn.functional as F
from torch import nn

from sentei.criteria import Evidence


def mlp(*sizes: int, bias: bool = True, seed: int = 0) -> nn.Sequential:
    """A ReLU network in float64 with biases that are not zero."""
    torch.manual_seed(seed)
    layers = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b, bias=bias), nn.ReLU()]
    return nn.Sequential(*layers[:-1]).double()


def convnet(norm: bool = False, seed: int = 0) -> nn.Sequential:
    """Convolutions, ReLU and pooling; with `norm`, a batch-norm whose eps is next to nothing."""
    torch.manual_seed(seed)
    layers = [
        nn.Conv2d(2, 4, 3, padding=1, bias=not norm),
        *([nn.BatchNorm2d(4, eps=1e-30)] if norm else []),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, padding=1, bias=not norm),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, 3, bias=not norm),
    ]
    return nn.Sequential(*layers).double()


def batch(*shape: int, classes: int = 3, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(*shape, generator=generator, dtype=torch.float64)
    return x, torch.randint(0, classes, shape[:1], generator=generator)


def evidence(model: nn.Module, data=None, loss=F.cross_entropy, **more) -> Evidence:
    return Evidence.of(model, data=data, loss=loss, **more)
