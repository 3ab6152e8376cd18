"""Gates that are open, shut or between, drawn anew each step."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sentei.hooks.shadow import ShadowHook

__all__ = ["HardConcrete", "expected_open", "gate", "sampled"]

BETA, GAMMA, ZETA = 2 / 3, -0.1, 1.1


def gate(log_alpha: Tensor) -> Tensor:
    """At test time: clip(sigmoid(log α) (ζ - γ) + γ, 0, 1).

    >>> gate(torch.tensor([-9.0, 0.0, 9.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    return (log_alpha.sigmoid() * (ZETA - GAMMA) + GAMMA).clamp(0, 1)


def sampled(log_alpha: Tensor, uniform: Tensor) -> Tensor:
    """z = clip(s (ζ - γ) + γ, 0, 1),  s = sigmoid((log u - log(1 - u) + log α) / β)."""
    s = ((uniform.log() - (-uniform).log1p() + log_alpha) / BETA).sigmoid()
    return (s * (ZETA - GAMMA) + GAMMA).clamp(0, 1)


def expected_open(log_alpha: Tensor) -> Tensor:
    """P(z > 0) = sigmoid(log α - β log(-γ / ζ)): the L0 penalty of each gate.

    >>> round(expected_open(torch.tensor(0.0)).item(), 4)
    0.8318
    """
    return (log_alpha - BETA * math.log(-GAMMA / ZETA)).sigmoid()


class HardConcrete(ShadowHook):
    """W' = W * z with z a hard concrete gate of each weight; loss + λ mean over all P(z > 0).

    dL/dW = dL/dW' * z;  dL/d log α = dL/dW' * W * dz/d log α, the noise held fixed.

    Source: Louizos, Welling, Kingma 2018, arXiv:1712.01312, eqs. 10 to 13.

    Args:
        strength: λ; lr: Adam's, for log α; start: log α at the start.
        seed: of the gates' noise.
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        *,
        strength: float,
        lr: float = 1e-2,
        start: float = 2.0,
        seed: int = 0,
    ) -> None:
        super().__init__(weights)
        self.strength, self.seed = strength, seed
        self.log_alpha = {n: torch.full_like(w.detach(), start) for n, w in weights.items()}
        self.learner = torch.optim.Adam(self.log_alpha.values(), lr=lr)
        self.total = sum(w.numel() for w in weights.values())
        self.gates: dict[str, Tensor] = {}
        self.slopes: dict[str, Tensor] = {}

    def refresh(self) -> None:
        key = zlib.crc32(f"{self.seed}:gates:{self.step}".encode())
        draw = torch.Generator().manual_seed(key)
        for name, values in self.log_alpha.items():
            u = torch.rand(values.shape, generator=draw).clamp(1e-6, 1 - 1e-6)
            with torch.enable_grad():
                leaf = values.detach().requires_grad_()
                z = sampled(leaf, u.to(values))
                (self.slopes[name],) = torch.autograd.grad(z.sum(), leaf)
            self.gates[name] = z.detach()

    def seen(self, name: str, dense: Tensor) -> Tensor:
        return dense * self.gates[name]

    def gradient(self, name: str, gradient: Tensor) -> Tensor:
        return gradient * self.gates[name]

    def before_step(self) -> bool:
        for name, weight in self.weights.items():
            opened = expected_open(self.log_alpha[name])
            slope = self.strength / self.total * opened * (1 - opened)
            if weight.grad is not None:
                slope = slope + weight.grad * self.dense[name] * self.slopes[name]
            self.log_alpha[name].grad = slope
        self.learner.step()
        self.learner.zero_grad()
        return super().before_step()

    def finish(self) -> None:
        """Leave the weights times their gates at test time."""
        for name, weight in self.weights.items():
            weight.data.copy_(self.dense[name] * gate(self.log_alpha[name]))

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {
            "log_alpha": dict(self.log_alpha),
            "learner": self.learner.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        for name, value in state["log_alpha"].items():
            self.log_alpha[name].copy_(value)
        self.learner.load_state_dict(state["learner"])
        self._show()
