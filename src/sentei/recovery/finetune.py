"""A small deterministic training loop, and the evaluation that goes with it."""

import math
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor, nn

from sentei.graph.errors import closest

Loss = Callable[[Tensor, Tensor], Tensor]
"""`loss(outputs, targets)`: one number, the mean over the batch."""

Data = tuple[Tensor, Tensor] | Iterable[tuple[Tensor, Tensor]]
"""`(x, y)` with one example a row, or batches that can be walked through again and again."""

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda t: 1.0,
    "cosine": lambda t: 0.5 * (1 + math.cos(math.pi * t)),
    "linear": lambda t: 1 - t,
}
"""Learning rate as a share of `lr`, after a share t of all steps, 0 <= t < 1."""


class TrainingError(RuntimeError):
    """Training cannot go on: the loss is no longer a number."""


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    Attributes:
        accuracy: share of examples whose largest logit is the target's, in [0, 1].
        loss: mean over all examples.
        count: number of examples.
    """

    accuracy: float
    loss: float
    count: int


def finetune(
    model: nn.Module,
    data: Data,
    epochs: int = 10,
    lr: float = 0.05,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    batch_size: int = 64,
    seed: int = 0,
    progress: bool | Progress = True,
    schedule: str | Callable[[float], float] = "cosine",
    loss: Loss = F.cross_entropy,
) -> nn.Module:
    """Train `model` in place by stochastic gradient descent with momentum, and return it.

    v <- momentum · v + gradient + weight_decay · w
    w <- w - lr · schedule(step / steps) · v

    Every parameter with `requires_grad` is trained. All modules are in training mode meanwhile
    and as they were afterwards. The learning rate changes every step.

    The same seed, data, thread count and machine give the same weights, bit for bit; the caller's
    random state is left alone. In-memory data is shuffled anew each epoch and cut into
    `ceil(N / batch_size)` batches whose sizes differ by one at most: a rest of two or three
    examples would unsettle batch-norm.

    Args:
        model: called as `model(x)`; batches are moved to where its parameters are.
        data: `(x, y)` tensors of equal length, or batches such as a `DataLoader`'s (it then
            shuffles as it likes, and `batch_size` is not used).
        epochs: passes over the data; 0 leaves the model untouched.
        lr: the learning rate at the first step.
        schedule: one of `SCHEDULES`, or a function from progress in [0, 1) to a factor on `lr`.
        loss: `loss(model(x), y)`.
        seed: for the order of examples, dropout and whatever else draws numbers in the model.
        progress: show a bar; or a running `rich.progress.Progress` to add a line to.
    Returns:
        `model` itself.
    Raises:
        TrainingError: the loss became nan or infinite. The weights are those before that step.
        ValueError: no data, lengths that differ, nothing to train, an unknown schedule.

    >>> line = nn.Linear(1, 1)
    >>> x = torch.linspace(-1, 1, 64)[:, None]
    >>> _ = finetune(line, (x, 3 * x), 20, lr=0.2, batch_size=8, progress=False, loss=F.mse_loss)
    >>> round(line.weight.item(), 2)
    3.0
    """
    factor = _schedule(schedule)
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        raise ValueError(
            f"{type(model).__name__} has nothing to train: no parameter has requires_grad=True"
        )
    _check(data)
    device = trained[0].device
    order = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.SGD(trained, lr=lr, momentum=momentum, weight_decay=weight_decay)

    # What was in eval mode, such as a frozen batch-norm, is in eval mode again afterwards.
    flags = {module: module.training for module in model.modules()}
    accelerators = [device] if device.type == "cuda" else []
    with (
        _bar(progress, f"training {type(model).__name__}", epochs) as tick,
        torch.random.fork_rng(devices=accelerators),
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True),
    ):
        torch.manual_seed(seed)
        model.train()
        try:
            for epoch in range(epochs):
                steps, seen, total = _steps(data, batch_size), 0, 0.0
                for step, (x, y) in enumerate(_batches(data, batch_size, order)):
                    # Unsized batches are counted by going through them: lr then moves by epochs.
                    done = epoch + (step / steps if steps else 0)
                    for group in optimiser.param_groups:
                        group["lr"] = lr * factor(done / epochs)
                    value = loss(model(x.to(device)), y.to(device))
                    if not torch.isfinite(value):
                        raise _diverged(value.item(), x, epoch, step, lr)
                    optimiser.zero_grad(set_to_none=True)
                    value.backward()
                    optimiser.step()
                    seen += len(x)
                    total += value.item() * len(x)
                if not seen:
                    raise ValueError(
                        f"no data in epoch {epoch + 1}: the batches are used up, or there were "
                        f"none. Pass a DataLoader, a list of (x, y) batches or two tensors; "
                        f"a generator can be walked through only once"
                    )
                tick(f"loss {total / seen:.4f}")
        finally:
            for module, flag in flags.items():
                module.training = flag
            optimiser.zero_grad(set_to_none=True)
    return model


@torch.inference_mode()
def evaluate(
    model: nn.Module, data: Data, batch_size: int = 512, loss: Loss = F.cross_entropy
) -> Evaluation:
    """Accuracy and mean loss of a classifier, in eval mode; training flags are restored.

    Args:
        model: `model(x)` gives logits `(N, classes, ...)`.
        data: `(x, y)` or batches of it, as for `finetune`; y holds classes `(N, ...)`.
        loss: the mean over a batch, as for `finetune`.
    Returns:
        `Evaluation(accuracy, loss, count)`.
    Raises:
        ValueError: no data, lengths that differ.

    >>> eye = torch.eye(3)
    >>> evaluate(nn.Identity(), (eye, torch.tensor([0, 1, 0]))).count
    3
    """
    _check(data)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    flags = {module: module.training for module in model.modules()}
    right, targets, count, total = 0, 0, 0, 0.0
    model.eval()
    try:
        for x, y in _batches(data, batch_size):
            x, y = x.to(device), y.to(device)
            logits = model(x)
            right += int((logits.argmax(1) == y).sum())
            targets += y.numel()
            total += loss(logits, y).item() * len(x)
            count += len(x)
    finally:
        for module, flag in flags.items():
            module.training = flag
    if not count:
        raise ValueError("no data to evaluate on: there were no batches")
    return Evaluation(accuracy=right / targets, loss=total / count, count=count)


def _in_memory(data: Data) -> bool:
    return isinstance(data, tuple | list) and len(data) == 2 and isinstance(data[0], Tensor)


def _check(data: Data) -> None:
    if not _in_memory(data):
        if isinstance(data, Sized) and len(data) == 0:
            raise ValueError("no data: there are no batches")
        return
    x, y = data
    if len(x) != len(y):
        raise ValueError(f"x has {len(x)} examples and y has {len(y)}; they must agree")
    if len(x) == 0:
        raise ValueError(f"no data: x is empty, with shape {tuple(x.shape)}")


def _steps(data: Data, batch_size: int) -> int:
    """Number of batches an epoch; 0 where it cannot be known."""
    if _in_memory(data):
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1; got {batch_size}")
        return math.ceil(len(data[0]) / batch_size)
    return len(data) if isinstance(data, Sized) else 0


def _batches(
    data: Data, batch_size: int, order: torch.Generator | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of one epoch, shuffled by `order` if the data is in memory and it is given."""
    if not _in_memory(data):
        yield from data
        return
    x, y = data
    index = torch.arange(len(x)) if order is None else torch.randperm(len(x), generator=order)
    for part in index.tensor_split(_steps(data, batch_size)):
        yield x[part.to(x.device)], y[part.to(y.device)]


def _schedule(schedule: str | Callable[[float], float]) -> Callable[[float], float]:
    if callable(schedule):
        return schedule
    if schedule not in SCHEDULES:
        raise ValueError(f"unknown schedule {schedule!r}; {closest(schedule, SCHEDULES)}")
    return SCHEDULES[schedule]


def _diverged(value: float, x: Tensor, epoch: int, step: int, lr: float) -> TrainingError:
    where = f"the loss is {value} at epoch {epoch + 1}, step {step + 1}"
    if x.is_floating_point() and not x.isfinite().all():
        return TrainingError(f"{where}: that batch itself holds nan or infinite inputs")
    return TrainingError(
        f"{where} (lr={lr:g}). The weights are those before that step. "
        f"Try a lower learning rate, such as lr={lr / 10:g}"
    )


@contextmanager
def _bar(progress: bool | Progress, name: str, epochs: int) -> Iterator[Callable[[str], None]]:
    """A function to call after each epoch with a word on how it went."""
    if progress is False:
        yield lambda note: None
        return
    own = progress is True
    bar = progress_bar() if own else progress
    task = bar.add_task(name, total=epochs, note="")
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
    """The bar that `finetune` draws: what, how far, epochs, time, last loss."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.completed}/{task.total} epochs"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )
