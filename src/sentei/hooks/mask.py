"""Hold a mask while training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sentei.graph.capture import unwrap
from sentei.hooks.base import Hook
from sentei.structures.masks import Masks

__all__ = ["FreezeHook", "MaskHook"]


class MaskHook(Hook):
    """Masked weights are exactly zero after every step, whatever momentum or decay do.

    Masking the gradient alone would not do: momentum and weight decay move weights without one.
    """

    def __init__(self, masks: Masks) -> None:
        self.masks = masks

    def start(self, model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
        super().start(model, optimizer, steps)
        self.hold(self.masks)

    def hold(self, masks: Masks) -> None:
        """Hold these masks from now on."""
        self._held = masks.held(self.model)  # also says so where one does not fit
        self.masks = masks

    def after_step(self) -> None:
        super().after_step()
        for weight, bits in self._held:
            weight.data.view(bits.dtype).bitwise_and_(bits)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"masks": dict(self.masks)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        masks: dict[str, Tensor] = state["masks"]
        self.hold(Masks(masks))


class FreezeHook(Hook):
    """What the masks drop is held at given values instead of zero.

    >>> model = nn.Linear(2, 1)
    >>> masks = Masks({"weight": torch.tensor([[True, False]])})
    >>> hook = FreezeHook(masks, {"weight": torch.ones(1, 2)})
    >>> hook.start(model, None, 0)
    >>> model.weight[0, 1].item()
    1.0
    """

    def __init__(self, masks: Masks, values: Mapping[str, Tensor]) -> None:
        self.masks, self.values = masks, values

    def start(self, model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
        super().start(model, optimizer, steps)
        parameters = dict(unwrap(model).named_parameters(remove_duplicate=False))
        self.frozen = [
            (parameters[n], ~m.to(parameters[n].device), self.values[n].to(parameters[n].device))
            for n, m in self.masks.items()
        ]
        self._hold()

    def after_step(self) -> None:
        super().after_step()
        self._hold()

    @torch.no_grad()
    def _hold(self) -> None:
        for weight, where, values in self.frozen:
            weight.copy_(torch.where(where, values, weight))
