"""Sparse throughout training: some weights are dropped and as many grown, again and again."""

from __future__ import annotations

import math
import zlib
from typing import Any

import torch
from torch import Tensor, nn

from sentei.allocation.weights import top
from sentei.graph.capture import unwrap
from sentei.graph.errors import PruneError, closest
from sentei.hooks.base import Hook
from sentei.structures.masks import Masks

__all__ = ["DynamicSparse", "rewire"]

GROW = ("gradient", "random")


def rewire(weight: Tensor, mask: Tensor, growth: Tensor, k: int) -> Tensor:
    """The mask after dropping the k smallest active weights and growing k inactive ones.

    Grown are those with the largest `growth` among all that are inactive after the drop; what was
    just dropped may return. The number of active weights stays.

    >>> w = torch.tensor([3., .1, 2., 0., 0.])
    >>> rewire(w, w != 0, torch.tensor([0., .5, 0., .9, .2]), 1).tolist()
    [True, False, True, True, False]
    """
    active = int(mask.sum())
    left = top(weight.abs().masked_fill(~mask, -1.0), active - k)
    grown = top(growth.masked_fill(left, -math.inf), k)
    return left | grown


class DynamicSparse(Hook):
    """SET and RigL. `masks` is the current choice and changes every `interval` steps.

    At step t, a multiple of the interval and below `end`, each layer drops and grows
    k = int(f · active) weights, f(t) = fraction / 2 · (1 + cos(π t / end)). Newly active weights
    start at 0 with the optimiser's state at 0. An update of the masks takes the place of the
    optimiser's step. Inactive weights are zero after every step, so that `grad` is the gradient at
    the sparse weights for all positions, inactive ones included.

    Args:
        masks: the masks to start with.
        grow: "gradient" grows where |dL/dw| is largest (RigL), "random" anywhere (SET).
        fraction: α, share of the active weights replaced at first.
        interval: ΔT, steps between updates.
        end: T_end, the step from which masks stay, or a share of all steps.

    Source: Evci et al. 2020, arXiv:1911.11134, algorithm 1; Mocanu et al. 2018, arXiv:1707.04780.
    """

    def __init__(
        self,
        masks: Masks,
        grow: str = "gradient",
        *,
        fraction: float = 0.3,
        interval: int = 100,
        end: float = 0.75,
        seed: int = 0,
    ) -> None:
        if grow not in GROW:
            raise PruneError(f"unknown growth {grow!r}; {closest(grow, GROW)}")
        if not 0 <= fraction <= 1 or interval < 1:
            raise PruneError(
                f"need a fraction in [0, 1] and an interval of at least one step; "
                f"got {fraction!r} and {interval!r}"
            )
        self.masks, self.grow, self.fraction, self.interval = masks, grow, fraction, interval
        self.end, self.seed = end, seed
        self.updates = 0

    def start(self, model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
        super().start(model, optimizer, steps)
        self.updates = 0
        self.weights = dict(unwrap(model).named_parameters(remove_duplicate=False))
        self.last = self.end if isinstance(self.end, int) else self.end * steps
        if not self.last and self.fraction:
            raise PruneError(
                "the number of steps is not known: give end= as a number of steps, or data with "
                "a known number of batches"
            )
        self.masks.apply_(model)

    def before_step(self) -> bool:
        if not self.fraction or self.step == 0 or self.step % self.interval:
            return True
        if self.step >= self.last:
            return True
        share = self.fraction / 2 * (1 + math.cos(math.pi * self.step / self.last))
        self.masks = Masks({n: self._rewired(n, m, share) for n, m in self.masks.items()})
        self.masks.apply_(self.model)
        self.updates += 1
        return False

    def after_step(self) -> None:
        super().after_step()
        self.masks.apply_(self.model)

    def _rewired(self, name: str, mask: Tensor, share: float) -> Tensor:
        weight = self.weights[name]
        k = int(share * int(mask.sum()))
        if self.grow == "gradient":
            if weight.grad is None:
                return mask  # not reached by the loss
            growth = weight.grad.abs()
        else:
            seed = zlib.crc32(f"{self.seed}:{self.step}:{name}".encode())
            generator = torch.Generator().manual_seed(seed)
            growth = torch.rand(mask.shape, generator=generator).to(mask.device)
        after = rewire(weight.detach(), mask, growth, k)
        _forget(self.optimizer, weight, after & ~mask)
        return after

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "masks": dict(self.masks), "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.masks, self.updates = Masks(state["masks"]), int(state["updates"])
        self.masks.apply_(self.model)


def _forget(optimizer: torch.optim.Optimizer, weight: nn.Parameter, where: Tensor) -> None:
    """The optimiser's memory of these positions is zero: momentum ran on while they were masked."""
    for value in optimizer.state.get(weight, {}).values():
        if isinstance(value, Tensor) and value.shape == weight.shape:
            value[where] = 0
