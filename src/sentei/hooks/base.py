"""The protocol between a method and a training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Hook", "Hooks", "Stop"]


class Stop(Exception):
    """Raised by a hook in `after_step` to end training here, as if all steps were done."""


class Hook:
    """What a method adds to a training loop. Every part does nothing; override what is needed.

    The loop, for each step:

        loss = criterion(model(x), y) + hook.penalty()
        loss.backward()
        if hook.before_step():
            optimizer.step()
        hook.after_step()

    between `start` and `finish`. Weights that the forward pass must see differently from what the
    optimiser updates (masked, quantised, sampled) are swapped here: `start` and `after_step` leave
    the forward's values in the parameters, `before_step` puts the dense ones back. The gradient is
    then that of the forward's values: a straight-through estimate without any wrapper module. For
    a learned mask M(S) with W' = W * M, dL/dS = dL/dW' * W.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    steps: int
    step: int = 0
    whole: bool = True
    """Does it look at parameters? They are then to be whole in every process."""
    batch_share: float = 1.0
    """Of several processes: rows that this one has of the batch, over rows of an even part.
    Penalties that are means over examples are multiplied by it."""
    batch_mean: Callable[[Tensor], float] = staticmethod(Tensor.item)

    def start(self, model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
        """Before the first step. `steps`: how many are planned in all (0: not known)."""
        self.model, self.optimizer, self.steps, self.step = model, optimizer, steps, 0

    def weigh(self, share: float, mean: Callable[[Tensor], float]) -> None:
        """Before the penalty: `batch_share` for this batch, and how a number is averaged over
        the processes (every process is to ask)."""
        self.batch_share, self.batch_mean = share, mean

    def penalty(self) -> Tensor | float:
        """Added to the loss before the backward pass."""
        return 0.0

    def before_step(self) -> bool:
        """Gradients are there. Returns False to leave out the optimiser's step."""
        return True

    def after_step(self) -> None:
        """The optimiser has moved the weights (or was left out)."""
        self.step += 1

    def after_epoch(self, loss: float) -> None:
        """The data has been gone through once more, with this mean training loss."""

    def finish(self) -> None:
        """After the last step, also after `Stop`; not after an error."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold so that training goes on alike; tensors and numbers."""
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The counterpart of `state_dict`, called after `start`."""
        self.step = int(state["step"])


class Hooks(Hook):
    """Several hooks as one; called in the order given.

    >>> Hooks([Hook(), Hook()]).penalty()
    0.0
    """

    def __init__(self, hooks: Iterable[Hook] = ()) -> None:
        self.hooks = list(hooks)
        self.whole = any(hook.whole for hook in self.hooks)

    def start(self, model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
        super().start(model, optimizer, steps)
        for hook in self.hooks:
            hook.start(model, optimizer, steps)

    def weigh(self, share: float, mean: Callable[[Tensor], float]) -> None:
        for hook in self.hooks:
            hook.weigh(share, mean)

    def penalty(self) -> Tensor | float:
        total: Tensor | float = 0.0
        for hook in self.hooks:
            total = total + hook.penalty()
        return total

    def before_step(self) -> bool:
        answers = [hook.before_step() for hook in self.hooks]  # every one is asked
        return all(answers)

    def after_step(self) -> None:
        super().after_step()
        for hook in self.hooks:
            hook.after_step()

    def after_epoch(self, loss: float) -> None:
        for hook in self.hooks:
            hook.after_epoch(loss)

    def finish(self) -> None:
        for hook in self.hooks:
            hook.finish()

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "hooks": [hook.state_dict() for hook in self.hooks]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        for hook, part in zip(self.hooks, state["hooks"], strict=True):
            hook.load_state_dict(part)
