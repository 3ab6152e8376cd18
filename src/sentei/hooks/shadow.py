"""Weights that the forward pass sees differently from what the optimiser updates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sentei.graph.capture import unwrap
from sentei.hooks.base import Hook

__all__ = ["ShadowHook"]


class ShadowHook(Hook):
    """Keeps the dense weights beside those in use: a straight-through estimate.

    Override `seen` (dense weights -> what the forward pass sees) and, where the dense weights'
    gradient is not that of what was seen, `gradient`. While training, the parameters hold what is
    seen; the optimiser gets the dense values back for its step.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names = list(names)
        self.dense: dict[str, Tensor] = {}

    def seen(self, name: str, dense: Tensor) -> Tensor:
        """What the forward pass uses in place of a dense weight."""
        raise NotImplementedError

    def gradient(self, name: str, gradient: Tensor) -> Tensor:
        """The dense weight's gradient, from that of what was seen."""
        return gradient

    def refresh(self) -> None:
        """Called before what is seen is made anew, once a step."""

    def start(self, model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
        super().start(model, optimizer, steps)
        named = dict(unwrap(model).named_parameters(remove_duplicate=False))
        self.weights: Mapping[str, nn.Parameter] = {n: named[n] for n in self.names}
        self.dense = {n: w.detach().clone() for n, w in self.weights.items()}
        self._show()

    def before_step(self) -> bool:
        for name, weight in self.weights.items():
            if weight.grad is not None:
                weight.grad = self.gradient(name, weight.grad)
            weight.data.copy_(self.dense[name])
        return True

    def after_step(self) -> None:
        super().after_step()
        for name, weight in self.weights.items():
            self.dense[name].copy_(weight.data)
        self._show()

    def _show(self) -> None:
        with torch.no_grad():
            self.refresh()
            for name, weight in self.weights.items():
                weight.data.copy_(self.seen(name, self.dense[name]))

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"dense": dict(self.dense)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        for name, value in state["dense"].items():
            self.dense[name].copy_(value)
