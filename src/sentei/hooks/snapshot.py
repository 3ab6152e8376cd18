"""Keep the weights as they are after a number of steps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sentei.graph.capture import unwrap
from sentei.hooks.base import Hook

__all__ = ["Snapshot"]


class Snapshot(Hook):
    """A copy of all parameters and buffers after `at` steps of this training, in `state`.

    Late rewinding keeps such a copy (Frankle et al. 2019, arXiv:1903.01611). With fewer steps than
    `at`, the copy is that of the end.

    >>> hook = Snapshot(0)
    >>> hook.start(nn.Linear(1, 1), None, steps=5)
    >>> sorted(hook.state)
    ['bias', 'weight']
    """

    def __init__(self, at: int) -> None:
        self.at = at
        self.state: dict[str, Tensor] = {}

    def start(self, model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
        super().start(model, optimizer, steps)
        self.state = {}
        self._look()

    def after_step(self) -> None:
        super().after_step()
        self._look()

    def finish(self) -> None:
        if not self.state:
            self._keep()

    def _look(self) -> None:
        if self.step == self.at:
            self._keep()

    def _keep(self) -> None:
        state = unwrap(self.model).state_dict()
        self.state = {name: tensor.detach().clone() for name, tensor in state.items()}

    def state_dict(self) -> dict:
        return {**super().state_dict(), "state": self.state}

    def load_state_dict(self, state: dict) -> None:
        super().load_state_dict(state)
        self.state = dict(state["state"])
