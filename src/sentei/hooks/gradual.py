"""Masks that are chosen anew on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn

from sentei.hooks.mask import MaskHook
from sentei.structures.masks import Masks

__all__ = ["GradualHook", "updates"]


class GradualHook(MaskHook):
    """Before each step in `at`, `choose(step, masks so far)` gives new masks; held in between.

    Masked weights are zero, get no lasting update, and so come back only if `choose` says so.
    """

    def __init__(
        self, masks: Masks, choose: Callable[[int, Masks], Masks], at: Iterable[int]
    ) -> None:
        super().__init__(masks)
        self.choose, self.at = choose, frozenset(at)

    def start(self, model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
        super().start(model, optimizer, steps)
        self._update()

    def after_step(self) -> None:
        super().after_step()
        self._update()

    def _update(self) -> None:
        if self.step in self.at:
            self.hold(self.choose(self.step, self.masks))


def updates(start: int, end: int, every: int) -> list[int]:
    """start, start + every, …, and always the end.

    >>> updates(2, 9, 3)
    [2, 5, 8, 9]
    """
    return [*range(start, end, every), end]
