"""Push what certain weights know into the others, before they are removed."""

from __future__ import annotations

import torch
from torch import nn

from sentei.graph.capture import unwrap
from sentei.graph.errors import PruneError
from sentei.hooks.base import Hook
from sentei.structures.masks import Masks

__all__ = ["Extrusion"]


class Extrusion(Hook):
    """A growing L2 penalty on the weights that `masks` drop: g <- g + λ (1 - m) ⊙ w.

    λ starts at 0 and grows by `peak · interval / ramp` every `interval` steps, up to `peak` after
    `ramp` steps; from then on it stays.

    Args:
        peak: λ at the end.
        ramp: steps until then, or a share of all steps.
        interval: steps between two increases.

    Source: Bai et al. 2022, arXiv:2203.04248, section 3.2; ramp and interval as in its code.

    >>> model = nn.Linear(2, 1, bias=False)
    >>> _ = model.weight.data.copy_(torch.tensor([[2., 3.]]))
    >>> hook = Extrusion(Masks({"weight": torch.tensor([[True, False]])}), peak=0.5, ramp=0)
    >>> hook.start(model, None, 1)
    >>> model.weight.grad = torch.ones(1, 2)
    >>> hook.before_step(), model.weight.grad.tolist()
    (True, [[1.0, 2.5]])
    """

    def __init__(
        self, masks: Masks, *, peak: float = 1.0, ramp: float = 0.5, interval: int = 5
    ) -> None:
        if peak < 0 or ramp < 0 or interval < 1:
            raise PruneError(
                f"need peak >= 0, ramp >= 0 and interval >= 1; got {peak!r}, {ramp!r}, {interval!r}"
            )
        self.masks, self.peak, self.ramp, self.interval = masks, peak, ramp, interval

    def start(self, model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
        super().start(model, optimizer, steps)
        parameters = dict(unwrap(model).named_parameters(remove_duplicate=False))
        self.weights = [(parameters[n], (~m).to(parameters[n])) for n, m in self.masks.items()]
        self.until = self.ramp if isinstance(self.ramp, int) else self.ramp * steps

    @property
    def strength(self) -> float:
        """λ at this step."""
        if not self.until:
            return self.peak
        grown = self.step // self.interval * self.interval
        return self.peak * min(grown / self.until, 1.0)

    @torch.no_grad()
    def before_step(self) -> bool:
        strength = self.strength
        for weight, dropped in self.weights:
            if strength and weight.grad is not None:
                weight.grad.addcmul_(dropped, weight, value=strength)
        return True
