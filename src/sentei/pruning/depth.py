"""Depth beside width: which layers to take out before widths are cut, under one budget.

Two kinds of removal compete here: units of a group, and whole layers or residual branches
(`sentei.layers`). They are put on one footing by what is left: for 0, 1, 2, … layers taken out,
cheapest first, widths are planned for what the budget then leaves, and the mixture is chosen that

- has the lowest loss on `data`, before any recovery, if there is data and a loss; else
- keeps most of the score: the sum over all groups and kept units of the criterion, where a layer
  that is gone takes along its own units and its share of every unit of the residual stream; or
- runs fastest, under the allocation "fastest". There every mixture cuts widths, too: a layer that
  would leave less than the budget allows stays, for time alone would take out ever more of them.

Layers are ranked by the same measure: loss added, or score lost, or seconds not saved, for each
multiply-add saved; layers that save equal time, by the score that is lost.
"""

from __future__ import annotations

import copy
import fnmatch
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from sentei import huggingface
from sentei.allocation import Seconds, movable
from sentei.allocation.latency import Latency
from sentei.allocation.table import LatencyTable
from sentei.allocation.target import Target, share_of
from sentei.batches import home_of
from sentei.criteria import Criterion, Evidence, score
from sentei.graph.blueprint import without_cache
from sentei.graph.capture import unwrap
from sentei.graph.errors import PruneError
from sentei.graph.groups import Groups, analyze, protect_names
from sentei.graph.layers import Layer, delete_layer, layers
from sentei.graph.layers.change import all_or_nothing
from sentei.pruning.job import timed
from sentei.pruning.result import Result
from sentei.sensitivity import mean_loss

__all__ = ["Mixture", "absolute", "choose", "with_depth"]

Call = tuple[tuple[Any, ...], Mapping[str, Any]]
# Mixtures in a row that are worse than the best before the search ends.
_PATIENCE = 3


@dataclass(frozen=True)
class Mixture:
    """A number of layers taken out, and what that leaves.

    names: of the layers, in the order they go; each name is valid after those before are gone.
    worth: the score that is kept, or minus the loss, or minus the predicted seconds.
    """

    names: tuple[str, ...]
    worth: float


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


def with_depth(
    prune: Callable[..., Result],
    model: nn.Module,
    target: Target,
    call: Any,
    optimizer: torch.optim.Optimizer | None,
    *,
    inplace: bool,
    dry_run: bool,
    verify: bool,
    **options: Any,
) -> Result:
    """`sentei.prune`, which is given, where layers may go as well; `options` are its own."""
    seconds: dict[str, float] = {}
    given = model
    call = without_cache(model, *call)
    if not inplace or dry_run:
        model = copy.deepcopy(model)
    options["protect"] = protect_names(unwrap(model), options["protect"])
    table = options["latency_table"]
    with timed(seconds, "analyse"):
        groups = analyze(model, args=call[0], kwargs=call[1])
        classes = movable(groups, options["granularity"])
        units = sum(g.size for members in classes for g in members)
        wanted = absolute(target, groups, units)
    fastest = options["allocation"] == "fastest"
    by_loss = options["data"] is not None and options["loss"] is not None and not fastest
    if fastest or target.latency is not None:
        home = home_of(model)
        options["latency_table"] = table = table or LatencyTable(home)
    before: float | None = None
    if target.latency is not None:
        with timed(seconds, "measure"):
            (before,) = table.stopwatch.models([model], call)
        limit = target.limits({"latency": before})["latency"]
        wanted = replace(wanted, latency=Seconds(limit))

    def surviving(candidate: nn.Module) -> dict[str, Any]:
        """The options, without patterns that protect nothing that is left."""
        names = {n for n, _ in [*candidate.named_modules(), *candidate.named_parameters()]}
        own = [p for p in options["protect"] if any(fnmatch.fnmatch(n, p) for n in names)]
        return {**options, "protect": own}

    def predicted(groups: Groups, widths: Mapping[str, int]) -> float:
        kept = {groups[name].dim: n for name, n in widths.items()}
        return Latency(groups, table).of(lambda dim: kept.get(dim, dim.size))

    def smaller(candidate: nn.Module) -> tuple[nn.Module, Groups, Mapping[str, Any]]:
        done = prune(
            candidate, args=call[0], kwargs=call[1], target=wanted, verify=False, inplace=False,
            dry_run=not by_loss, **surviving(candidate),
        )  # fmt: skip
        return done.model, done.groups, done.keep

    with timed(seconds, "depth"):
        mixture = choose(
            unwrap(model), call, smaller, predicted=predicted if fastest else None,
            **{k: options[k] for k in ("criterion", "data", "loss", "protect", "seed", "uniform")},
        )[0]  # fmt: skip
    with all_or_nothing(unwrap(model)):
        with timed(seconds, "surgery"):
            gone = tuple(
                delete_layer(
                    model, name, args=call[0], kwargs=call[1],
                    verify=verify and not dry_run, optimizer=optimizer,
                )
                for name in mixture.names
            )  # fmt: skip
        done = prune(
            model, args=call[0], kwargs=call[1], target=wanted, dry_run=dry_run, verify=verify,
            optimizer=optimizer, **surviving(model),
        )  # fmt: skip
    for stage, spent in done.seconds.items():
        seconds[stage] = seconds.get(stage, 0.0) + spent
    timing = done.timing
    if timing is not None and before is not None:
        timing = replace(timing, before=before)
    return replace(
        done, model=given if dry_run else model, before=groups.cost(), seconds=seconds,
        timing=timing, layers=gone, plan=replace(done.plan, target=target, before=groups.cost()),
    )  # fmt: skip


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
    predicted: Callable[[Groups, Mapping[str, int]], float] | None = None,
) -> list[Mixture]:
    """The mixtures that were tried, the best first.

    Args:
        smaller: prunes widths of a copy to the budget: model -> (pruned copy, or the model itself
            where a plan is enough, the groups before, kept units by group). Raises PruneError where
            the budget cannot be met.
        predicted: seconds, from groups and the widths that are kept of some. With it the fastest
            mixture is the best.
    Raises:
        PruneError: no mixture meets the budget; what is raised says what width alone can reach.
    """
    patterns = protect_names(model, protect)
    whole_only = uniform and huggingface.configured(model)
    by_loss = data is not None and loss is not None

    def kept_score(candidate: nn.Module, groups: Groups, keep: Mapping[str, Any]) -> float:
        evidence = Evidence.of(candidate, groups, seed=seed, data=data, loss=loss, example=call)
        scores = score(criterion, groups.values(), evidence)
        # Kept units are ranks where each outer index may keep others; the k-th best go together.
        total = 0.0
        for name, own in scores.items():
            kept = keep.get(name)
            total += float(own.sum() if kept is None else own[kept].sum())
        return total

    def value(candidate: nn.Module) -> tuple[float, ...]:
        """What a network is worth whose widths are whole; more is better."""
        if by_loss and predicted is None:
            return (-mean_loss(candidate, data, loss),)
        groups = analyze(candidate, args=call[0], kwargs=call[1])
        kept = kept_score(candidate, groups, {})
        return (kept,) if predicted is None else (-predicted(groups, {}), kept)

    def worth(
        candidate: nn.Module, pruned: nn.Module, groups: Groups, keep: Mapping[str, Any]
    ) -> float:
        if predicted is not None:
            return -predicted(groups, {name: len(kept) for name, kept in keep.items()})
        if by_loss:
            return -mean_loss(pruned, data, loss)
        return kept_score(candidate, groups, keep)

    order = _ranked(
        model, call, value,
        [
            layer
            for layer in layers(model, args=call[0], kwargs=call[1]).values()
            if not _protected(layer, patterns) and (layer.kind == "layer" or not whole_only)
        ],
    )  # fmt: skip
    tried: list[Mixture] = []
    refused: PruneError | None = None
    names: tuple[str, ...] = ()
    left, places = model, {layer.name: layer.name for layer in order}
    behind = 0
    for layer in [None, *order]:
        now = left, places, names
        if layer is not None:
            try:
                shorter = _without(left, places, layer.name, call)
            except PruneError:
                continue  # the last of its list, or what is left does not run without it
            if shorter is None:
                continue  # it went with a layer around it
            now = (*shorter, (*names, places[layer.name]))
        try:
            pruned, groups, keep = smaller(now[0])
        except PruneError as error:
            refused = refused or error
            left, places, names = now
            continue
        if predicted is not None and layer is not None and not keep:
            continue  # no width is left to cut: it takes more than the budget asks for
        left, places, names = now
        tried.append(Mixture(names, worth(left, pruned, groups, keep)))
        behind = behind + 1 if tried[-1].worth < max(m.worth for m in tried) else 0
        if behind >= _PATIENCE:
            break
    if not tried:
        assert refused is not None
        raise refused
    return sorted(tried, key=lambda m: -m.worth)


def _ranked(
    model: nn.Module,
    call: Call,
    value: Callable[[nn.Module], tuple[float, ...]],
    found: Iterable[Layer],
) -> list[Layer]:
    """Layers that can go, the one first whose loss costs least for each multiply-add it saves."""
    best = value(model)
    rank: dict[str, tuple[float, ...]] = {}
    for layer in found:
        candidate = copy.deepcopy(model)
        try:
            delete_layer(candidate, layer.name, args=call[0], kwargs=call[1], verify=False)
        except PruneError:
            continue  # it cannot go after all
        lost = [b - v for b, v in zip(best, value(candidate), strict=True)]
        rank[layer.name] = tuple(number / max(layer.macs, 1) for number in lost)
    fit = [layer for layer in found if not any(map(math.isnan, rank.get(layer.name, (math.nan,))))]
    return sorted(fit, key=lambda layer: rank[layer.name])


def _without(
    model: nn.Module, places: Mapping[str, str], layer: str, call: Call
) -> tuple[nn.Module, dict[str, str]] | None:
    """A copy without that layer, and where the others are now; None where it has gone before.

    Args:
        places: name of a layer in the whole network -> its name in `model`; names in a list move up
            when one before is gone.
    Raises:
        PruneError: it cannot go.
    """
    if layer not in places:
        return None
    shorter = copy.deepcopy(model)
    modules = {name: shorter.get_submodule(place) for name, place in places.items()}
    delete_layer(shorter, places[layer], args=call[0], kwargs=call[1], verify=False)
    names = {id(module): name for name, module in shorter.named_modules()}
    return shorter, {n: names[id(m)] for n, m in modules.items() if id(m) in names}


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
