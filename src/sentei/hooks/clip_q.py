"""Prune and quantise in every forward pass, train the weights behind."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from sentei.hooks.shadow import ShadowHook
from sentei.structures.codebook import clip_and_quantise

__all__ = ["ClipQ"]


class ClipQ(ShadowHook):
    """The forward pass sees `clip_and_quantise(W, drop, bits)`; its gradient moves W.

    Clipping points, cells and means are taken anew each step, so that what was clipped can return.

    Args:
        plan: parameter -> (how many weights to clip, bits).
    """

    def __init__(self, plan: Mapping[str, tuple[int, int]]) -> None:
        super().__init__(plan)
        self.plan = dict(plan)

    def seen(self, name: str, dense: Tensor) -> Tensor:
        return clip_and_quantise(dense, *self.plan[name])
