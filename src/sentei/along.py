"""Copies of a model that lose what the model lost: averaged weights, teachers, checkpoints."""

from __future__ import annotations

from torch import nn
from torch.optim.swa_utils import AveragedModel

from sentei.graph.capture import named_tensors, unwrap
from sentei.graph.errors import PruneError
from sentei.graph.history import history, integers, remember_integers
from sentei.graph.layers.change import all_or_nothing, take_out
from sentei.graph.repair import write_attribute
from sentei.graph.surgery import _Transaction, apply
from sentei.pruning import Result
from sentei.storage.files import few

__all__ = ["prune_along"]


def prune_along(result: Result, *copies: nn.Module) -> None:
    """Do to copies of a model, in place, what `prune` did to the model.

    A copy has the same modules and shapes as the model had before, and weights of its own: the
    moving average in an `AveragedModel`, say, which goes on averaging afterwards.

    Args:
        result: of `prune` or `delete_units`.
        copies: modules, or averages or wrappers around them.
    Raises:
        PruneError: nothing was removed, or a copy is of another model; says what differs. All
            copies are as before.

    >>> import torch, sentei
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> average = AveragedModel(net)
    >>> prune_along(sentei.prune(net, torch.randn(3, 4), target=sentei.Target(macs=0.5)), average)
    >>> average.update_parameters(net)
    >>> average.module[0].weight.shape
    torch.Size([4, 4])
    """
    if result.surgery is None:
        raise PruneError("this result is of a dry run: nothing was removed")
    targets = [_inside(copy) for copy in copies]
    with all_or_nothing(*targets):
        transactions = [_Transaction(target, None) for target in targets]
        try:
            for target, transaction in zip(targets, transactions, strict=True):
                _follow(result, target, transaction)
        except BaseException:
            for transaction in reversed(transactions):
                transaction.rollback()
            raise


def _inside(model: nn.Module) -> nn.Module:
    while isinstance(model, AveragedModel) or unwrap(model) is not model:
        model = model.module if isinstance(model, AveragedModel) else unwrap(model)
    return model


def _follow(result: Result, target: nn.Module, transaction: _Transaction) -> None:
    model = unwrap(result.model)
    if target is model:
        raise PruneError("this is the model that was pruned, not a copy of it")
    past = history(model)
    for gone in past.gone[len(past.gone) - len(result.layers) :]:
        take_out(target, gone)
    before = {
        name: [axis.size for axis in axes]
        for name, axes in result.groups.analysis.parameters.items()
    }
    found = {name: list(tensor.shape) for name, (_, tensor) in named_tensors(target).items()}
    wrong = [
        f"{name} has shape {found.get(name, 'no such tensor')}, the model had {before[name]}"
        for name in result.surgery.kept
        if found.get(name) != before[name]
    ]
    if wrong:
        raise PruneError(f"this is no copy of the model as it was before pruning: {few(wrong)}")
    apply(target, result.surgery, transaction)
    # What a configuration came to say (uniform=True) is no part of the surgery.
    numbers = integers(target)
    for key, value in past.attributes.items():
        write_attribute(target, key, value)
    remember_integers(target, numbers)
