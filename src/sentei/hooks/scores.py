"""Masks that are learned while the weights stay what they were drawn."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from sentei.allocation.weights import top
from sentei.graph.capture import unwrap
from sentei.hooks.base import Hook
from sentei.structures.masks import Masks

__all__ = ["BernoulliMask", "EdgePopup", "LearnedMask"]


class LearnedMask(Hook):
    """Scores for each weight, trained in place of the weights: the forward pass sees W' = W ⊙ h(s).

    Straight through h: dL/dh = dL/dW' ⊙ W. The scores have an SGD of their own, whose learning
    rate at every step is the loop's; the loop's own step is left out, so that no parameter of the
    model moves. Subclasses say how scores start, what h is, and how dL/dh reaches them.

    `frozen` holds the weights, `scores` the scores, both by name.
    """

    def __init__(
        self,
        names: Iterable[str],
        *,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.names = list(names)
        self.momentum, self.weight_decay, self.seed = momentum, weight_decay, seed

    def first(self, name: str, weight: Tensor) -> Tensor:
        """The scores to start with."""
        raise NotImplementedError

    def mask(self, name: str) -> Tensor:
        """h(s): what the weights are multiplied by, of their shape."""
        raise NotImplementedError

    def chain(self, name: str, gradient: Tensor) -> Tensor:
        """dL/ds from dL/dh."""
        raise NotImplementedError

    def start(self, model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
        super().start(model, optimizer, steps)
        parameters = dict(unwrap(model).named_parameters(remove_duplicate=False))
        self.weights = {n: parameters[n] for n in self.names}
        self.frozen = {n: w.detach().clone() for n, w in self.weights.items()}
        self.scores = {n: self.first(n, w) for n, w in self.frozen.items()}
        self.own = torch.optim.SGD(
            list(self.scores.values()), lr=0.0, momentum=self.momentum,
            weight_decay=self.weight_decay,
        )  # fmt: skip
        self._show()

    @torch.no_grad()
    def before_step(self) -> bool:
        for name, weight in self.weights.items():
            if weight.grad is None:
                self.scores[name].grad = None
            else:
                self.scores[name].grad = self.chain(name, weight.grad * self.frozen[name])
        for group in self.own.param_groups:
            group["lr"] = self.optimizer.param_groups[0]["lr"]
        self.own.step()
        return False

    def after_step(self) -> None:
        super().after_step()
        self._show()

    @torch.no_grad()
    def _show(self) -> None:
        for name, weight in self.weights.items():
            weight.copy_(self.frozen[name] * self.mask(name))

    def generator(self, purpose: str) -> torch.Generator:
        """Numbers that depend on the seed and `purpose` alone."""
        return torch.Generator().manual_seed(zlib.crc32(f"{self.seed}:{purpose}".encode()))

    def state_dict(self) -> dict[str, Any]:
        return {
            **super().state_dict(),
            "frozen": self.frozen,
            "scores": self.scores,
            "own": self.own.state_dict()["state"],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.frozen = {n: t.clone() for n, t in state["frozen"].items()}
        with torch.no_grad():
            for name, score in state["scores"].items():
                self.scores[name].copy_(score)
        groups = self.own.state_dict()["param_groups"]
        self.own.load_state_dict({"state": state["own"], "param_groups": groups})
        self._show()


class EdgePopup(LearnedMask):
    """h keeps the share `density` of each layer with the largest |s|; dL/ds = dL/dh · sign(s).

    Exactly n - int((1 - density) n) of n weights. Scores start uniform in ±1/sqrt(fan in)
    (`kaiming_uniform_` with a = sqrt(5)).

    Source: Ramanujan et al. 2020, arXiv:1911.13299, section 3; equations 2 and 4.
    """

    def __init__(
        self, names: Iterable[str], density: float, *, weight_decay: float = 1e-4, **more: Any
    ) -> None:
        super().__init__(names, weight_decay=weight_decay, **more)
        self.density = density

    def first(self, name: str, weight: Tensor) -> Tensor:
        bound = 1 / math.sqrt(weight[0].numel())
        draws = torch.rand(weight.shape, generator=self.generator(f"scores:{name}"))
        return ((2 * draws - 1) * bound).to(weight)

    def kept(self, name: str) -> Tensor:
        score = self.scores[name]
        # A share such as 0.7 is not quite a float: 1 - 0.7 of 10 must drop 3.
        dropped = int((1 - self.density) * score.numel() + 1e-9)
        return top(score.abs(), score.numel() - dropped)

    def mask(self, name: str) -> Tensor:
        return self.kept(name)

    def chain(self, name: str, gradient: Tensor) -> Tensor:
        return gradient * self.scores[name].sign()

    @property
    def masks(self) -> Masks:
        """What the scores keep now."""
        return Masks({n: self.kept(n) for n in self.names})


class BernoulliMask(LearnedMask):
    """h = 1 with probability p = sigmoid(s), drawn anew at every step; dL/ds = dL/dh · p (1 - p).

    Args:
        rescale: multiply by size / sum(h) of each layer, so that sampling does not shrink what
            flows through it ("dynamic weight rescaling").
        initial: the scores to start with; 0 is p = 1/2.

    Source: Zhou et al. 2019, arXiv:1905.01067, section 5.
    """

    def __init__(
        self, names: Iterable[str], *, rescale: bool = True, initial: float = 0.0, **more: Any
    ) -> None:
        super().__init__(names, **more)
        self.rescale, self.initial = rescale, initial

    def first(self, name: str, weight: Tensor) -> Tensor:
        return torch.full_like(weight, self.initial)

    def sample(self, name: str) -> Tensor:
        score = self.scores[name]
        draws = torch.rand(score.shape, generator=self.generator(f"{self.step}:{name}"))
        return draws.to(score.device) < score.sigmoid()

    def mask(self, name: str) -> Tensor:
        drawn = self.sample(name)
        return drawn * self.scale(drawn)

    def scale(self, drawn: Tensor) -> float:
        """What the weights that `drawn` keeps are multiplied by."""
        kept = int(drawn.sum())
        return drawn.numel() / kept if self.rescale and kept else 1.0

    def chain(self, name: str, gradient: Tensor) -> Tensor:
        p = self.scores[name].sigmoid()
        return gradient * p * (1 - p) * self.scale(self.sample(name))
