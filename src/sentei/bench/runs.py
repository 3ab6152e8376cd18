"""One run: a value whose fields name it, and how it is carried out."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from sentei.allocation.target import Target
from sentei.bench import metrics
from sentei.bench.store import Store
from sentei.graph.errors import PruneError
from sentei.methods import Setting, apply, by_name
from sentei.methods.own import is_file
from sentei.recovery.train import Recipe, train
from sentei.storage.atomic import write_file
from sentei.tasks import Task, task

__all__ = ["DENSE", "Run", "code_of", "execute", "execute_on"]

DENSE = "dense"
"""The method of the control: the trained network as it is."""

AXES = ("weights", "macs")


@dataclass(frozen=True)
class Run:
    """What is run. Equal runs have equal keys, on every machine.

    task, model: such as "digits" and "mlp".
    method, options: an id in `sentei.methods.METHODS`, or "dense".
    target: how many times smaller the network is to be, by `axis`: "weights" (parameters that must
        be stored) or "macs".
    training: how dense networks are trained; tuning: the recovery. What prunes before or during
        training trains once, for as many epochs as both together.
    code: "task" and "method" -> SHA-256 of the user's file that one comes from (`file.py:name`).
        The file's folder is no part of the key, what is in it is.
    """

    task: str
    model: str
    method: str
    target: float
    seed: int
    training: Recipe
    tuning: Recipe
    axis: str = "weights"
    options: Mapping[str, Any] = field(default_factory=dict)
    code: Mapping[str, str] = field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        """The run as plain data: what its key is made of."""
        fields = json.loads(json.dumps(dataclasses.asdict(self), sort_keys=True))
        if not self.code:
            del fields["code"]  # records of built-in runs have no such field
        for name in self.code:
            fields[name] = _short(fields[name])
        return fields

    @property
    def key(self) -> str:
        """Name of the record: 16 hex digits of the hash of all fields."""
        return _digest(self.describe())

    @property
    def dense_key(self) -> str:
        """Name of the trained network this starts from."""
        fields = self.describe()
        names = {k: fields[k] for k in ("task", "model", "seed", "training")}
        return _digest(names | ({"code": self.code["task"]} if "task" in self.code else {}))

    @property
    def label(self) -> str:
        task, method = _short(self.task), _short(self.method)
        return f"{task}/{self.model} {method} {self.target:g}x seed {self.seed}"

    def check_code(self) -> None:
        """Raises PruneError where a user's file is not what it was when the run was named."""
        for name, digest in self.code.items():
            if code_of(getattr(self, name)) != digest:
                raise PruneError(
                    f"the file of {getattr(self, name)} has changed since the bench began; "
                    f"start it again"
                )


def code_of(text: str) -> str | None:
    """SHA-256 of the file that `file.py:name` speaks of; None for what is built in.

    Raises:
        PruneError: the file cannot be read.
    """
    if not is_file(text):
        return None
    try:
        return hashlib.sha256(Path(text.rpartition(":")[0]).read_bytes()).hexdigest()
    except OSError as error:
        raise PruneError(f"{text}: {error.strerror or error}") from None


def _short(text: str) -> str:
    """A name without the folder of its file."""
    file, _, name = text.rpartition(":")
    return f"{Path(file).name}:{name}" if is_file(text) else text


def _digest(fields: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]


@lru_cache(maxsize=4)
def _task(name: str) -> Task:
    return task(name)


def execute(run: Run, store: Store) -> dict[str, Any]:
    """Carry out a run and give its record; nothing is written but the dense network it shares.

    Raises:
        PruneError: the target is out of reach for this method, or the run is not possible.
    """
    run.check_code()
    return execute_on(run, _task(run.task), store)


def execute_on(run: Run, given: Task, store: Store) -> dict[str, Any]:
    """`execute`, on a task that is at hand: a user's own, or one with other splits.

    Dense networks are shared by the task's name, so give another task another name.
    """
    if run.axis not in AXES:
        raise PruneError(f"unknown axis {run.axis!r}; known: {', '.join(AXES)}")
    began = time.perf_counter()
    initial = given.build(run.model, run.seed)
    dense = _dense(run, given, initial, store)
    control = given.evaluate(dense, given.test)
    params = sum(p.numel() for p in dense.parameters())
    macs = metrics.macs_by_weight(dense, given.example)
    total = sum(macs.values())
    model, masks, steps, seconds = dense, None, 0, 0.0
    weights_asked: dict[str, Any] = {}
    if run.method != DENSE:
        method = by_name(run.method)
        setting = _setting(run, given, method, initial, dense)
        weights_asked = {"density": setting.density}
        outcome = apply(method, setting, **run.options)
        model, masks = outcome.model, outcome.masks
        steps, seconds = outcome.steps, outcome.seconds
    after = given.evaluate(model, given.test)
    if masks is None and model is not dense:
        left = float(sum(metrics.macs_by_weight(model, given.example).values()))
    else:
        left = metrics.sparse_macs(macs, masks)
    before_s, after_s = metrics.latencies([dense, model], given.example)
    size = metrics.size(model, masks)
    return {
        "run": run.describe(),
        "key": run.key,
        "metric": given.metric,
        "accuracy": after.accuracy,
        "top5": after.top5,
        "loss": after.loss,
        "control": {"accuracy": control.accuracy, "top5": control.top5, "loss": control.loss},
        "params": {"before": params, "after": sum(p.numel() for p in model.parameters())},
        "size": {"before": params, "after": size},
        "macs": {"before": total, "after": left},
        "nonzeros": sum(int(torch.count_nonzero(p)) for p in model.parameters()),
        "compression": params / size,
        "speedup": total / left if left else None,
        "asked": {"target": run.target, "axis": run.axis, **weights_asked},
        "reached": params / size if run.axis == "weights" else (total / left if left else None),
        "latency": {"before": before_s, "after": after_s},
        "bytes": {
            "before": metrics.stored_bytes(dense, None),
            "after": metrics.stored_bytes(model, masks),
        },
        "densities": masks.densities() if masks is not None else None,
        "steps": {"dense": run.training.steps(given.train), "method": steps},
        "seconds": {"method": seconds, "all": time.perf_counter() - began},
        "versions": versions(),
        "machine": {
            "processor": platform.machine(),
            "system": platform.system(),
            "threads": torch.get_num_threads(),
        },
    }


def _setting(run: Run, given: Task, method: Any, initial: nn.Module, dense: nn.Module) -> Setting:
    together = dataclasses.replace(run.training, epochs=run.training.epochs + run.tuning.epochs)
    from_start = method.starts == "initial"
    density, target = None, None
    if method.masks:
        if run.axis == "macs":
            raise PruneError(
                f"{method.id} keeps zeros of single weights: ask for a target in weights"
            )
        density = metrics.density_for(initial, run.target)
    else:
        share = 1.0 / run.target
        target = Target(params=share) if run.axis == "weights" else Target(macs=share)
    return Setting(
        copy.deepcopy(initial if from_start else dense),
        given.train,
        loss=given.loss,
        density=density,
        target=target,
        example=given.example,
        recipe=together if from_start else run.training,
        tuning=run.tuning,
        initial=initial.state_dict(),
        seed=run.seed,
    )


def _dense(run: Run, given: Task, initial: nn.Module, store: Store) -> nn.Module:
    """The trained network, from the store if any run has trained it."""
    model = copy.deepcopy(initial)
    file = store.folder / "dense" / f"{run.dense_key}.safetensors"
    with store.claim(f"dense-{run.dense_key}", wait=True):
        if not file.exists():
            train(model, given.train, run.training, loss=given.loss, seed=1000 + run.seed)
            state: dict[str, Tensor] = {n: t.contiguous() for n, t in model.state_dict().items()}
            write_file(file, save({n: t.clone() for n, t in state.items()}))
        model.load_state_dict(load_file(str(file)))
    return model


def versions() -> dict[str, str]:
    """What a record must say so that it can be repeated."""
    out = {"python": platform.python_version()}
    for package in ("sentei", "torch", "numpy", "scikit-learn", "torch-geometric"):
        try:
            out[package] = version(package)
        except PackageNotFoundError:
            out[package] = "absent"
    return out
