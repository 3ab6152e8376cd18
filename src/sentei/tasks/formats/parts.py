"""What several formats share: splitting, and images that fit memory or not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from sentei.batches import Data
from sentei.graph.errors import PruneError

__all__ = ["MEMORY", "collect", "split", "split_tensors", "to_channels"]

MEMORY = 1 << 30
"""Bytes up to which decoded images are kept in memory."""

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def split(n: int, share: float, seed: int, what: str) -> tuple[list[int], list[int]]:
    """(rest, drawn): so many of n examples drawn by lot, at least one and not all.

    >>> rest, drawn = split(10, 0.2, 0, "toy")
    >>> len(rest), len(drawn)
    (8, 2)
    """
    if n < 2:
        raise PruneError(f"{what} has {n} example{'s' * (n != 1)}; at least two are needed")
    drawn = min(max(round(share * n), 1), n - 1)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).tolist()
    return sorted(order[drawn:]), sorted(order[:drawn])


def split_tensors(
    data: tuple[Tensor, Tensor], share: float, seed: int, what: str
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """(rest, drawn) of tensors in memory."""
    x, y = data
    rest, drawn = (torch.tensor(part) for part in split(len(x), share, seed, what))
    return (x[rest], y[rest]), (x[drawn], y[drawn])


def to_channels(x: Tensor, channels: int | None) -> Tensor:
    """(N, C, H, W) images with so many channels: grey is repeated, colour averaged."""
    if channels is None or channels == x.shape[1]:
        return x
    if x.shape[1] == 1:
        return x.expand(-1, channels, -1, -1).contiguous()
    if channels == 1:
        return x.mean(1, keepdim=True)
    raise PruneError(f"the images have {x.shape[1]} channels and the model takes {channels}")


def collect(
    rows: Any, indices: Sequence[int] | None, *, batch_size: int, train: bool, lazy: bool,
    workers: int,
) -> Data:  # fmt: skip
    """(x, y) tensors, or a loader where memory would not do.

    Args:
        rows: a torch dataset of (image, class).
        lazy: read anew in every epoch, whatever the size.
    """
    part = rows if indices is None else Subset(rows, indices)
    first, _ = part[0]
    if not lazy and first.numel() * first.element_size() * len(part) <= MEMORY:
        pairs = [part[i] for i in range(len(part))]
        return torch.stack([x for x, _ in pairs]), torch.tensor([int(y) for _, y in pairs])
    # The order is drawn from the global random state, which training seeds for every epoch.
    return DataLoader(part, batch_size, shuffle=train, num_workers=workers)
