"""Keep Adam's second moment while training: a diagonal curvature for nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from sentei.graph.capture import unwrap
from sentei.hooks.base import Hook

__all__ = ["SecondMoment"]


class SecondMoment(Hook):
    """ν = running mean of the squared gradients of batches: ν ← β ν + (1 - β) g², ν / (1 - βᵗ).

    Adam's own ν is read where the optimiser keeps one (`exp_avg_sq`, with its own β); any other
    optimiser gets one here. `moments` has it by parameter name once training is over.

    Source: Kingma and Ba 2015, arXiv:1412.6980, algorithm 1.

    >>> model = nn.Linear(1, 1, bias=False)
    >>> hook = SecondMoment(["weight"], beta=0.5)
    >>> hook.start(model, torch.optim.SGD(model.parameters(), lr=0.0), steps=2)
    >>> for slope in (1.0, 3.0):
    ...     model.weight.grad = torch.tensor([[slope]])
    ...     _ = hook.before_step(); hook.after_step()
    >>> hook.finish()
    >>> round(hook.moments["weight"].item(), 4)  # (1·1/4 + 9·1/2) / (1 - 1/4)
    6.3333
    """

    def __init__(self, names: Iterable[str], beta: float = 0.999) -> None:
        self.names, self.beta = list(names), beta
        self.moments: dict[str, Tensor] = {}

    def start(self, model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
        super().start(model, optimizer, steps)
        parameters = dict(unwrap(model).named_parameters(remove_duplicate=False))
        self.parameters = {n: parameters[n] for n in self.names}
        self.running = {n: torch.zeros_like(p) for n, p in self.parameters.items()}

    def before_step(self) -> bool:
        if not isinstance(self.optimizer, (torch.optim.Adam, torch.optim.AdamW)):
            for name, p in self.parameters.items():
                if p.grad is not None:
                    grad = p.grad.detach()
                    self.running[name].mul_(self.beta).addcmul_(grad, grad, value=1 - self.beta)
        return True

    def finish(self) -> None:
        for name, p in self.parameters.items():
            state = self.optimizer.state.get(p, {})
            if "exp_avg_sq" in state:
                beta = next(
                    g["betas"][1]
                    for g in self.optimizer.param_groups
                    if any(q is p for q in g["params"])
                )
                steps, value = float(state["step"]), state["exp_avg_sq"]
            else:
                beta, steps, value = self.beta, self.step, self.running[name]
            self.moments[name] = (value / (1 - beta**steps) if steps else value).detach().clone()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "running": {n: t.clone() for n, t in self.running.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.running = {n: t.clone() for n, t in state["running"].items()}
