"""How far apart two trainings end."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from sentei.structures import Masks

__all__ = ["distance"]


def distance(one: Mapping[str, Tensor], two: Mapping[str, Tensor], masks: Masks) -> float:
    """L2 distance of two states over the weights that `masks` keep.

    Between a ticket and the dense network after training it is the instability to pruning, which
    falls as tickets are rewound to later steps.

    Source: Frankle et al. 2019, arXiv:1903.01611, section 4.

    >>> import torch
    >>> masks = Masks({"w": torch.tensor([True, True, False])})
    >>> distance({"w": torch.zeros(3)}, {"w": torch.tensor([3., 4., 9.])}, masks)
    5.0
    """
    total = sum(
        (one[n].double() - two[n].double())[m].square().sum().item() for n, m in masks.items()
    )
    return total**0.5
