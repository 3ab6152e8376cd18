"""`file.py:function`: a user's own data. This runs the file, as `python file.py` would."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset
from torch.utils.data import Dataset as TorchDataset

from sentei.batches import Batch, Data, Loss, batches, in_memory, is_batch, steps
from sentei.graph.errors import PruneError, closest
from sentei.recovery.train import check_data
from sentei.sources.user_file import run_function
from sentei.tasks.base import Task
from sentei.tasks.dataset import METRICS, Dataset, Metric, class_loss, judged_by
from sentei.tasks.formats.parts import split_tensors
from sentei.tasks.opening import Wanted

__all__ = ["read"]

_PARTS = ("train", "validation", "test")
_KEYS = {*_PARTS, "loss", "metric", "example", "classes", "name", "higher_is_better"}


def read(file: str, function: str, wanted: Wanted) -> Dataset:
    """What the function returns.

    A `Dataset`, a `Task`, (train, test), (train, validation, test), or a mapping with these keys
    and, as it likes, loss, metric, higher_is_better, example, classes and name. Each part is two
    tensors, batches, or a torch dataset of single examples.

    Pairs of numpy arrays become tensors.

    Raises:
        PruneError: the file or the function fails, or returns something else.
    """
    if not function.isidentifier():
        raise PruneError(f"{file}:{function}: {function!r} is no name of a function")
    made = run_function(Path(os.path.abspath(file)), function)
    where = f"{file}:{function}"
    if isinstance(made, Dataset):
        return made
    if isinstance(made, Task):
        return Dataset.of(made, wanted.validation, wanted.seed)
    if isinstance(made, (tuple, list)) and len(made) in (2, 3):
        names = ("train", "test") if len(made) == 2 else _PARTS
        made = dict(zip(names, made, strict=True))
    if not isinstance(made, Mapping):
        raise PruneError(
            f"{where} must return (train, test), (train, validation, test), a mapping with these "
            f"keys, or a Dataset; it returned a {type(made).__name__}"
        )
    for key in made:
        if key not in _KEYS:
            raise PruneError(f"{where} returned the key {key!r}; {closest(str(key), _KEYS)}")
    for part in ("train", "test"):
        if part not in made:
            raise PruneError(f"{where} returned no {part!r}; it returned {', '.join(made)}")
    parts = {part: _checked(where, part, made[part], wanted) for part in _PARTS if part in made}
    notes: tuple[str, ...] = ()
    if "validation" not in parts:
        if in_memory(parts["train"]):
            parts["train"], parts["validation"] = split_tensors(
                parts["train"], wanted.validation, wanted.seed, where
            )
            notes = (f"validation: {len(parts['validation'][0])} of the training examples",)
        else:
            parts["validation"] = parts["test"]
            notes = (f"{where} gives no validation: choices look at the test data",)
    first = next(iter(batches(parts["train"])))
    loss = made.get("loss", None if isinstance(first, Mapping) else class_loss)
    return Dataset(
        str(made.get("name", function)),
        parts["train"],
        parts["validation"],
        parts["test"],
        made["example"] if "example" in made else _example(parts["train"]),
        loss=loss,
        metric=_metric(where, made, loss, first),
        classes=made.get("classes"),
        notes=notes,
    )


def _checked(where: str, part: str, data: Any, wanted: Wanted) -> Data:
    if isinstance(data, TorchDataset) and not isinstance(data, IterableDataset):
        # Single examples; the order is drawn from the random state that training seeds.
        data = DataLoader(
            data, wanted.batch_size, shuffle=part == "train", num_workers=wanted.workers
        )
    if isinstance(data, (tuple, list)) and data and all(isinstance(a, np.ndarray) for a in data):
        data = tuple(torch.from_numpy(a) for a in data)
    if in_memory(data) and not isinstance(data[1], Tensor):
        raise PruneError(
            f"{where}: {part}: the inputs are a tensor and the targets a "
            f"{type(data[1]).__name__}; give two tensors"
        )
    try:
        check_data(data)
        first = next(iter(batches(data, 1)), None)
    except (ValueError, TypeError) as error:
        raise PruneError(f"{where}: {part}: {error}") from None
    if first is None or not (in_memory(data) or is_batch(first)):
        raise PruneError(
            f"{where}: {part} must be two tensors (inputs, targets) or batches of them; got a "
            f"{type(data).__name__}" + (" without any" if first is None else "")
        )
    if not steps(data, 1):
        raise PruneError(
            f"{where}: {part} has no length, so a killed run could not go on; give tensors, a "
            "list of batches, or a DataLoader"
        )
    return data


def _example(data: Data) -> Any:
    """The inputs of one example."""
    batch = next(iter(batches(data, 1)))
    inputs = (
        {k: v for k, v in batch.items() if k != "labels"}
        if isinstance(batch, Mapping)
        else batch[0]
    )
    return _first(inputs)


def _first(tree: Any) -> Any:
    if isinstance(tree, Tensor):
        return tree[:1]
    if isinstance(tree, Mapping):
        return {k: _first(v) for k, v in tree.items()}
    return type(tree)(_first(v) for v in tree) if isinstance(tree, (tuple, list)) else tree


def _metric(where: str, made: Mapping[str, Any], loss: Loss | None, first: Batch) -> Metric:
    """What is judged by: as the function says; else the accuracy, or the loss of amounts."""
    targets = first.get("labels") if isinstance(first, Mapping) else first[1]
    amounts = not isinstance(targets, Tensor) or targets.is_floating_point()
    metric = made.get("metric", "loss" if amounts else "accuracy")
    if metric == "loss":
        return Metric("loss", partial(judged_by, loss=loss), higher_is_better=False)
    if isinstance(metric, Metric):
        return metric
    if callable(metric):
        name = getattr(metric, "__name__", "metric")
        return Metric(name, metric, higher_is_better=bool(made.get("higher_is_better", True)))
    if metric not in METRICS:
        raise PruneError(
            f"{where}: unknown metric {metric!r}; {closest(str(metric), [*METRICS, 'loss'])}, or a "
            "function of (outputs, targets)"
        )
    return METRICS[metric]
