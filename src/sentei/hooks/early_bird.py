"""Watch which channels batch-norm's scales would keep, and stop when that no longer changes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from sentei.allocation.weights import top
from sentei.graph.capture import unwrap
from sentei.graph.errors import PruneError
from sentei.hooks.base import Hook, Stop

__all__ = ["EarlyBird", "channel_mask", "mask_distance"]


def channel_mask(scales: Iterable[Tensor], share: float) -> Tensor:
    """Which channels stay if the share of them with the least |gamma|, over all layers, goes.

    Returns:
        (channels of all layers,) bool; `int(share · channels)` are False.

    >>> channel_mask([torch.tensor([.5, -.1]), torch.tensor([.3, .2])], 0.5).tolist()
    [True, False, True, False]
    """
    flat = torch.cat([s.detach().abs().flatten() for s in scales])
    return top(flat, flat.numel() - int(share * flat.numel()))


def mask_distance(one: Tensor, two: Tensor) -> float:
    """Share of the entries that differ, in [0, 1].

    >>> mask_distance(torch.tensor([True, False]), torch.tensor([True, True]))
    0.5
    """
    return (one != two).float().mean().item()


class EarlyBird(Hook):
    """Stops training once the mask of channels has settled; an L1 penalty on the scales meanwhile.

    Every `every` steps (an epoch) the mask joins a queue of the last `length`. When the queue is
    full and the newest is within `tolerance` of each of the others, the ticket is drawn.

    Args:
        share: of the channels that would go.
        every: steps between masks.
        l1: strength of the penalty, added to the gradients as l1 · sign(gamma).

    `found` is the step at which it stopped, None if it never did; `distances` has, for each full
    queue, the largest distance.

    Source: You et al. 2020, arXiv:1909.11957, algorithm 1.
    """

    def __init__(
        self,
        share: float,
        every: int,
        *,
        l1: float = 1e-4,
        tolerance: float = 0.1,
        length: int = 5,
    ) -> None:
        if not 0 < share < 1:
            raise PruneError(f"the share of channels to go must lie in (0, 1); got {share!r}")
        if every < 1 or length < 2:
            raise PruneError(f"need every >= 1 and length >= 2; got {every!r} and {length!r}")
        self.share, self.every, self.l1 = share, every, l1
        self.tolerance, self.length = tolerance, length

    def start(self, model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
        super().start(model, optimizer, steps)
        norms = [
            m for m in unwrap(model).modules()
            if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.affine
        ]  # fmt: skip
        if not norms:
            raise PruneError(
                f"early-bird tickets are drawn by batch-norm's scales, and "
                f"{type(unwrap(model)).__name__} has no batch-norm with any"
            )
        self.scales = [m.weight for m in norms]
        self.queue: deque[Tensor] = deque(maxlen=self.length)
        self.found: int | None = None
        self.distances: list[float] = []

    def before_step(self) -> bool:
        for scale in self.scales:
            if scale.grad is not None:
                scale.grad.add_(scale.detach().sign(), alpha=self.l1)
        return True

    def after_step(self) -> None:
        super().after_step()
        if self.step % self.every:
            return
        self.queue.append(channel_mask(self.scales, self.share))
        if len(self.queue) < self.length:
            return
        *others, newest = self.queue
        self.distances.append(max(mask_distance(newest, other) for other in others))
        if self.distances[-1] <= self.tolerance:
            self.found = self.step
            raise Stop

    def state_dict(self) -> dict[str, Any]:
        return {
            **super().state_dict(),
            "queue": list(self.queue),
            "distances": self.distances,
            "found": self.found,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.queue = deque(state["queue"], maxlen=self.length)
        self.distances = list(state["distances"])
        self.found = state["found"]
