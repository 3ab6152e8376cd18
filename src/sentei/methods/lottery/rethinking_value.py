from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import nn

from sentei.graph.errors import PruneError, closest
from sentei.methods.base import method
from sentei.methods.setting import Setting
from sentei.methods.units.channels import remove_units
from sentei.recovery.fresh import reinitialise

__all__ = ["rethinking_value", "scratch_epochs"]

BUDGETS = ("epochs", "compute", "inherit")


def scratch_epochs(epochs: int, before: float, after: float, cap: float | None = None) -> int:
    """Epochs of equal compute for the pruned network: int(epochs · before / after).

    Args:
        before, after: MACs of the dense and the pruned network.
        cap: at most this many times `epochs`; the paper uses 2 on ImageNet.

    >>> scratch_epochs(160, 100, 30), scratch_epochs(160, 100, 30, cap=2)
    (533, 320)
    """
    ratio = before / after
    return int(epochs * (ratio if cap is None else min(ratio, cap)))


@method(
    "rethinking-value",
    title="Rethinking the Value of Network Pruning",
    authors="Liu, Sun, Zhou, Huang, Darrell",
    venue="ICLR",
    year=2019,
    arxiv="1810.05270",
    family="lottery",
    structure="channel",
    timing="after",
    starts="trained",
    needs=("data", "labels", "training"),
    card="C12",
    lineage=("channel-l1", "lth-imp"),
)
def rethinking_value(
    setting: Setting,
    *,
    budget: str = "compute",
    criterion: str = "l1",
    allocation: str = "uniform",
    cap: float | None = None,
    init: Callable[[nn.Module], None] | None = None,
) -> Any:
    """Remove units, throw the weights that are left away, train the small network from scratch.

    A control of structured pruning: is it the weights or the widths that are inherited?

    Args:
        budget: "epochs" trains as long as the dense network was (scratch-E); "compute" for as many
            multiply-adds, int(epochs · MACs before / MACs after) epochs (scratch-B); "inherit"
            keeps the weights and fine-tunes them, for comparison.
        criterion, allocation: how units are chosen.
        cap: of the factor of "compute"; see `scratch_epochs`.
        init: draws new weights in place; as the modules do by themselves by default.

    Source: section 3. The learning-rate schedule is the recipe's, stretched.
    """
    if budget not in BUDGETS:
        raise PruneError(f"unknown budget {budget!r}; {closest(budget, BUDGETS)}")
    result = remove_units(setting, criterion, allocation=allocation)
    if budget == "inherit":
        setting.recover()
        return result
    if init is None:
        reinitialise(setting.model, setting.seed)
    else:
        init(setting.model)
    epochs = setting.recipe.epochs
    if budget == "compute":
        epochs = scratch_epochs(epochs, result.before.macs, result.after.macs, cap)
    setting.train(recipe=replace(setting.recipe, epochs=epochs))
    return result
