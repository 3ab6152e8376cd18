"""What a batch is, everywhere in Sentei: `(inputs, targets)` or a mapping of keyword arguments.

inputs: a tensor, a tuple of positional arguments, or a mapping of keyword arguments.
A mapping as the whole batch (Hugging Face style) goes to the model as keyword arguments.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Batch", "Data", "Loss", "batches", "forward", "home_of", "in_memory", "is_batch",
           "loss_of", "own_loss", "size", "steps", "to_device", "value_of"]  # fmt: skip

Batch = Any
"""`(inputs, targets)`, or a mapping of keyword arguments."""

Data = Any
"""`(x, y)` tensors with one example a row (in memory), or batches to walk through repeatedly."""

Loss = Callable[..., Tensor]
"""`loss(outputs, targets)`; for mappings `loss(outputs, batch)`. One number, a batch's mean."""


def is_batch(item: Any) -> bool:
    """Whether `item` is one batch rather than a collection of them.

    >>> x, y = torch.zeros(2, 3), torch.zeros(2)
    >>> is_batch((x, y)), is_batch({"input_ids": x}), is_batch([(x, y), (x, y)])
    (True, True, False)
    """
    if isinstance(item, Mapping):
        return True
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        return False
    inputs, targets = item
    # ((a, b), (c, d)) is two batches; ((a, b), y) one batch for a model with two arguments.
    return isinstance(inputs, (Tensor, Mapping)) or isinstance(targets, Tensor)


def in_memory(data: Data) -> bool:
    """Whether `data` is one pair of tensors, cut into batches here; else it brings its own."""
    return isinstance(data, tuple | list) and len(data) == 2 and isinstance(data[0], Tensor)


def steps(data: Data, batch_size: int) -> int:
    """Number of batches an epoch; 0 where it cannot be known."""
    if in_memory(data):
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1; got {batch_size}")
        return math.ceil(len(data[0]) / batch_size)
    if isinstance(data, Mapping):
        return 1
    return len(data) if isinstance(data, Sized) else 0


def batches(
    data: Data, batch_size: int = 64, order: torch.Generator | None = None
) -> Iterator[Batch]:
    """The batches of one epoch.

    In-memory data is shuffled by `order` if it is given and cut into `ceil(N / batch_size)`
    batches whose sizes differ by one at most: a rest of two or three examples would unsettle
    batch-norm. Data that brings its own batches is walked through as it is.

    >>> x = torch.arange(5)
    >>> [tuple(a.tolist()) for a, _ in batches((x, x), 2)]
    [(0, 1), (2, 3), (4,)]
    """
    if not in_memory(data):
        yield from [data] if isinstance(data, Mapping) else data
        return
    x, y = data
    index = torch.arange(len(x)) if order is None else torch.randperm(len(x), generator=order)
    for part in index.tensor_split(steps(data, batch_size)):
        yield x[part.to(x.device)], y[part.to(y.device)]


def forward(model: nn.Module, batch: Batch) -> Any:
    """The model's outputs for one batch."""
    if isinstance(batch, Mapping):
        return model(**batch)
    inputs, _ = batch
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, (tuple, list)) else model(inputs)


def loss_of(model: nn.Module, batch: Batch, loss: Loss | None) -> Tensor:
    """The loss of one batch; without `loss` the outputs must carry one (`outputs.loss`).

    Raises:
        ValueError: there is no loss, or it is not one number.
    """
    return value_of(forward(model, batch), batch, loss)


def value_of(outputs: Any, batch: Batch, loss: Loss | None) -> Tensor:
    """The loss of a batch's outputs; raises as `loss_of`."""
    if loss is not None:
        value = loss(outputs, batch if isinstance(batch, Mapping) else batch[1])
    else:
        value = carried(outputs)
        if value is None:
            raise ValueError(
                "no loss: give loss=, a function of (outputs, targets) such as "
                "torch.nn.functional.cross_entropy; the model's outputs carry none"
            )
    if not isinstance(value, Tensor) or value.numel() != 1:
        got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"loss must give one number a batch; got {got}")
    return value.reshape(())


def carried(outputs: Any) -> Any:
    """The loss in a model's outputs, as an attribute or a key; None where there is none."""
    return outputs.get("loss") if isinstance(outputs, dict) else getattr(outputs, "loss", None)


def own_loss(outputs: Any, targets: Any) -> Tensor:
    """The loss where none is given: what the outputs carry for a mapping, else cross entropy.

    Raises:
        ValueError: the batch is a mapping, and the outputs carry no `.loss`.

    >>> round(own_loss(torch.zeros(1, 4), torch.tensor([2])).item(), 4)
    1.3863
    """
    if not isinstance(targets, Mapping):
        return F.cross_entropy(outputs, targets)
    value = carried(outputs)
    if value is None:
        raise ValueError(
            f"no loss: batches of keyword arguments ({', '.join(targets)}) gave outputs without "
            f"one; hand over labels=, or give loss=, a function of (outputs, batch)"
        )
    return value


def size(batch: Batch) -> int:
    """How many examples a batch holds: the length of its first tensor.

    >>> size((torch.zeros(3, 2), torch.zeros(3)))
    3
    """
    if isinstance(batch, Tensor):
        return len(batch)
    parts: Iterable[Any] = batch.values() if isinstance(batch, Mapping) else batch
    for part in parts:
        if isinstance(part, (Tensor, Mapping, tuple, list)):
            return size(part)
    raise ValueError(f"a batch holds no tensor: {type(batch).__name__}")


def home_of(model: nn.Module) -> torch.device:
    """Where the model lies: the device of its first parameter, the CPU where it has none."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with every tensor on `device`."""
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {k: to_device(v, device) for k, v in batch.items()}
    if isinstance(batch, (tuple, list)):
        return type(batch)(to_device(v, device) for v in batch)
    return batch
