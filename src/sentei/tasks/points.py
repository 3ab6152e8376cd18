"""Point clouds of generated shapes: sphere, cube, cylinder, cone, torus, each turned and noisy."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn

from sentei.tasks.base import Task

__all__ = ["DGCNN", "SHAPES", "shapes"]

SHAPES = ("sphere", "cube", "cylinder", "cone", "torus")


def shapes(
    train: int = 600, test: int = 200, points: int = 64, noise: float = 0.03, seed: int = 0
) -> Task:
    """Classify the surface that points were drawn from; x is (N, 3, points).

    Each cloud is rotated at random and scaled to unit size; classes are balanced.
    """
    g = torch.Generator().manual_seed(seed)

    def draw(count: int) -> tuple[Tensor, Tensor]:
        y = torch.arange(count) % len(SHAPES)
        clouds = torch.stack([_cloud(int(c), points, g) for c in y])
        clouds = clouds + noise * torch.randn(clouds.shape, generator=g)
        turns = torch.linalg.qr(torch.randn(count, 3, 3, generator=g)).Q
        clouds = clouds @ turns
        clouds = clouds - clouds.mean(1, keepdim=True)
        clouds = clouds / clouds.norm(dim=2).amax(1)[:, None, None]
        return clouds.transpose(1, 2).contiguous(), y

    learn, judge = draw(train), draw(test)
    return Task(
        name="shapes",
        train=learn,
        test=judge,
        example=learn[0][:2],
        models={"dgcnn": partial(DGCNN, len(SHAPES))},
        classes=len(SHAPES),
    )


def _cloud(kind: int, n: int, g: torch.Generator) -> Tensor:
    u, v, w = torch.rand(3, n, generator=g)
    turn = 2 * math.pi * u
    name = SHAPES[kind]
    if name == "sphere":
        z = 2 * v - 1
        r = (1 - z * z).sqrt()
        return torch.stack([r * turn.cos(), r * turn.sin(), z], 1)
    if name == "cube":
        face = torch.randint(6, (n,), generator=g)
        p = torch.stack([2 * u - 1, 2 * v - 1, 2 * w - 1], 1)
        p[torch.arange(n), face % 3] = (face // 3 * 2 - 1).float()
        return p
    if name == "cylinder":
        return torch.stack([turn.cos(), turn.sin(), 2 * v - 1], 1)
    if name == "cone":
        r = v.sqrt()
        return torch.stack([r * turn.cos(), r * turn.sin(), 1 - 2 * r], 1)
    tube = 2 * math.pi * v
    r = 1 + 0.4 * tube.cos()
    return torch.stack([r * turn.cos(), r * turn.sin(), 0.4 * tube.sin()], 1)


class DGCNN(nn.Module):
    """Edge convolutions over nearest neighbours (Wang et al. 2019, arXiv:1801.07829), small.

    Neighbours are those in space, found once; (N, 3, P) -> (N, classes).
    """

    def __init__(self, classes: int = 5, width: int = 32, neighbours: int = 8) -> None:
        super().__init__()
        self.neighbours = neighbours
        self.edge1 = nn.Sequential(
            nn.Conv2d(6, width, 1, bias=False), nn.BatchNorm2d(width), nn.LeakyReLU(0.2)
        )
        self.edge2 = nn.Sequential(
            nn.Conv2d(2 * width, 2 * width, 1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.LeakyReLU(0.2),
        )
        self.mix = nn.Sequential(
            nn.Conv1d(3 * width, 128, 1, bias=False), nn.BatchNorm1d(128), nn.LeakyReLU(0.2)
        )
        self.head = nn.Sequential(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, classes))

    def forward(self, points: Tensor) -> Tensor:
        place = points.transpose(1, 2)
        near = torch.cdist(place, place).topk(self.neighbours, largest=False).indices
        one = self.edge1(_edges(points, near)).amax(3)
        two = self.edge2(_edges(one, near)).amax(3)
        return self.head(self.mix(torch.cat([one, two], 1)).amax(2))


def _edges(x: Tensor, near: Tensor) -> Tensor:
    """[x_i, x_j - x_i] for all neighbours j: (N, C, P) and (N, P, K) -> (N, 2C, P, K)."""
    k = near.shape[2]
    index = near.flatten(1).unsqueeze(1).expand(-1, x.shape[1], -1)
    others = x.gather(2, index).unflatten(2, (-1, k))
    own = x.unsqueeze(3).expand(-1, -1, -1, k)
    return torch.cat([own, others - own], 1)
