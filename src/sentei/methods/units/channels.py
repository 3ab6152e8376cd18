"""One criterion, one allocation, units removed at once, training on."""

from __future__ import annotations

from typing import Any

from sentei.criteria import Criterion, needs_of
from sentei.graph.errors import PruneError
from sentei.methods.base import method
from sentei.methods.setting import Setting

__all__ = ["channel_l1", "channel_l2", "channel_random", "channel_taylor", "channel_uniform"]

_FACTS: dict[str, Any] = {
    "structure": "channel",
    "timing": "after",
    "starts": "trained",
    "needs": ("data", "labels", "training"),
    "family": "cnn-structured",
}


def remove_units(setting: Setting, criterion: str | Criterion, **options: Any) -> Any:
    """Remove units of the setting's model until its target holds; a `Result`.

    The criterion is given data if it says that it looks at any; see `sentei.criteria.needs`.

    Raises:
        PruneError: the setting has no target, no example inputs, or no data for the criterion.
    """
    from sentei.pruning import prune

    if setting.target is None or setting.example is None:
        raise PruneError("this method removes units: give target= and example inputs")
    data = setting.examples(setting.calibration, 64) if needs_of(criterion) else None
    return prune(
        setting.model, setting.example, target=setting.target, criterion=criterion,
        data=data, loss=setting.loss, protect=setting.protect, seed=setting.seed, **options,
    )  # fmt: skip


@method(
    "channel-l1",
    title="Pruning Filters for Efficient ConvNets",
    authors="Li, Kadav, Durdanovic, Samet, Graf",
    venue="ICLR",
    year=2017,
    arxiv="1608.08710",
    **_FACTS,
)
def channel_l1(setting: Setting, *, allocation: str = "local") -> Any:
    """Remove the units with the smallest L1 norm over all their slices, an equal share of each."""
    result = remove_units(setting, "l1", allocation=allocation)
    setting.recover()
    return result


@method("channel-l2", title="Largest L2 norm, ranked over all groups", authors="-", venue="-",
        year=2017, lineage=("channel-l1",), **_FACTS)  # fmt: skip
def channel_l2(setting: Setting, *, allocation: str = "global") -> Any:
    """Remove the units with the smallest L2 norm over all their slices, ranked together."""
    result = remove_units(setting, "l2", allocation=allocation)
    setting.recover()
    return result


@method("channel-uniform", title="Uniform widths, chosen by L2 norm", authors="-", venue="-",
        year=2017, lineage=("channel-l1",), **_FACTS)  # fmt: skip
def channel_uniform(setting: Setting) -> Any:
    """Remove exactly the same share of every group's units, the smallest by L2 norm."""
    result = remove_units(setting, "l2", allocation="uniform")
    setting.recover()
    return result


@method("channel-random", title="Random units, the baseline", authors="-", venue="-", year=1989,
        **_FACTS)  # fmt: skip
def channel_random(setting: Setting, *, allocation: str = "local") -> Any:
    """Remove units by lot, an equal share of each group."""
    result = remove_units(setting, "random", allocation=allocation)
    setting.recover()
    return result


@method(
    "channel-taylor",
    title="Importance Estimation for Neural Network Pruning",
    authors="Molchanov, Mallya, Tyree, Frosio, Kautz",
    venue="CVPR",
    year=2019,
    arxiv="1906.10771",
    **{**_FACTS, "needs": ("data", "labels", "gradients", "training")},
)
def channel_taylor(setting: Setting, *, allocation: str = "global") -> Any:
    """Remove the units whose removal changes the loss least, to first order (joint form)."""
    result = remove_units(setting, "taylor", allocation=allocation, normalise="none")
    setting.recover()
    return result
