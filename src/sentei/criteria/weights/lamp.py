"""Layer-adaptive magnitude: how much of what is left a weight is."""

from __future__ import annotations

import torch
from torch import Tensor

from sentei.criteria.evidence import Evidence, needs

__all__ = ["lamp", "lamp_score"]


@needs()
def lamp(evidence: Evidence) -> dict[str, Tensor]:
    """score[u] = w[u]² / Σ w[v]² over all v of the layer that are no smaller than u.

    The largest weight of each layer scores 1 exactly, so that a global ranking leaves no layer
    empty; scaling a layer changes nothing. Needs no data.

    Source: Lee et al. 2021, arXiv:2010.07611, eq. 3.
    """
    return {name: lamp_score(weight) for name, weight in evidence.weights.items()}


def lamp_score(weight: Tensor) -> Tensor:
    """The scores of one layer, float64.

    >>> lamp_score(torch.tensor([1., -2., 2.])).tolist()
    [0.1111111111111111, 0.5, 1.0]
    """
    square = weight.detach().flatten().double().square()
    ascending = square.argsort(stable=True)
    # Summed from the large end: the difference total - cumsum would lose the last digits.
    beyond = square[ascending].flip(0).cumsum(0).flip(0)
    scores = torch.zeros_like(square)
    scores[ascending] = torch.where(beyond > 0, square[ascending] / beyond, 0.0)
    return scores.view(weight.shape)
