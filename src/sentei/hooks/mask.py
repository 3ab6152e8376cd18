"""Hold a mask while training."""

from __future__ import annotations

import torch
from torch import nn

from sentei.hooks.base import Hook
from sentei.structures.masks import Masks

__all__ = ["MaskHook"]


class MaskHook(Hook):
    """Masked weights are exactly zero after every step, whatever momentum or decay do.

    Masking the gradient alone would not do: momentum and weight decay move weights without one.
    """

    def __init__(self, masks: Masks) -> None:
        self.masks = masks

    def start(self, model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
        super().start(model, optimizer, steps)
        self.masks.apply_(model)

    def after_step(self) -> None:
        super().after_step()
        self.masks.apply_(self.model)
