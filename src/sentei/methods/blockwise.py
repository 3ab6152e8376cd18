"""Prune a trained network block by block, each on what the pruned ones before it give."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from typing import TypeVar

from torch import Tensor

from sentei.criteria.inputs import Use, observe, order
from sentei.graph.errors import PruneError, closest
from sentei.methods.setting import Setting

__all__ = ["PROPAGATION", "by_blocks", "sections"]

PROPAGATION = ("layer", "block", "none")

Statistics = TypeVar("Statistics", bound=Callable[[Use], None])


def sections(names: Iterable[str], how: str = "layer") -> list[list[str]]:
    """Weights in order of execution, cut into parts that are pruned on the same inputs.

    how: "layer" each weight by itself; "block" what has the same numbered ancestor
        (`layers.3.attn.q.weight` and `layers.3.mlp.up.weight`: `layers.3`); "none" all at once.

    >>> sections(["stem.weight", "layers.0.q.weight", "layers.0.k.weight", "layers.1.q.weight"],
    ...          "block")
    [['stem.weight'], ['layers.0.q.weight', 'layers.0.k.weight'], ['layers.1.q.weight']]
    """
    if how not in PROPAGATION:
        raise PruneError(f"unknown propagation {how!r}; {closest(how, PROPAGATION)}")
    names = list(names)
    if how == "none":
        return [names]
    if how == "layer":
        return [[n] for n in names]

    def ancestor(name: str) -> str:
        found = re.match(r"(.*?\b\d+)\.", name)
        return found[1] if found else name

    return [list(part) for _, part in groupby(names, ancestor)]


def by_blocks(
    setting: Setting,
    collect: Callable[[], Statistics],
    prune_: Callable[[str, Tensor, Statistics], Tensor],
    propagate: str = "layer",
) -> Mapping[str, Tensor]:
    """Masks by parameter: for each part, look at its inputs, then prune its weights in place.

    Transposed convolutions are taken as if what their kernels give did not overlap.

    Args:
        collect: makes an empty statistic, which is called with every `Use` of the part's weights.
        prune_: (name, weight, statistic) -> mask; may change the weight.
        propagate: see `sections`.
    """
    data = setting.examples(setting.calibration)
    weights = setting.weights
    masks: dict[str, Tensor] = {}
    for part in sections(order(setting.model, weights, data[0]), propagate):
        statistic = collect()
        observe(setting.model, weights, data, statistic, only=part)
        for name in part:
            masks[name] = prune_(name, weights[name], statistic)
            weights[name].data.masked_fill_(~masks[name], 0.0)
    return {name: masks[name] for name in weights}
