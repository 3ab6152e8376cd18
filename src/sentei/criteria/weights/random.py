"""Chance, the baseline of every comparison."""

from __future__ import annotations

import torch
from torch import Tensor

from sentei.criteria.evidence import Evidence, needs

__all__ = ["random"]


@needs()
def random(evidence: Evidence) -> dict[str, Tensor]:
    """Uniform in [0, 1), from the evidence's seed and the parameter's name."""
    return {
        name: torch.rand(weight.shape, generator=evidence.generator(name)).to(weight.device)
        for name, weight in evidence.weights.items()
    }
