"""The scale of a normalisation: what training with a penalty on it has switched off goes first."""

from __future__ import annotations

import torch
from torch import Tensor

from sentei.criteria.evidence import Evidence, needs
from sentei.graph.errors import PruneError
from sentei.graph.groups import Group

__all__ = ["bn_scale"]


@needs()
def bn_scale(group: Group, evidence: Evidence) -> Tensor:
    """Mean absolute scale that normalisations apply to a unit.

    score[u] = mean over the normalisations that scale unit u of |gamma[u]|

    Normalisations are found by operator (batch, layer, group, instance and RMS norm), so
    functional code counts too. Units of a residual stream are scaled by several: their mean.

    Returns:
        (units,), >= 0.
    Raises:
        PruneError: no normalisation scales this group, or a scale is NaN or infinite. There is no
            fallback: a weight norm is not comparable with a scale.
    Source: Liu et al. 2017, arXiv:1708.06519.

    >>> from sentei.graph.groups import analyze
    >>> net = torch.nn.Sequential(
    ...     torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 1))
    >>> _ = net[1].weight.data.copy_(torch.tensor([-0.5, 0.25]))
    >>> groups = analyze(net, torch.zeros(4, 3))
    >>> bn_scale(groups["0"], Evidence.of(net, groups)).tolist()
    [0.5, 0.25]
    """
    scales = evidence.norm_scales
    if not any(s.parameter in scales for s in group.slices):
        bare = [
            name
            for name, g in evidence.groups.items()
            if not any(s.parameter in scales for s in g.slices)
        ]
        shown = ", ".join(map(repr, bare[:5])) + (", …" if len(bare) > 5 else "")
        raise PruneError(
            f"bn-scale: no normalisation scales group {group.name!r}. "
            f"Protect what has none (protect=[{shown}]), or choose another criterion, such as 'l2'"
        )
    gamma = evidence.sum(group, torch.abs, only=scales)
    return gamma / evidence.sum(group, torch.ones_like, only=scales).clamp(min=1)
