"""Training that goes on where it was killed, to the same bits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sentei.batches import Data, Loss, steps
from sentei.graph.errors import PruneError
from sentei.hooks.base import Hook, Hooks, Stop
from sentei.recovery.place import Place, placed
from sentei.recovery.train import Log, Recipe, Tally, walk
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
    accelerator: Any = None,
    sharded: bool = False,
) -> Log:
    """`sentei.recovery.train`, with its state in a file, written now and then.

    Called again with the same arguments after a kill at any moment, it goes on from the file; when
    the training was done, it only puts the result in place. Either way model and hooks come out as
    if nothing had happened, on a CPU bit for bit: the order of examples and the noise of an epoch
    depend on the seed and the epoch's number alone, and optimiser, hooks and, in the middle of an
    epoch, the random state are in the file.

    Args:
        path: the file; it stays when the training is done. With several processes the main one
            writes it and all read it.
        every: seconds between two writes, at least, and so the work that a kill can cost; but no
            more than a twentieth of the time is spent on writing. The end is always written.
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
    # The first write comes after a first step of all processes together: all see the same file.
    state = load_checkpoint(path) if path.exists() else None
    if state is not None and state["training"] != facts:
        differs = sorted(k for k in facts if state["training"].get(k) != facts[k])
        raise PruneError(f"{path} is the state of another training (it differs in {differs})")
    inner = hooks if isinstance(hooks, Hook) else Hooks(hooks)
    place = placed(model, accelerator, sharded=sharded, whole=inner.whole)
    keeper = _Keeper(path, inner, facts, state, every, tick, place)
    here = keeper.done
    walk(
        place,
        data,
        recipe,
        keeper,
        loss=loss,
        seed=seed,
        start=here,
        stop=here if keeper.finished else last,
        tally=keeper.tally,
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
        inner: Hook,
        facts: dict[str, Any],
        state: dict[str, Any] | None,
        every: float,
        tick: Tick | None,
        place: Place,
    ) -> None:
        self.path, self.facts, self.state, self.every = path, facts, state, every
        self.inner, self.place = inner, place
        self.tick = tick or (lambda done, total, note: None)
        self.done: int = facts["start"] if state is None else state["done"]
        self.losses: list[float] = [] if state is None else state["losses"]
        self.finished: bool = state is not None and state["finished"]
        self.stopped: bool = state is not None and state["stopped"]
        self.spent: float = 0.0 if state is None else state["seconds"]
        self.tally = Tally() if state is None else Tally(*state.get("tally", []))
        self.began = self.written = time.perf_counter()
        self.cost = 0.0
        self.note = f"loss {self.losses[-1]:.4f}" if self.losses else ""

    def seconds(self) -> float:
        return self.spent + (0.0 if self.finished else time.perf_counter() - self.began)

    def start(self, model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
        # The hooks are told of the whole training, however much of it is left.
        whole = self.facts["stop"] - self.facts["start"]
        super().start(model, optimizer, whole)
        self.inner.start(model, optimizer, whole)
        if self.state is not None:
            self.place.load(self.state)
            self.inner.load_state_dict(self.state["hooks"])
            self.state = None
        self.tick(self.done, self.facts["stop"], self.note)

    def weigh(self, share: float, mean: Callable[[Tensor], float]) -> None:
        self.inner.weigh(share, mean)

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
        within = self.done % self.facts["epoch"] and self.done < self.facts["stop"]
        if within and self.place.lead(self._due()):
            self._write(False, [self.tally.seen, self.tally.summed, self.place.noise()])

    def after_epoch(self, loss: float) -> None:
        self.inner.after_epoch(loss)
        self.losses.append(loss)
        self.note = f"loss {loss:.4f}"
        finished = self.stopped or self.done >= self.facts["stop"]
        if self.place.lead(finished or self._due()):
            self._write(finished, [])
        self.tick(self.done, self.facts["stop"], self.note)

    def finish(self) -> None:
        self.inner.finish()

    def _due(self) -> bool:
        # Writing is to cost a twentieth of the time at most, however large the model is.
        return time.perf_counter() - self.written >= max(self.every, 19 * self.cost)

    def _write(self, finished: bool, tally: list[Any]) -> None:
        began, state = time.perf_counter(), self.place.state()  # every process has a part in it
        if not self.place.main:
            return
        save_checkpoint(
            self.path,
            {
                "training": self.facts,
                "done": self.done,
                "losses": self.losses,
                "finished": finished,
                "stopped": self.stopped,
                "seconds": self.seconds(),
                "tally": tally,
                "hooks": self.inner.state_dict(),
            }
            | state,
        )
        self.written = time.perf_counter()
        self.cost = 0.0 if self.every == 0 else self.written - began
