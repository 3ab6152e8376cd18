"""`Dataset`: everything that training, scoring and evaluating need to know of some data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sentei.batches import (
    Batch,
    Data,
    Loss,
    batches,
    forward,
    home_of,
    in_memory,
    is_batch,
    size,
    to_device,
    value_of,
)
from sentei.graph.errors import PruneError
from sentei.recovery.finetune import Evaluation
from sentei.recovery.finetune import evaluate as classify
from sentei.recovery.train import TrainingError
from sentei.tasks.base import Task

__all__ = ["METRICS", "Dataset", "Metric", "Score", "count", "evaluate", "failing", "rehearse"]


@dataclass(frozen=True)
class Metric:
    """How good outputs are, as one number.

    of: (outputs, targets or mapping batch) -> the mean over a batch.
    finish: of the mean over all examples, the number to show.
    percent: whether it is shown as a percentage.
    """

    name: str
    of: Callable[[Any, Any], Any] = field(repr=False)
    finish: Callable[[float], float] = field(default=float, repr=False)
    higher_is_better: bool = True
    percent: bool = False

    def words(self, value: float) -> str:
        """The value as it is shown.

        >>> METRICS["accuracy"].words(0.9312), METRICS["perplexity"].words(7.251)
        ('93.12 %', '7.251')
        """
        return f"{100 * value:.2f} %" if self.percent else f"{value:.4g}"


def judged_by(outputs: Any, targets: Any, *, loss: Loss | None) -> Tensor:
    """The loss as a metric; without one, that which the outputs carry."""
    batch = targets if isinstance(targets, Mapping) else (None, targets)
    return value_of(outputs, batch, loss)


_IGNORED = -100  # by cross-entropy


def _targets(batch: Any) -> Tensor:
    return batch["labels"] if isinstance(batch, Mapping) else batch


def _logits(outputs: Any) -> Tensor:
    if isinstance(outputs, Tensor):
        return outputs
    if isinstance(outputs, Mapping) and "logits" in outputs:
        return outputs["logits"]
    return outputs.logits if hasattr(outputs, "logits") else outputs[0]


def _accuracy(outputs: Any, batch: Any) -> Tensor:
    found, targets = _logits(outputs).argmax(1), _targets(batch)
    if found.shape != targets.shape:  # would be compared all with all, and a share come out
        raise ValueError(
            f"accuracy wants one class a prediction: the model tells {tuple(found.shape)} classes, "
            f"and the targets are {tuple(targets.shape)}; give a metric of your own"
        )
    counted = targets != _IGNORED
    return (found == targets)[counted].double().mean()


def _token_loss(outputs: Any, batch: Any) -> Tensor:
    logits, targets = _logits(outputs), _targets(batch)
    if isinstance(batch, Mapping):  # Hugging Face: targets are the inputs, shifted by the model
        logits, targets = logits[:, :-1], targets[:, 1:]
    return next_token_loss(logits.float(), targets)


def class_loss(outputs: Any, targets: Tensor) -> Tensor:
    """Mean cross-entropy of logits, or of outputs that hold logits."""
    return F.cross_entropy(_logits(outputs), targets)


METRICS: dict[str, Metric] = {
    "accuracy": Metric("accuracy", _accuracy, percent=True),
    "perplexity": Metric("perplexity", _token_loss, math.exp, higher_is_better=False),
}


def next_token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of (N, T, V) or (N, V, T) logits and (N, T) targets."""
    if logits.shape[:2] == targets.shape:
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    return F.cross_entropy(logits, targets)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Data in three parts, and what it is judged by.

    train, validation, test: see `sentei.batches`. Scores and choices look at train and validation;
        test is for the numbers that are reported.
    loss: None where the model's outputs carry one.
    example: inputs of one example, as `example_inputs=` takes them.
    classes: how many the targets have; None where they are no classes.
    judge: (model, data) -> Evaluation, where the metric is not a mean over examples.
    notes: what was decided here, a sentence each, for people to read.
    """

    name: str
    train: Data
    validation: Data
    test: Data
    example: Any
    loss: Loss | None = class_loss
    metric: Metric = METRICS["accuracy"]
    classes: int | None = None
    judge: Callable[[nn.Module, Data], Evaluation] | None = None
    notes: tuple[str, ...] = ()

    @staticmethod
    def of(task: Task, validation: float = 0.1, seed: int = 0) -> Dataset:
        """A task; where it sets no validation apart, that is done here if its data can be cut."""
        notes: tuple[str, ...] = ()
        if task.validation is None and in_memory(task.train):
            task = task.hold_out(validation, seed)
            notes = (f"validation: {len(task.validation[0])} of the training examples",)
        elif task.validation is None:
            notes = ("no validation: choices look at the training data",)
        return Dataset(
            task.name,
            task.train,
            task.train if task.validation is None else task.validation,
            task.test,
            task.example,
            task.loss,
            replace(METRICS["accuracy"], name=task.metric),
            task.classes or None,
            None if task.evaluate is classify else task.evaluate,
            notes,
        )

    @property
    def counts(self) -> tuple[int, int, int]:
        """Examples in train, validation and test."""
        return count(self.train), count(self.validation), count(self.test)


@dataclass(frozen=True)
class Score:
    """What `evaluate` found: the metric's value, the mean loss, over so many examples."""

    metric: str
    value: float
    loss: float
    count: int


def count(data: Data) -> int:
    """How many examples there are."""
    if in_memory(data):
        return len(data[0])
    rows = getattr(data, "dataset", None)
    return len(rows) if rows is not None else sum(size(batch) for batch in batches(data))


@contextmanager
def failing(what: str) -> Iterator[None]:
    """What a user's model, loss, metric or data objects to, as one line that says where.

    Raises:
        PruneError: anything went wrong, other than with the machine: its disk, its memory.

    >>> with failing("the loss of toy"):
    ...     1 / 0
    Traceback (most recent call last):
    sentei.graph.errors.PruneError: the loss of toy fails: ZeroDivisionError: division by zero
    """
    try:
        yield
    except (PruneError, TrainingError, OSError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        words = " ".join(str(error).split())[:300]
        raise PruneError(f"{what} fails: {type(error).__name__}: {words}") from error


def rehearse(model: nn.Module, dataset: Dataset) -> None:
    """Read, run and judge one batch of a dataset, so that what does not fit is said at once.

    Raises:
        PruneError: a batch cannot be read, the model, the loss or the metric fails on it, there are
            classes that the model does not know, or numbers that are none; says in which part.

    >>> x, y = torch.zeros(2, 3), torch.tensor([0, 7])
    >>> rehearse(nn.Identity(), Dataset("toy", (x, y), (x, y), (x, y), x[:1]))
    Traceback (most recent call last):
    sentei.graph.errors.PruneError: toy: the training data has the class 7, and the model tells 3 \
apart; classes count from 0
    """
    device = home_of(model)
    flags = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with failing(f"{dataset.name}: counting its examples"):
            _ = dataset.counts
        for part, data in (("training", dataset.train), ("test", dataset.test)):
            where = f"on a batch of the {part} data"
            with failing(f"{dataset.name}: reading a batch of the {part} data"):
                batch = to_device(next(iter(batches(data, 8))), device)
                if not is_batch(batch):
                    raise PruneError(
                        f"{dataset.name}: a batch of the {part} data is a {type(batch).__name__}; "
                        "want (inputs, targets), or a mapping"
                    )
            _check_finite(dataset, part, data)
            with torch.inference_mode():
                with failing(f"{dataset.name}: the model {where}"):
                    outputs = forward(model, batch)
                targets = batch if isinstance(batch, Mapping) else batch[1]
                _check_classes(dataset, part, data, outputs)
                with failing(f"{dataset.name}: the loss {where}"):
                    value_of(outputs, batch, dataset.loss)
                if dataset.judge is None:
                    with failing(f"{dataset.name}: the metric {where}"):
                        float(dataset.metric.of(outputs, targets))
    finally:
        for module, flag in flags.items():
            module.training = flag


def _check_finite(dataset: Dataset, part: str, data: Data) -> None:
    """Of data that is in memory; other data is found out about when a loss is no number."""
    for what, tensor in zip(("inputs", "targets"), data if in_memory(data) else (), strict=False):
        if tensor.is_floating_point() and len(tensor):
            whole = tensor.flatten(1) if tensor.dim() > 1 else tensor[:, None]
            odd = (~whole.isfinite().all(1)).nonzero()
            if len(odd):
                raise PruneError(
                    f"{dataset.name}: the {part} data holds NaN or infinite {what}: {len(odd)} of "
                    f"{len(tensor):,} examples, the first is number {int(odd[0])}"
                )


def _check_classes(dataset: Dataset, part: str, data: Data, outputs: Any) -> None:
    if dataset.loss is not class_loss or not in_memory(data) or data[1].is_floating_point():
        return
    known, wanted = _logits(outputs).shape[1], data[1][data[1] != _IGNORED]
    for found in (int(wanted.min()), int(wanted.max())) if len(wanted) else ():
        if not 0 <= found < known:
            raise PruneError(
                f"{dataset.name}: the {part} data has the class {found}, and the model tells "
                f"{known} apart; classes count from 0"
            )


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    data: Data,
    dataset: Dataset,
    *,
    batch_size: int = 256,
    tick: Callable[[int], None] | None = None,
) -> Score:
    """Metric and mean loss of the model on some of a dataset, in eval mode.

    Args:
        data: `dataset.test`, or another part of it.
        tick: told how many examples each batch had.
    Raises:
        ValueError: no data.

    >>> x, y = torch.eye(3), torch.tensor([0, 1, 0])
    >>> data = Dataset("toy", (x, y), (x, y), (x, y), x[:1])
    >>> round(evaluate(nn.Identity(), data.test, data).value, 4)
    0.6667
    """
    if dataset.judge is not None:
        found = dataset.judge(model, data)
        if tick is not None:
            tick(found.count)
        return Score(dataset.metric.name, found.accuracy, found.loss, found.count)
    device = home_of(model)
    flags = {module: module.training for module in model.modules()}
    model.eval()
    seen, good, total = 0, 0.0, 0.0
    try:
        for batch in batches(data, batch_size):
            batch = to_device(batch, device)
            outputs, n = forward(model, batch), size(batch)
            targets: Batch = batch if isinstance(batch, Mapping) else batch[1]
            good += float(dataset.metric.of(outputs, targets)) * n
            total += float(value_of(outputs, batch, dataset.loss)) * n
            seen += n
            if tick is not None:
                tick(n)
    finally:
        for module, flag in flags.items():
            module.training = flag
    if not seen:
        raise ValueError(f"no data to evaluate on in {dataset.name}: there were no batches")
    return Score(dataset.metric.name, dataset.metric.finish(good / seen), total / seen, seen)
