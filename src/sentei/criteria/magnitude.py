"""Magnitude: units with small weights go first."""

from __future__ import annotations

import torch
from torch import Tensor

from sentei.criteria.evidence import Evidence, needs
from sentei.graph.groups import Group

__all__ = ["l1", "l2"]


@needs()
def l1(group: Group, evidence: Evidence) -> Tensor:
    """Sum of the absolute weights of all slices of a unit.

    score[u] = sum over unit u of |w|

    Returns:
        (units,), >= 0, not normalised: the planner compares groups (see `sentei.allocation`).
    Raises:
        PruneError: a weight is NaN or infinite.
    Source: Li et al. 2017, arXiv:1608.08710, section 3.1, over the filter alone; here over
        everything that is removed with it, as in Fang et al. 2023, arXiv:2301.12900.

    >>> from sentei.graph.groups import analyze
    >>> net = torch.nn.Sequential(torch.nn.Linear(1, 2, bias=False), torch.nn.Linear(2, 1))
    >>> _ = net[0].weight.data.copy_(torch.tensor([[1.], [-2.]]))
    >>> _ = net[1].weight.data.copy_(torch.tensor([[10., 20.]]))
    >>> groups = analyze(net, torch.zeros(1, 1))
    >>> l1(groups["0"], Evidence.of(net, groups)).tolist()
    [11.0, 22.0]
    """
    return evidence.sum(group, torch.abs)


@needs()
def l2(group: Group, evidence: Evidence) -> Tensor:
    """Euclidean norm of all weights of a unit.

    score[u] = sqrt(sum over unit u of w ** 2)

    Returns:
        (units,), >= 0, not normalised.
    Raises:
        PruneError: a weight is NaN or infinite.
    Source: Fang et al. 2023, arXiv:2301.12900, eq. 4, as one norm over all slices.

    >>> from sentei.graph.groups import analyze
    >>> net = torch.nn.Sequential(torch.nn.Linear(1, 2, bias=False), torch.nn.Linear(2, 1))
    >>> _ = net[0].weight.data.copy_(torch.tensor([[3.], [6.]]))
    >>> _ = net[1].weight.data.copy_(torch.tensor([[4., -8.]]))
    >>> groups = analyze(net, torch.zeros(1, 1))
    >>> l2(groups["0"], Evidence.of(net, groups)).tolist()
    [5.0, 10.0]
    """
    return evidence.sum(group, torch.square).sqrt()
