"""Learned scores: which weights move away from zero."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from sentei.hooks.shadow import ShadowHook
from sentei.structures import block as blocks
from sentei.structures.masks import Masks

__all__ = ["ScoreHook", "SoftScoreHook"]

Choose = Callable[[int, Mapping[str, Tensor]], Masks]


class ScoreHook(ShadowHook):
    """W' = W * M(S), with S learned through M as if M were the identity.

    dL/dS = dL/dW' * W   (summed over a block, where blocks share a score)
    dL/dW = dL/dW' * M

    S starts at zero and has an optimiser of its own; `choose(step, scores)` gives the masks for
    the next step from scores of the weights' shapes.

    Source: Sanh, Wolf, Rush 2020, arXiv:2005.07683, section 4; blocks: Lagunas et al. 2021.
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        choose: Choose,
        *,
        lr: float = 1e-2,
        optimizer: str = "adam",
        block: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(weights)
        self.choose, self.block = choose, block
        self.shapes = {n: w.shape for n, w in weights.items()}
        self.scores = {n: torch.zeros_like(self._pool(w.detach())) for n, w in weights.items()}
        kinds = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}
        self.learner = kinds[optimizer](self.scores.values(), lr=lr)
        self.masks = Masks.full(weights)

    def _pool(self, values: Tensor) -> Tensor:
        return values if self.block is None else blocks.pooled(values, self.block)

    def spread(self) -> dict[str, Tensor]:
        """The scores in the weights' shapes."""
        if self.block is None:
            return dict(self.scores)
        return {n: blocks.spread(s, self.block, self.shapes[n]) for n, s in self.scores.items()}

    def refresh(self) -> None:
        self.masks = self.choose(self.step, self.spread())

    def seen(self, name: str, dense: Tensor) -> Tensor:
        return dense.masked_fill(~self.masks[name], 0.0)

    def gradient(self, name: str, gradient: Tensor) -> Tensor:
        return gradient.masked_fill(~self.masks[name], 0.0)

    def before_step(self) -> bool:
        for name, weight in self.weights.items():
            if weight.grad is not None:
                self.scores[name].grad = self._pool(weight.grad * self.dense[name])
                self.extra_gradient(name)
        self.learner.step()
        self.learner.zero_grad()
        return super().before_step()

    def extra_gradient(self, name: str) -> None:
        """Add to `scores[name].grad` what a penalty on the scores gives."""

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {
            "scores": dict(self.scores),
            "learner": self.learner.state_dict(),
            "masks": dict(self.masks),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        for name, value in state["scores"].items():
            self.scores[name].copy_(value)
        self.learner.load_state_dict(state["learner"])
        self.masks = Masks(state["masks"])
        # What is seen was made before the scores were put back.
        for name, weight in self.weights.items():
            weight.data.copy_(self.seen(name, self.dense[name]))


class SoftScoreHook(ScoreHook):
    """Also pulls the scores down: loss + λ(step) · mean over matrices of mean(sigmoid(S))."""

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        choose: Choose,
        strength: Callable[[int], float],
        **options: Any,
    ) -> None:
        super().__init__(weights, choose, **options)
        self.strength = strength

    def extra_gradient(self, name: str) -> None:
        score = self.scores[name]
        gate = score.sigmoid()
        pull = self.strength(self.step) / (len(self.scores) * score.numel())
        assert score.grad is not None
        score.grad.add_(gate * (1 - gate), alpha=pull)


def threshold(scores: Mapping[str, Tensor], tau: float, floor: float = 0.005) -> Masks:
    """sigmoid(S) > τ, and at least half a percent of every matrix.

    >>> threshold({"w": torch.tensor([[-9., -8., 0.5]])}, 0.5)["w"].tolist()
    [[False, False, True]]
    """
    from sentei.allocation.weights import top  # allocation builds on structures, as hooks do

    out = {}
    for name, score in scores.items():
        mask = score.sigmoid() > tau
        least = max(int(floor * score.numel()), 1)
        out[name] = mask if int(mask.sum()) >= least else top(score, least)
    return Masks(out)
