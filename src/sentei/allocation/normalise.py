"""How scores of different groups are made comparable before they are ranked together."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["NORMALISERS"]


def by_mean(scores: Tensor) -> Tensor:
    """Scores over their mean magnitude: an average unit is worth 1. All zeros stay zeros.

    >>> by_mean(torch.tensor([1., 3.]))
    tensor([0.5000, 1.5000])
    """
    mean = scores.abs().mean()
    return scores / mean if mean > 0 else scores


def by_max(scores: Tensor) -> Tensor:
    """Scores over their largest magnitude: the best unit is worth 1.

    >>> by_max(torch.tensor([1., 4.]))
    tensor([0.2500, 1.0000])
    """
    top = scores.abs().max()
    return scores / top if top > 0 else scores


def by_sum(scores: Tensor) -> Tensor:
    """Scores over their sum of magnitudes: each group is worth 1, so units of wide ones go first.

    >>> by_sum(torch.tensor([1., 3.]))
    tensor([0.2500, 0.7500])
    """
    total = scores.abs().sum()
    return scores / total if total > 0 else scores


def by_norm(scores: Tensor) -> Tensor:
    """Scores over their Euclidean norm, as Molchanov et al. 2017, arXiv:1611.06440, section 2.2.

    >>> by_norm(torch.tensor([3., 4.]))
    tensor([0.6000, 0.8000])
    """
    norm = scores.norm()
    return scores / norm if norm > 0 else scores


def by_spread(scores: Tensor) -> Tensor:
    """(score - mean) / standard deviation: what stands out within its group. Equal ones are 0.

    >>> by_spread(torch.tensor([1., 3.]))
    tensor([-1.,  1.])
    """
    spread = scores.std(correction=0)
    return (scores - scores.mean()) / spread if spread > 0 else torch.zeros_like(scores)


def lamp(scores: Tensor) -> Tensor:
    """lamp[u] = score[u] / sum of the scores that are not below score[u].

    The best unit of every group is worth 1. Scores are magnitudes squared in the source; it is
    for weights there, and applied to units here. Lee et al. 2021, arXiv:2010.07611, eq. 3.

    >>> lamp(torch.tensor([1., 3., 2.]))
    tensor([0.1667, 1.0000, 0.4000])
    """
    order = scores.argsort(stable=True).flip(0)  # of equal ones the last stay
    sums = scores[order].cumsum(0)
    ranked = torch.where(sums > 0, scores[order] / sums.clamp(min=1e-300), sums)
    return torch.empty_like(scores).index_copy_(0, order, ranked)


def as_is(scores: Tensor) -> Tensor:
    """Scores as the criterion gave them, for criteria that compare groups by themselves."""
    return scores


NORMALISERS: dict[str, Callable[[Tensor], Tensor]] = {
    "lamp": lamp,
    "max": by_max,
    "mean": by_mean,
    "none": as_is,
    "norm": by_norm,
    "spread": by_spread,
    "sum": by_sum,
}
