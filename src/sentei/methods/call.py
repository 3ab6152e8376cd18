"""A named method on a model, in one call: what `sentei.prune(..., method=...)` does."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from sentei.allocation.target import Target
from sentei.batches import Data, Loss, own_loss
from sentei.graph.capture import unwrap
from sentei.graph.errors import PruneError
from sentei.methods.apply import Outcome, apply
from sentei.methods.base import Method
from sentei.methods.setting import Setting
from sentei.recovery.train import Recipe

__all__ = ["by_method"]


def by_method(
    method: str | Method,
    model: nn.Module,
    call: tuple[tuple[Any, ...], Mapping[str, Any]],
    *,
    sparsity: float | None = None,
    target: Target | None = None,
    data: Data = None,
    loss: Loss | None = None,
    training: Recipe | None = None,
    tuning: Recipe | None = None,
    initial: Mapping[str, Tensor] | None = None,
    options: Mapping[str, Any] | None = None,
    protect: Iterable[str | nn.Module] = (),
    seed: int = 0,
    inplace: bool = True,
    progress: Any = False,
) -> Outcome:
    """Carry out a method.

    Args:
        model: untrained or trained, as the method's `starts` says (`sentei methods` lists it).
        call: positional and keyword arguments of the example inputs.
        sparsity: share of the prunable weights to remove, in [0, 1); for methods that keep zeros.
        target: the budget of methods that remove units.
        data, loss: what it trains and scores on; see `sentei.batches`. Without a loss, cross
            entropy, or for batches of keyword arguments the one that the model's outputs carry.
        training: the recipe of methods that prune before or during training, and that train again;
            tuning: that of the recovery after pruning.
        initial: the weights training started from, for methods that rewind.
        options: the method's own; see its docstring.
        protect: weights or modules that stay whole, by name or pattern, or modules themselves.
    Raises:
        PruneError: something the method needs is missing or wrong; the model is as before.

    >>> import sentei, torch
    >>> net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
    >>> x, y = torch.randn(32, 4), torch.randint(2, (32,))
    >>> outcome = sentei.prune(net, x, method="han-magnitude", sparsity=0.75, data=(x, y))
    >>> outcome.density, int((net[0].weight == 0).sum() + (net[2].weight == 0).sum())
    (0.25, 72)
    """
    from sentei.methods import by_name

    method = by_name(method)
    if sparsity is not None and not 0 <= sparsity < 1:
        raise PruneError(f"sparsity is the share of weights to remove, in [0, 1); got {sparsity!r}")
    if sparsity is None and target is None:
        raise PruneError(
            f"how much is {method.id} to remove? Give sparsity= for single weights, target= for "
            f"whole units ({method.id} prunes by {method.structure})"
        )
    if not inplace:
        model = copy.deepcopy(model)
    args, kwargs = call
    names = {id(m): n for n, m in unwrap(model).named_modules()}
    protected = [p if isinstance(p, str) else names.get(id(p), "") for p in protect]
    setting = Setting(
        model,
        data,
        loss=loss or own_loss,
        density=None if sparsity is None else 1 - sparsity,
        target=target,
        example=dict(kwargs) if kwargs and not args else tuple(args),
        initial=initial,
        protect=tuple(p for p in protected if p),
        seed=seed,
        progress=progress,
        **({} if training is None else {"recipe": training}),
        **({} if tuning is None else {"tuning": tuning}),
    )
    return apply(method, setting, **(options or {}))
