"""First-order estimate of what removing a unit costs."""

from __future__ import annotations

import torch
from torch import Tensor

from sentei.criteria.evidence import Evidence, needs
from sentei.graph.groups import Group

__all__ = ["taylor"]


@needs("data", "gradients")
def taylor(group: Group, evidence: Evidence) -> Tensor:
    """Squared first-order change of the loss if a unit were zeroed.

    score[u] = mean over batches of (sum over unit u of w * dL/dw) ** 2

    Needs `data` and `loss`. Gradients are taken in eval mode.

    Returns:
        (units,), in loss ** 2, >= 0.
    Raises:
        PruneError: no data or no loss; a weight or gradient is NaN or infinite.
    Source: Molchanov et al. 2019, arXiv:1906.10771, joint first-order score (eq. 8), averaged over
        batches. Here the sum runs over all slices that leave with the unit.

    >>> from sentei.graph.groups import analyze
    >>> net = torch.nn.Sequential(torch.nn.Linear(1, 2, bias=False), torch.nn.Linear(2, 1))
    >>> _ = net[0].weight.data.copy_(torch.tensor([[1.], [2.]]))
    >>> _ = net[1].weight.data.copy_(torch.tensor([[3., 5.]]))
    >>> groups = analyze(net, torch.ones(1, 1))
    >>> batch = torch.ones(1, 1), torch.zeros(1)
    >>> evidence = Evidence.of(net, groups, data=batch, loss=lambda out, target: out.sum())
    >>> taylor(groups["0"], evidence).tolist()  # (1·3 + 3·1)² and (2·5 + 5·2)²
    [36.0, 400.0]
    """
    return evidence.per_batch(group, torch.mul).square().mean(0)
