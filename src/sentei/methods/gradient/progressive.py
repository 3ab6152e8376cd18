"""Pruning in several shots: score, keep fewer, score what is left again."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from sentei.allocation.weights import select
from sentei.criteria.weights import Saliency, weigh
from sentei.graph.errors import PruneError, closest
from sentei.methods.setting import Setting
from sentei.schedules.curves import Exponential, Linear
from sentei.structures import Masks

__all__ = ["iterative", "progressive"]

Score = Callable[[Masks, Mapping[str, Tensor]], Mapping[str, Tensor]]

_CURVES = {"exponential": Exponential, "linear": Linear}


def progressive(
    setting: Setting,
    score: Score,
    steps: int,
    curve: str = "exponential",
    *,
    returning: bool = False,
) -> Masks:
    """Masks of the setting's density after `steps` rounds of scoring the pruned network.

    In round t = 1..T the density is d^(t/T) (exponential) or 1 - t (1 - d) / T (linear). The
    network is scored with its weights masked as the round before left them, starting whole; the
    dense values are put back for every round, and masked at the end.

    Args:
        score: (masks so far, dense weights) -> scores; called with the model masked.
        returning: whether weights that are masked may come back if they score well enough.
    """
    if steps < 1:
        raise PruneError(f"steps: how many rounds of scoring, at least 1; got {steps}")
    if curve not in _CURVES:
        raise PruneError(f"unknown curve {curve!r}; {closest(curve, _CURVES)}")
    sparsity = _CURVES[curve](final=1 - setting.keep, start=0, end=steps)
    dense = {n: w.detach().clone() for n, w in setting.weights.items()}
    masks = Masks.full(setting.weights)
    for step in range(1, steps + 1):
        masks.apply_(setting.model)
        scores = dict(score(masks, dense))
        if not returning:
            scores = {n: s.double().masked_fill(~masks[n], -torch.inf) for n, s in scores.items()}
        # The last density is the one asked for, without the rounding of powers.
        density = setting.keep if step == steps else 1 - sparsity(step)
        masks = select(scores, density)
        _put_back(setting, dense)
    masks.apply_(setting.model)
    return masks


def iterative(
    setting: Setting,
    saliency: str | Saliency,
    rounds: int = 1,
    *,
    scope: str = "global",
    size: int | None = None,
) -> Masks:
    """Masks after `rounds` of: score the trained network, prune it, train on with the recovery.

    The density falls by the same factor each round. What is masked stays masked.

    Args:
        size: examples a batch of the evidence.
    """
    if rounds < 1:
        raise PruneError(f"rounds: how many times to prune and train on, at least 1; got {rounds}")
    masks = Masks.full(setting.weights)
    for turn in range(1, rounds + 1):
        scores = weigh(saliency, setting.evidence(size=size))
        scores = {n: s.double().masked_fill(~masks[n], -torch.inf) for n, s in scores.items()}
        masks = select(scores, setting.keep ** (turn / rounds), scope)
        masks.apply_(setting.model)
        setting.recover(masks)
    return masks


def _put_back(setting: Setting, dense: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, weight in setting.weights.items():
            weight.copy_(dense[name])
