"""Scores and how many to keep of them, both learned."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sentei.allocation.weights import counts, top
from sentei.graph.errors import PruneError
from sentei.hooks.movement import ScoreHook
from sentei.structures.masks import Masks

__all__ = ["RatioHook", "coefficient", "regulariser"]


def regulariser(ratio: Tensor, target: float) -> Tensor:
    """(R - R_target)² where R is above the target, else 0.

    >>> regulariser(torch.tensor(0.5), 0.2), regulariser(torch.tensor(0.1), 0.2)
    (tensor(0.0900), tensor(0.))
    """
    return (ratio - target).clamp(min=0).square()


def coefficient(penalty: float, target: float, most: float, least: float) -> float:
    """λ = max(λ_max L_reg / (1 - R_target)², λ_min): λ_max at R = 1.

    >>> coefficient(0.25, 0.5, most=3000, least=50), coefficient(0.0, 0.5, most=3000, least=50)
    (3000.0, 50)
    """
    full = (1 - target) ** 2
    return max(most * penalty / full if full else 0.0, least)


class RatioHook(ScoreHook):
    """Top-k of learned scores, where k of each matrix is learned, too.

    k_i = sigmoid(σ_i / T);  M_i = Top(S_i, ceil(k_i n_i));  loss + λ (R - R_target)² while
    R = Σ k_i n_i / Σ n_i is above the target, λ as in `coefficient`, not differentiated.
    dL/dS = dL/dW' * W as in movement pruning;  dL/dσ = Σ (dL/dM * M) over kept entries, without
    the sigmoid's derivative (as in the authors' code), plus that of the penalty.

    From step `settle` on the ratios are frozen, scaled to meet the target exactly.

    Source: Yao et al. 2021, arXiv:2105.14636.
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        target: float,
        *,
        lr: float = 1e-2,
        ratio_lr: float = 1e-2,
        temperature: float = 1.0,
        start: float = 10.0,
        most: float = 3000.0,
        least: float = 50.0,
        settle: int,
    ) -> None:
        super().__init__(weights, self._top, lr=lr)
        self.target, self.temperature, self.settle = target, temperature, settle
        self.most, self.least = most, least
        self.sizes = {n: w.numel() for n, w in weights.items()}
        self.sigma = torch.full((len(self.sizes),), float(start), requires_grad=True)
        self.ratio_learner = torch.optim.Adam([self.sigma], lr=ratio_lr)
        self.frozen: dict[str, int] | None = None

    def ratios(self) -> dict[str, float]:
        """k_i by parameter."""
        kept = (self.sigma.detach() / self.temperature).sigmoid().tolist()
        return dict(zip(self.sizes, kept, strict=True))

    def _top(self, step: int, scores: Mapping[str, Tensor]) -> Masks:
        if step >= self.settle and self.frozen is None:
            self.frozen = settled(self.sizes, self.ratios(), self.target)
        kept = self.frozen or {n: math.ceil(k * self.sizes[n]) for n, k in self.ratios().items()}
        return Masks({n: top(s, kept[n]) for n, s in scores.items()})

    def total(self) -> Tensor:
        """R, differentiable."""
        sizes = torch.tensor(list(self.sizes.values()), dtype=self.sigma.dtype)
        return ((self.sigma / self.temperature).sigmoid() * sizes).sum() / sizes.sum()

    def before_step(self) -> bool:
        if self.frozen is None:
            pull = []
            for name, weight in self.weights.items():
                grad = weight.grad if weight.grad is not None else torch.zeros_like(weight)
                pull.append((grad * self.dense[name])[self.masks[name]].sum().item())
            if not all(map(math.isfinite, pull)):
                raise PruneError("leap: gradients hold NaN or infinity; try a lower learning rate")
            penalty = regulariser(self.total(), self.target)
            strength = coefficient(penalty.item(), self.target, self.most, self.least)
            (slope,) = torch.autograd.grad(penalty, self.sigma)
            self.sigma.grad = torch.tensor(pull, dtype=slope.dtype) + strength * slope
            self.ratio_learner.step()
            self.ratio_learner.zero_grad()
        return super().before_step()

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {
            "sigma": self.sigma.detach(),
            "ratio_learner": self.ratio_learner.state_dict(),
            "frozen": self.frozen,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.sigma.data.copy_(state["sigma"])
        self.ratio_learner.load_state_dict(state["ratio_learner"])
        self.frozen = state["frozen"]


def settled(sizes: Mapping[str, int], ratios: Mapping[str, float], target: float) -> dict[str, int]:
    """Counts that meet the target exactly, in the proportions of the ratios.

    Above the target all ratios shrink by one factor; below it what they leave out does.

    >>> settled({"a": 100, "b": 100}, {"a": 0.6, "b": 0.2}, 0.2)
    {'a': 30, 'b': 10}
    """
    total = sum(sizes.values())
    reached = sum(ratios[n] * sizes[n] for n in sizes) / total
    if reached >= target:
        wanted = {n: ratios[n] * target / reached for n in sizes}
    else:
        fill = (target - reached) / (1 - reached)
        wanted = {n: ratios[n] + (1 - ratios[n]) * fill for n in sizes}
    return counts({n: (s,) for n, s in sizes.items()}, wanted, round(target * total))
