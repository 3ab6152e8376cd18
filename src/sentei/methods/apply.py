"""Carry out a method on a setting, and check what it promises."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sentei.graph.capture import unwrap
from sentei.graph.errors import PruneError
from sentei.graph.surgery import _Transaction
from sentei.methods.base import Method
from sentei.methods.setting import Setting
from sentei.recovery.train import Log, check_data
from sentei.structures import Masks

__all__ = ["Outcome", "apply"]


@dataclass(frozen=True)
class Outcome:
    """What a method gave.

    masks: which weights stayed, for methods that keep zeros; None where units were removed.
    result: what removing units gave (`sentei.Result`); None for masks.
    weights: prunable weights before; kept: those that are left, not zero by mask.
    params, nonzeros: parameters of the model afterwards, and those of them that are not zero.
    logs: its trainings; seconds: the whole, scoring and training.
    """

    model: nn.Module = field(repr=False)
    method: str
    options: Mapping[str, Any]
    masks: Masks | None = field(repr=False)
    result: Any = field(repr=False)
    weights: int
    kept: int
    params: int
    nonzeros: int
    logs: tuple[Log, ...] = field(repr=False)
    seconds: float = field(compare=False)
    seed: int = 0

    @property
    def density(self) -> float:
        return self.kept / self.weights

    @property
    def steps(self) -> int:
        """Optimiser steps in all."""
        return sum(log.steps for log in self.logs)

    def __str__(self) -> str:
        if self.masks is None:
            head = f"{self.method}: {self.params:,} parameters left"
            return f"{head}; {self.steps:,} training steps, {self.seconds:.1f} s\n{self.result}"
        return (
            f"{self.method}: {self.kept:,} of {self.weights:,} weights kept "
            f"(sparsity {1 - self.density:.2%}), {self.nonzeros:,} of {self.params:,} parameters "
            f"not zero; {self.steps:,} training steps, {self.seconds:.1f} s. "
            f"Zeros save storage, not time: sentei.zeros_report(model) measures where they do"
        )


def apply(method: Method, setting: Setting, **options: Any) -> Outcome:
    """Run a method on the setting's model, in place.

    Raises:
        PruneError: an unknown option, something the method needs is missing, or the result breaks
            a promise (masked weights are not zero). The weights are as before.
    """
    method.check_options(options)
    model = unwrap(setting.model)
    if setting.data is not None:
        try:
            check_data(setting.data)
        except ValueError as error:
            raise PruneError(f"data: {error}") from None
    before = _snapshot(model)
    total = sum(w.numel() for w in setting.weights.values()) if _has_weights(setting) else 0
    start, done = time.perf_counter(), len(setting.logs)
    try:
        # Shapes and attributes are put back by the transaction, values from the snapshot.
        with _Transaction(model, None) as transaction:
            given = method.run(setting, **options)
            masks = given if isinstance(given, Masks) else None
            if masks is not None:
                _check_zeros(model, masks)
            _check_finite(model, before)
            transaction.commit()
    except BaseException:
        _restore(model, before)
        raise
    parameters = list(model.parameters())
    params = sum(p.numel() for p in parameters)
    kept = masks.kept if masks is not None else sum(w.numel() for w in setting.weights.values())
    return Outcome(
        setting.model,
        method.id,
        dict(options),
        masks,
        None if masks is not None else given,
        total,
        kept,
        params,
        sum(int(torch.count_nonzero(p)) for p in parameters),
        tuple(setting.logs[done:]),
        time.perf_counter() - start,
        setting.seed,
    )


def _has_weights(setting: Setting) -> bool:
    try:
        return bool(setting.weights)
    except PruneError:
        return False


def _check_zeros(model: nn.Module, masks: Masks) -> None:
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name, mask in masks.items():
        if parameters[name].detach()[~mask].count_nonzero():
            raise PruneError(f"the masked weights of {name!r} are not zero: a bug of the method")


def _check_finite(model: nn.Module, before: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    for name, parameter in model.named_parameters():
        known = before.get(name)
        if not parameter.isfinite().all() and (known is None or known[1].isfinite().all()):
            raise PruneError(
                f"{name!r} holds NaN or infinity now: gradients of the last step did. The weights "
                f"are as before; try a lower learning rate, and look at the data"
            )


def _snapshot(model: nn.Module) -> dict[str, tuple[Tensor, Tensor]]:
    # By object: what removes units is a transaction of its own and keeps the parameters' identity.
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {n: (t, t.detach().clone()) for n, t in tensors.items()}


def _restore(model: nn.Module, before: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    with torch.no_grad():
        for tensor, values in before.values():
            tensor.copy_(values)
