"""Training that goes on where it was killed, to the same bits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from sentei.batches import Data, Loss, steps
from sentei.graph.errors import PruneError
from sentei.hooks.base import Hook, Hooks, Stop
from sentei.recovery.train import Log, Recipe, train
from sentei.storage.checkpoint import load_checkpoint, save_checkpoint

__all__ = ["Tick", "train_resumably"]

Tick = Callable[[int, int, str], None]
"""(steps done, steps in all, a note such as the last loss)."""


def train_resumably(
    path: str | Path,
    model: nn.Module,
    data: Data,
    recipe: Recipe,
    *,
    loss: Loss | None = F.cross_entropy,
    hooks: Iterable[Hook] | Hook = (),
    seed: int = 0,
    start: int = 0,
    stop: int | None = None,
    every: float = 10.0,
    tick: Tick | None = None,
) -> Log:
    """`sentei.recovery.train`, with its state in a file at the ends of epochs.

    Called again with the same arguments after a kill at any moment, it goes on from the file; when
    the training was done, it only puts the result in place. Either way model and hooks come out as
    if nothing had happened, on a CPU bit for bit: the order of examples and the noise of an epoch
    depend on the seed and the epoch's number alone, and optimiser and hooks are in the file.

    Args:
        path: the file; it stays when the training is done.
        every: seconds between two writes, at least. The last epoch is always written.
        tick: told of every step.
        others: as for `train`.
    Raises:
        PruneError: the file is of another training, damaged, or cannot be written.
        others: as `train`.

    >>> import tempfile
    >>> x = torch.linspace(-1, 1, 64)[:, None]
    >>> with tempfile.TemporaryDirectory() as home:
    ...     for _ in range(2):  # the second time nothing is left to do
    ...         line = nn.Linear(1, 1)
    ...         log = train_resumably(home + "/state", line, (x, 3 * x), Recipe(9), loss=F.mse_loss)
    ...         print(log.steps, len(log.losses))
    9 9
    9 9
    """
    path = Path(path)
    an_epoch = steps(data, recipe.batch_size)
    if not an_epoch:
        raise PruneError(
            "a training that can be resumed needs data whose number of batches is known: tensors, "
            "a list of batches, or a DataLoader"
        )
    last = an_epoch * recipe.epochs if stop is None else min(stop, an_epoch * recipe.epochs)
    facts = _facts(recipe) | {"seed": seed, "start": start, "stop": last, "epoch": an_epoch}
    state = load_checkpoint(path) if path.exists() else None
    if state is not None and state["training"] != facts:
        differs = sorted(k for k in facts if state["training"].get(k) != facts[k])
        raise PruneError(f"{path} is the state of another training (it differs in {differs})")
    keeper = _Keeper(path, hooks, facts, state, every, tick)
    here = keeper.done
    train(
        model,
        data,
        recipe,
        loss=loss,
        hooks=keeper,
        seed=seed,
        start=here,
        stop=here if keeper.finished else last,
    )
    return Log(keeper.done - start, tuple(keeper.losses), keeper.seconds(), stopped=keeper.stopped)


def _facts(recipe: Recipe) -> dict[str, Any]:
    schedule = recipe.schedule if isinstance(recipe.schedule, str) else "a function"
    return asdict(recipe) | {"schedule": schedule}


class _Keeper(Hook):
    """Passes everything on to the hooks, and keeps the state of the training in a file."""

    def __init__(
        self,
        path: Path,
        hooks: Iterable[Hook] | Hook,
        facts: dict[str, Any],
        state: dict[str, Any] | None,
        every: float,
        tick: Tick | None,
    ) -> None:
        self.path, self.facts, self.state, self.every = path, facts, state, every
        self.inner = hooks if isinstance(hooks, Hook) else Hooks(hooks)
        self.tick = tick or (lambda done, total, note: None)
        self.done: int = facts["start"] if state is None else state["done"]
        self.losses: list[float] = [] if state is None else state["losses"]
        self.finished: bool = state is not None and state["finished"]
        self.stopped: bool = state is not None and state["stopped"]
        self.spent: float = 0.0 if state is None else state["seconds"]
        self.began = self.written = time.perf_counter()
        self.note = f"loss {self.losses[-1]:.4f}" if self.losses else ""

    def seconds(self) -> float:
        return self.spent + (0.0 if self.finished else time.perf_counter() - self.began)

    def start(self, model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
        # The hooks are told of the whole training, however much of it is left.
        whole = self.facts["stop"] - self.facts["start"]
        super().start(model, optimizer, whole)
        self.inner.start(model, optimizer, whole)
        if self.state is not None:
            model.load_state_dict(self.state["model"])
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": self.state["optimizer"], "param_groups": groups})
            self.inner.load_state_dict(self.state["hooks"])
            self.state = None
        self.tick(self.done, self.facts["stop"], self.note)

    def penalty(self) -> Any:
        return self.inner.penalty()

    def before_step(self) -> bool:
        return self.inner.before_step()

    def after_step(self) -> None:
        super().after_step()
        self.done += 1
        self.tick(self.done, self.facts["stop"], self.note)
        try:
            self.inner.after_step()
        except Stop:
            self.stopped = True
            raise

    def after_epoch(self, loss: float) -> None:
        self.inner.after_epoch(loss)
        self.losses.append(loss)
        self.note = f"loss {loss:.4f}"
        finished = self.stopped or self.done >= self.facts["stop"]
        if finished or time.perf_counter() - self.written >= self.every:
            self._write(finished)
        self.tick(self.done, self.facts["stop"], self.note)

    def finish(self) -> None:
        self.inner.finish()

    def _write(self, finished: bool) -> None:
        save_checkpoint(
            self.path,
            {
                "training": self.facts,
                "done": self.done,
                "losses": self.losses,
                "finished": finished,
                "stopped": self.stopped,
                "seconds": self.seconds(),
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict()["state"],
                "hooks": self.inner.state_dict(),
            },
        )
        self.written = time.perf_counter()
