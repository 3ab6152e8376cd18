"""Chance: the baseline that every other criterion has to beat."""

from __future__ import annotations

import torch
from torch import Tensor

from sentei.criteria.evidence import Evidence, needs
from sentei.graph.groups import Group

__all__ = ["random"]


@needs()
def random(group: Group, evidence: Evidence) -> Tensor:
    """Uniform scores in [0, 1), the same for the same seed and group name.

    Returns:
        (units,).
    Source: Blalock et al. 2020, arXiv:2003.03033: random pruning as a baseline.
    """
    generator = evidence.generator(group.name)
    return torch.rand(group.size, generator=generator, dtype=torch.float64)
