"""Node classification: Zachary's karate club (real, 34 nodes) and generated block graphs."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sentei.tasks.base import Task

__all__ = ["GAT", "GCN", "block_graph", "karate"]

IGNORED = -100
"""Target of nodes that do not count, as `cross_entropy` has it."""


def karate(labels_per_class: int = 4, seed: int = 0) -> Task:
    """Zachary's karate club, in the four communities that torch-geometric's copy has.

    Train on a few labelled nodes of each class, test on all others; features are the identity.

    Raises:
        ModuleNotFoundError: torch-geometric is not installed.
    """
    club = _geometric("datasets").KarateClub()[0]
    return _task("karate", club.x, club.edge_index, club.y, labels_per_class, seed)


def block_graph(
    nodes: int = 300, blocks: int = 3, inside: float = 0.05, between: float = 0.01,
    features: int = 20, labels_per_class: int = 10, seed: int = 0,
) -> Task:  # fmt: skip
    """A stochastic block model with noisy features: edges are likelier inside a block.

    Features are standard normal around a class mean of length one.
    """
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(nodes) % blocks
    chance = torch.where(y[:, None] == y[None, :], inside, between)
    upper = torch.triu(torch.rand(nodes, nodes, generator=g) < chance, diagonal=1)
    edges = (upper | upper.T).nonzero().T.contiguous()
    means = torch.nn.functional.normalize(torch.randn(blocks, features, generator=g), dim=1)
    x = means[y] + torch.randn(nodes, features, generator=g)
    return _task(f"blocks-{nodes}", x, edges, y, labels_per_class, seed)


def _task(name: str, x: Tensor, edges: Tensor, y: Tensor, labels: int, seed: int) -> Task:
    g = torch.Generator().manual_seed(seed)
    known = torch.zeros_like(y, dtype=torch.bool)
    for label in y.unique():
        members = (y == label).nonzero().flatten()
        known[members[torch.randperm(len(members), generator=g)[:labels]]] = True
    inputs, classes = (x, edges), int(y.max()) + 1
    return Task(
        name=name,
        train=[(inputs, torch.where(known, y, IGNORED))],
        test=[(inputs, torch.where(known, IGNORED, y))],
        example=inputs,
        models={
            "gcn": partial(GCN, x.shape[1], classes),
            "gat": partial(GAT, x.shape[1], classes),
        },
        classes=classes,
    )


def _geometric(part: str) -> Any:
    import importlib

    try:
        return importlib.import_module(f"torch_geometric.{part}")
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError(
            "graph tasks need torch-geometric. Install it with: pip install 'sentei[geometric]'",
            name=missing.name,
        ) from missing


class GCN(nn.Module):
    """Two graph convolutions (Kipf and Welling 2017); (x, edge_index) -> (nodes, classes)."""

    def __init__(self, features: int, classes: int, hidden: int = 64) -> None:
        super().__init__()
        layers = _geometric("nn")
        self.first = layers.GCNConv(features, hidden)
        self.second = layers.GCNConv(hidden, classes)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.second(self.first(x, edge_index).relu(), edge_index)


class GAT(nn.Module):
    """Two layers of graph attention (Veličković et al. 2018)."""

    def __init__(self, features: int, classes: int, hidden: int = 16, heads: int = 4) -> None:
        super().__init__()
        layers = _geometric("nn")
        self.first = layers.GATConv(features, hidden, heads=heads)
        self.second = layers.GATConv(hidden * heads, classes, heads=1)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.second(self.first(x, edge_index).relu(), edge_index)
