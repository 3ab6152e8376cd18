"""What a method is given: one model, one set of data, one training, one budget.

Every method works through this object, so that a comparison gives each the same: the training and
the recovery are the setting's, not the method's, and what they cost is written down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sentei.allocation.target import Target
from sentei.batches import Data, Loss, batches, in_memory, own_loss
from sentei.batches import size as examples
from sentei.criteria.evidence import Evidence
from sentei.graph.capture import unwrap
from sentei.graph.errors import PruneError
from sentei.hooks import Hook, MaskHook
from sentei.recovery.train import Log, Recipe, train
from sentei.structures import Masks, prunable

__all__ = ["Setting"]

State = dict[str, Tensor]


@dataclass(eq=False)
class Setting:
    """One model to prune, and all that may be used for it. Methods change `model` in place.

    model: untrained or trained, as the method's `starts` says.
    data: what may be trained on; loss: as in `sentei.batches`.
    density: share of the prunable weights to keep (methods with masks).
    target: the budget of methods that remove units.
    example: example inputs for methods that look at groups.
    recipe: the training of the dense network; what methods before and during training use.
    tuning: the recovery after pruning.
    initial: the weights training started from, for methods that rewind.
    calibration: how many training examples criteria may look at.
    protect: weights or modules that stay whole.
    trainer: what carries a training out, called as `sentei.recovery.train` is.
    logs: every training done so far, in order.
    """

    model: nn.Module
    data: Data = None
    loss: Loss | None = own_loss
    density: float | None = None
    target: Target | None = None
    example: Any = None
    recipe: Recipe = field(default_factory=lambda: Recipe(epochs=40, lr=0.05))
    tuning: Recipe = field(default_factory=lambda: Recipe(epochs=20, lr=0.02))
    initial: Mapping[str, Tensor] | None = None
    calibration: int = 512
    protect: tuple[str, ...] = ()
    seed: int = 0
    progress: Any = False
    trainer: Callable[..., Log] = train
    logs: list[Log] = field(default_factory=list)

    # -- what there is ------------------------------------------------------------------------
    @property
    def weights(self) -> dict[str, nn.Parameter]:
        """The prunable weights by name; see `sentei.structures.prunable`."""
        return prunable(self.model, self.protect)

    @property
    def keep(self) -> float:
        """The density asked for.

        Raises:
            PruneError: none was given.
        """
        if self.density is None:
            raise PruneError(
                "this method keeps a share of single weights: give density= or sparsity="
            )
        return self.density

    def evidence(self, data: Data = None, *, size: int | None = None) -> Evidence:
        """Evidence about the model as it is now, with `calibration` training examples.

        Args:
            data: batches to look at instead.
            size: examples a batch; all in one by default. Order follows the seed.
        """
        if data is None and self.data is not None:
            data = self.examples(self.calibration, size)
        return Evidence.of(
            self.model,
            data=data,
            loss=self.loss,
            seed=self.seed,
            weights=self.weights,
            example=self.example,
        )

    def examples(self, count: int, size: int | None = None) -> list[Any]:
        """Batches of `count` training examples drawn by the seed (or all there are).

        Data that comes in batches of its own gives as many whole ones as it takes.
        """
        self.need_data()
        order = torch.Generator().manual_seed(self.seed)
        if in_memory(self.data):
            x, y = self.data
            chosen = torch.randperm(len(x), generator=order)[:count]
            return list(batches((x[chosen.to(x.device)], y[chosen.to(y.device)]), size or count))
        found, seen = [], 0
        for batch in batches(self.data, size or count, order):
            found.append(batch)
            seen += examples(batch)
            if seen >= count:
                break
        return found

    def need_data(self) -> None:
        if self.data is None:
            raise PruneError("this method needs data: give data=(inputs, targets) or batches of it")

    # -- what can be done ---------------------------------------------------------------------
    def train(
        self,
        hooks: Iterable[Hook] = (),
        *,
        recipe: Recipe | None = None,
        masks: Masks | None = None,
        start: int = 0,
        stop: int | None = None,
        seed: int | None = None,
    ) -> Log:
        """Train by the dense network's recipe (or another), holding `masks`. See `train`.

        No epochs need no data: masks are applied, and that is all.
        """
        if self.data is None and (recipe or self.recipe).epochs == 0 and not hooks:
            if masks is not None:
                masks.apply_(self.model)
            return Log(0, (), 0.0)
        self.need_data()
        hooks = [*hooks, *([MaskHook(masks)] if masks is not None else [])]
        log = self.trainer(
            self.model,
            self.data,
            recipe or self.recipe,
            loss=self.loss,
            hooks=hooks,
            seed=1000 + self.seed if seed is None else seed,
            start=start,
            stop=stop,
            progress=self.progress,
        )
        self.logs.append(log)
        return log

    def recover(self, masks: Masks | None = None, hooks: Iterable[Hook] = ()) -> Log | None:
        """Train by the recovery's recipe, holding `masks`; does nothing without data or epochs."""
        if self.data is None or self.tuning.epochs == 0:
            if masks is not None:
                masks.apply_(self.model)
            return None
        return self.train(hooks, recipe=self.tuning, masks=masks)

    def state(self) -> State:
        """A copy of all parameters and buffers as they are now."""
        return {n: t.detach().clone() for n, t in unwrap(self.model).state_dict().items()}

    def rewind(self, state: Mapping[str, Tensor] | None = None, masks: Masks | None = None) -> None:
        """Put parameters and buffers back to `state` (the initial one by default), then mask.

        Raises:
            PruneError: the initial weights are wanted and were not given.
        """
        state = self.initial if state is None else state
        if state is None:
            raise PruneError(
                "this method goes back to the weights training started from: give initial=, a copy "
                "of model.state_dict() from before training"
            )
        unwrap(self.model).load_state_dict(state)
        if masks is not None:
            masks.apply_(self.model)

    @property
    def steps_taken(self) -> int:
        """Optimiser steps of all trainings so far."""
        return sum(log.steps for log in self.logs)
