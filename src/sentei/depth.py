"""Depth beside width: which layers to take out before widths are cut, under one budget.

Two kinds of removal compete here: units of a group, and whole layers or residual branches
(`sentei.layers`). They are put on one footing by what is left: for 0, 1, 2, … layers taken out,
cheapest first, widths are planned for what the budget then leaves, and the mixture is chosen that

- has the lowest loss on `data`, before any recovery, if there is data and a loss; else
- keeps most of the score: the sum over all groups and kept units of the criterion, where a layer
  that is gone takes along its own units and its share of every unit of the residual stream.

Layers are ranked by the same measure: loss added, or score lost, for each multiply-add saved.
"""

from __future__ import annotations

import copy
import fnmatch
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from sentei import huggingface
from sentei.allocation.target import Target, share_of
from sentei.criteria import Criterion, Evidence, score
from sentei.graph.errors import PruneError
from sentei.graph.groups import Groups, analyze, protect_names
from sentei.graph.layers import Layer, delete_layer, layers
from sentei.sensitivity import mean_loss

__all__ = ["Mixture", "absolute", "choose"]

Call = tuple[tuple[Any, ...], Mapping[str, Any]]
# Mixtures in a row that are worse than the best before the search ends.
_PATIENCE = 3


@dataclass(frozen=True)
class Mixture:
    """A number of layers taken out, and what that leaves.

    names: of the layers, in the order they go; each name is valid after those before are gone.
    kept: share of the whole model's score, or the loss, whichever was measured.
    """

    names: tuple[str, ...]
    kept: float


def absolute(target: Target, groups: Groups, units: int) -> Target:
    """The target in numbers, so that it means the same after layers are gone."""
    before = groups.cost()
    whole = {
        "units": units, "params": before.params, "macs": before.macs, "bytes": before.bytes,
        "memory": before.memory,
    }  # fmt: skip
    changes = {}
    for name, count in whole.items():
        value = getattr(target, name)
        if isinstance(value, float):
            number = share_of(value, count)
            if number < 2:
                raise PruneError(f"{target}: that leaves {number} of {count:,} {name}")
            changes[name] = number
    return replace(target, **changes)


def choose(
    model: nn.Module,
    call: Call,
    smaller: Callable[[nn.Module], tuple[nn.Module, Groups, Mapping[str, Any]]],
    *,
    criterion: str | Criterion,
    data: Any,
    loss: Any,
    protect: Iterable[str | nn.Module],
    seed: int,
    uniform: bool,
) -> list[Mixture]:
    """The mixtures that were tried, the best first.

    Args:
        smaller: prunes widths of a copy to the budget: model -> (pruned copy, the groups before,
            kept units by group). Raises PruneError where the budget cannot be met.
    Raises:
        PruneError: no mixture meets the budget; what is raised says what width alone can reach.
    """
    patterns = protect_names(model, protect)
    whole_only = uniform and huggingface.configured(model)

    def worth(candidate: nn.Module, groups: Groups, keep: Mapping[str, Any]) -> float:
        """More is better."""
        if data is not None and loss is not None:
            return -mean_loss(candidate, data, loss)
        evidence = Evidence.of(candidate, groups, seed=seed, data=data, loss=loss, example=call)
        scores = score(criterion, groups.values(), evidence)
        # Kept units are ranks where each outer index may keep others; the k-th best go together.
        total = 0.0
        for name, own in scores.items():
            kept = keep.get(name)
            total += float(own.sum() if kept is None else own[kept].sum())
        return total

    def whole(candidate: nn.Module) -> float:
        return worth(candidate, analyze(candidate, args=call[0], kwargs=call[1]), {})

    found = [
        layer
        for layer in layers(model, args=call[0], kwargs=call[1]).values()
        if not _protected(layer, patterns) and (layer.kind == "layer" or not whole_only)
    ]
    best = whole(model)
    rank: dict[str, float] = {}
    for layer in found:
        candidate = copy.deepcopy(model)
        try:
            delete_layer(candidate, layer.name, args=call[0], kwargs=call[1], verify=False)
            rank[layer.name] = (best - whole(candidate)) / max(layer.macs, 1)
        except PruneError:
            continue  # it cannot go after all
    order = [layer for layer in found if layer.name in rank and not math.isnan(rank[layer.name])]
    order.sort(key=lambda layer: rank[layer.name])

    # Modules are followed by identity: names in a list move up when one before is gone.
    current = copy.deepcopy(model)
    places = {layer.name: current.get_submodule(layer.name) for layer in order}
    tried: list[Mixture] = []
    refused: PruneError | None = None
    names: tuple[str, ...] = ()
    behind = 0
    for layer in [None, *order]:
        if layer is not None:
            name = next((n for n, m in current.named_modules() if m is places[layer.name]), None)
            if name is None:
                continue  # it went with a layer around it
            try:
                delete_layer(current, name, args=call[0], kwargs=call[1], verify=False)
            except PruneError:
                continue  # the last of its list, or what is left does not run without it
            names = (*names, name)
        try:
            pruned, groups, keep = smaller(copy.deepcopy(current))
        except PruneError as error:
            refused = refused or error
            continue
        of = pruned if data is not None and loss is not None else current
        tried.append(Mixture(names, worth(of, groups, keep)))
        behind = behind + 1 if tried[-1].kept < max(m.kept for m in tried) else 0
        if behind >= _PATIENCE:
            break
    if not tried:
        assert refused is not None
        raise refused
    return sorted(tried, key=lambda m: -m.kept)


def _protected(layer: Layer, patterns: list[str]) -> bool:
    """A layer is protected where a pattern names it, what is inside it or what it is inside of."""
    for pattern in patterns:
        parts = layer.name.split(".")
        around = [".".join(parts[: i + 1]) for i in range(len(parts))]
        if any(fnmatch.fnmatch(name, pattern) for name in around):
            return True
        if any(pattern.startswith(f"{module}.") for module in layer.modules):
            return True
    return False
