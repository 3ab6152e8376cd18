"""A small deterministic training loop that any method can hook into."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor, nn

from sentei.batches import Batch, Data, Loss, batches, in_memory, size, steps
from sentei.graph.errors import closest
from sentei.hooks.base import Hook, Hooks, Stop
from sentei.recovery.place import Place, placed

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "Log",
    "Recipe",
    "Tally",
    "TrainingError",
    "progress_bar",
    "train",
    "walk",
]

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda t: 1.0,
    "cosine": lambda t: 0.5 * (1 + math.cos(math.pi * t)),
    "linear": lambda t: 1 - t,
    "step": lambda t: 1.0 if t < 0.5 else 0.1 if t < 0.75 else 0.01,
}
"""Learning rate as a share of `lr`, after a share t of all steps, 0 <= t < 1."""

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda p, r: torch.optim.SGD(
        p, lr=r.lr, momentum=r.momentum, weight_decay=r.weight_decay, nesterov=r.nesterov
    ),
    "adam": lambda p, r: torch.optim.Adam(p, lr=r.lr, weight_decay=r.weight_decay),
    "adamw": lambda p, r: torch.optim.AdamW(p, lr=r.lr, weight_decay=r.weight_decay),
}


class TrainingError(RuntimeError):
    """Training cannot go on: the loss is no longer a number."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    epochs: passes over the data; 0 leaves the model untouched.
    lr: learning rate at the first step; schedule: one of `SCHEDULES`, or a function from progress
        in [0, 1) to a factor on `lr`, applied at every step.
    optimizer: one of `OPTIMIZERS`; momentum and nesterov are SGD's.

    >>> Recipe(epochs=40, lr=0.05).schedule
    'cosine'
    """

    epochs: int = 10
    lr: float = 0.05
    batch_size: int = 64
    optimizer: str = "sgd"
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    schedule: str | Callable[[float], float] = "cosine"

    def steps(self, data: Data) -> int:
        """How many optimiser steps this takes on `data`; 0 where that cannot be known."""
        return self.epochs * steps(data, self.batch_size)


@dataclass(frozen=True)
class Log:
    """What a training did: steps taken, mean training loss of each (begun) epoch, seconds."""

    steps: int
    losses: tuple[float, ...] = field(repr=False)
    seconds: float = field(repr=False, compare=False)
    stopped: bool = False


def train(
    model: nn.Module,
    data: Data,
    recipe: Recipe,
    *,
    loss: Loss | None = F.cross_entropy,
    hooks: Iterable[Hook] | Hook = (),
    seed: int = 0,
    start: int = 0,
    stop: int | None = None,
    progress: bool | Progress = False,
    accelerator: Any = None,
    sharded: bool = False,
) -> Log:
    """Train `model` in place.

    Every parameter with `requires_grad` is trained. All modules are in training mode meanwhile
    and as they were afterwards. In-memory data is shuffled anew each epoch; the order of epoch e
    depends on `seed` and e alone, so that a training that begins at step k goes on where one that
    was cut off at step k stood: with its schedule, its data and its order.

    The same seed, data, thread count and machine give the same weights, bit for bit; the caller's
    random state is left alone.

    Args:
        data: see `sentei.batches`.
        loss: `loss(outputs, targets)`; None where the outputs carry a `.loss`.
        hooks: what methods add; see `sentei.hooks`.
        seed: for the order of examples, dropout and whatever else draws numbers in the model.
        start, stop: the steps to take, [start, stop) of the recipe's; all by default. Late
            rewinding trains [0, k), and later [k, end) anew. Needs data whose length is known.
        progress: show a bar; or a running `rich.progress.Progress` to add a line to.
        accelerator: an `accelerate.Accelerator`, for other devices, mixed precision and several
            processes. Each process takes its share of every batch, so that the gradients are those
            of one process (batch-norm statistics are each process's own while it trains, and the
            main process's afterwards). All come out with the same weights.
        sharded: with several processes, spread parameters, gradients and optimiser state over them
            (FSDP) rather than keeping all in each (DDP). The model itself stays whole.
    Raises:
        TrainingError: the loss became nan or infinite. The weights are those before that step.
        ValueError: no data, lengths that differ, nothing to train, an unknown schedule.
        PruneError: hooks that look at parameters together with FSDP, which spreads them.
    """
    hook = hooks if isinstance(hooks, Hook) else Hooks(hooks)
    place = placed(model, accelerator, sharded=sharded, whole=hook.whole)
    return walk(
        place, data, recipe, hook, loss=loss, seed=seed, start=start, stop=stop, progress=progress
    )


@dataclass
class Tally:
    """Where an epoch stands: examples seen in it, the sum of their losses; and, to go on from
    there, the random states of all processes."""

    seen: int = 0
    summed: float = 0.0
    noise: list[Any] | None = None


def walk(
    place: Place,
    data: Data,
    recipe: Recipe,
    hook: Hook,
    *,
    loss: Loss | None,
    seed: int,
    start: int = 0,
    stop: int | None = None,
    progress: bool | Progress = False,
    tally: Tally | None = None,
) -> Log:
    """`train`, in a place that is there already.

    Args:
        tally: of the epoch that step `start` is in, where that was begun before. It is kept up to
            date: a hook that has it can write down how to go on from any step.
    """
    model = place.module
    tally = tally or Tally()
    factor = _named(recipe.schedule, SCHEDULES, "schedule")
    make = _named(recipe.optimizer, OPTIMIZERS, "optimizer")
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError(
            f"{type(model).__name__} has nothing to train: no parameter has requires_grad=True"
        )
    check_data(data)
    optimiser = place.prepare(lambda trained: make(trained, recipe))
    an_epoch = steps(data, recipe.batch_size)
    total = an_epoch * recipe.epochs
    if not an_epoch and (start or stop is not None):
        raise ValueError("start= and stop= need data whose number of batches is known")
    last = total if stop is None else min(stop, total)
    first_epoch = start // an_epoch if an_epoch else 0
    taken, losses, stopped, began = 0, [], False, time.perf_counter()

    # What was in eval mode, such as a frozen batch-norm, is in eval mode again afterwards.
    flags = {module: module.training for module in model.modules()}
    with (
        _bar(progress, f"training {type(model).__name__}", recipe.epochs, first_epoch) as tick,
        torch.random.fork_rng(devices=place.cuda),
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True),
    ):
        model.train()
        try:
            hook.start(model, optimiser, max(last - start, 0) if an_epoch else 0)
            for epoch in range(first_epoch, recipe.epochs):
                if an_epoch and epoch * an_epoch >= last:
                    break
                torch.manual_seed(_epoch_seed(seed, epoch, "noise"))
                order = torch.Generator().manual_seed(_epoch_seed(seed, epoch, "order"))
                walked = 0
                if epoch > first_epoch:
                    tally.seen, tally.summed = 0, 0.0
                for step, batch in enumerate(batches(data, recipe.batch_size, order)):
                    walked += 1
                    if an_epoch:
                        here = epoch * an_epoch + step
                        if here < start:
                            if here + 1 == start and tally.noise is not None:
                                place.set_noise(tally.noise)
                            continue
                        if here >= last:
                            break
                    # Unsized batches are counted by going through them: lr then moves by epochs.
                    done = epoch + (step / an_epoch if an_epoch else 0)
                    for group in optimiser.param_groups:
                        group["lr"] = recipe.lr * factor(done / recipe.epochs)
                    value = place.loss(batch, loss)
                    number = place.mean(value)
                    if not math.isfinite(number):
                        raise _diverged(number, batch, epoch, step, recipe.lr)
                    optimiser.zero_grad(set_to_none=True)
                    hook.weigh(place.share, place.mean)
                    place.backward(value + hook.penalty())
                    if hook.before_step():
                        optimiser.step()
                    else:
                        place.skip()
                    taken += 1
                    count = size(batch)
                    tally.seen += count
                    tally.summed += number * count
                    try:
                        hook.after_step()
                    except Stop:
                        stopped = True
                        break
                if not walked:
                    raise ValueError(
                        f"no data in epoch {epoch + 1}: the batches are used up, or there were "
                        f"none. Pass a DataLoader, a list of (x, y) batches or two tensors; "
                        f"a generator can be walked through only once"
                    )
                if tally.seen:
                    losses.append(tally.summed / tally.seen)
                    tick(f"loss {losses[-1]:.4f}")
                    hook.after_epoch(losses[-1])
                if stopped:
                    break
            hook.finish()
            place.collect()
        except TrainingError:  # all processes know: the loss is their common one
            place.collect()
            raise
        finally:
            place.release()
            for module, flag in flags.items():
                module.training = flag
            optimiser.zero_grad(set_to_none=True)
    return Log(taken, tuple(losses), time.perf_counter() - began, stopped)


def check_data(data: Data) -> None:
    """Raises ValueError where `data` is empty or its two tensors do not belong together."""
    if not in_memory(data):
        if isinstance(data, Sized) and len(data) == 0:
            raise ValueError("no data: there are no batches")
        return
    x, y = data
    if len(x) != len(y):
        raise ValueError(f"x has {len(x)} examples and y has {len(y)}; they must agree")
    if len(x) == 0:
        raise ValueError(f"no data: x is empty, with shape {tuple(x.shape)}")


def _epoch_seed(seed: int, epoch: int, purpose: str) -> int:
    return zlib.crc32(f"{seed}:{epoch}:{purpose}".encode())


def _named(which, known: dict, what: str):
    if callable(which):
        return which
    if which not in known:
        raise ValueError(f"unknown {what} {which!r}; {closest(str(which), known)}")
    return known[which]


def _diverged(value: float, batch: Batch, epoch: int, step: int, lr: float) -> TrainingError:
    where = f"the loss is {value} at epoch {epoch + 1}, step {step + 1}"
    x = batch[0] if isinstance(batch, (tuple, list)) else None
    if isinstance(x, Tensor) and x.is_floating_point() and not x.isfinite().all():
        return TrainingError(f"{where}: that batch itself holds nan or infinite inputs")
    return TrainingError(
        f"{where} (lr={lr:g}). The weights are those before that step. "
        f"Try a lower learning rate, such as lr={lr / 10:g}"
    )


@contextmanager
def _bar(
    progress: bool | Progress, name: str, epochs: int, done: int = 0
) -> Iterator[Callable[[str], None]]:
    """A function to call after each epoch with a word on how it went."""
    if progress is False:
        yield lambda note: None
        return
    own = progress is True
    bar = progress_bar() if own else progress
    task = bar.add_task(name, total=epochs, completed=done, note="")
    if own:
        bar.start()
    try:
        yield lambda note: bar.update(task, advance=1, note=note)
    finally:
        if own:
            bar.stop()
        else:
            bar.remove_task(task)


def progress_bar(console: Console | None = None) -> Progress:
    """The bar that training draws: what, how far, epochs, time, last loss."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.completed}/{task.total} epochs"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )
