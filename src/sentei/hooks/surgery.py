"""Prune and splice."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sentei.hooks.shadow import ShadowHook
from sentei.structures.masks import Masks

__all__ = ["SurgeryHook"]


class SurgeryHook(ShadowHook):
    """A mask that weights leave below one threshold and enter again above another.

    T <- 0 where |W| <= a, T <- 1 where |W| > b, unchanged between; forward with T * W; the gradient
    at T * W moves all of W. Before the forward pass of step i < stop each layer draws whether its
    mask is looked at, with probability (1 + γ i)^-power.

    Weight decay reaches masked weights, too: a weight that no gradient holds up fades for good.

    thresholds: parameter -> (a, b), fixed. spliced: how often a weight came back.
    splice: False masks the gradient and never brings a weight back, for comparison.

    Source: Guo, Yao, Chen 2016, arXiv:1608.04493, algorithm 1.
    """

    def __init__(
        self,
        thresholds: Mapping[str, tuple[float, float]],
        weights: Mapping[str, Tensor],
        *,
        gamma: float,
        power: float,
        stop: int,
        seed: int = 0,
        splice: bool = True,
    ) -> None:
        super().__init__(weights)
        self.thresholds = dict(thresholds)
        self.gamma, self.power, self.stop, self.splice = gamma, power, stop, splice
        self.seed = seed
        self.masks = Masks.full(weights)
        self.spliced = 0

    def chance(self, step: int) -> float:
        """Probability that a layer's mask is looked at."""
        base = 1 + self.gamma * step
        return 0.0 if math.isinf(base) else base**-self.power

    def refresh(self) -> None:
        if self.step >= self.stop:
            return
        # By the step alone, so that a training that goes on after a kill draws the same.
        key = zlib.crc32(f"{self.seed}:surgery:{self.step}".encode())
        draw = torch.Generator().manual_seed(key)
        new = {}
        for name, dense in self.dense.items():
            drawn = torch.rand((), generator=draw).item()
            mask = self.masks[name]
            if drawn < self.chance(self.step):
                low, high = self.thresholds[name]
                size = dense.abs()
                stays = mask & (size > low)
                back = ~mask & (size > high) if self.splice else torch.zeros_like(mask)
                self.spliced += int(back.sum())
                mask = stays | back
            new[name] = mask
        self.masks = Masks(new)

    def seen(self, name: str, dense: Tensor) -> Tensor:
        return dense.masked_fill(~self.masks[name], 0.0)

    def gradient(self, name: str, gradient: Tensor) -> Tensor:
        return gradient if self.splice else gradient.masked_fill(~self.masks[name], 0.0)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"masks": dict(self.masks), "spliced": self.spliced}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.masks, self.spliced = Masks(state["masks"]), int(state["spliced"])
        for name, weight in self.weights.items():
            weight.data.copy_(self.seen(name, self.dense[name]))
