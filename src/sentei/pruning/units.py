"""Remove the units that are named."""

from __future__ import annotations

import copy
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sentei.allocation import Plan, Target
from sentei.graph.axis import Dim, dims, resolve
from sentei.graph.blueprint import without_cache
from sentei.graph.errors import PruneError, closest
from sentei.graph.groups import Group, Groups, analyze, call_arguments
from sentei.graph.surgery import remove
from sentei.pruning.job import check_optimizer, timed
from sentei.pruning.result import Result

__all__ = ["delete_units"]

_ANYTHING = Target(width=1.0)


def delete_units(
    model: nn.Module,
    name: str | Mapping[str, Sequence[int] | Tensor],
    units: Sequence[int] | Tensor | None = None,
    example_inputs: Any = None,
    *,
    args: tuple[Any, ...] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    protect: Iterable[str | nn.Module] = (),
    verify: bool = True,
    optimizer: torch.optim.Optimizer | None = None,
    inplace: bool = True,
) -> Result:
    """Remove these units, and everything that goes with them.

    Args:
        name: a group, or a module whose output is one group. Or a mapping from names to units, to
            remove from several at once (groups whose widths are tied must keep equal shares).
        units: which, from 0; left out after a mapping.
        others: as in `prune`.
    Raises:
        PruneError: there is no such group, it is pinned (says why), a unit is out of range, none
            would be left, or the widths would contradict one another. The model is as before.

    >>> net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
    >>> _ = delete_units(net, "0", [0, 5], torch.randn(3, 4))
    >>> net[0].out_features
    14
    """
    check_optimizer(optimizer, model, inplace)
    if isinstance(name, str):
        if units is None:
            raise PruneError(f"delete_units({name!r}): which units? Give their numbers, from 0")
        wanted: Mapping[str, Any] = {name: units}
    else:
        wanted = name
        if example_inputs is None and units is not None:
            example_inputs = units  # delete_units(model, {...}, x): a mapping says which units
    seconds: dict[str, float] = {}
    call = without_cache(model, *call_arguments(example_inputs, args, kwargs))
    if not inplace:
        model = copy.deepcopy(model)
    with timed(seconds, "analyse"):
        groups = analyze(model, args=call[0], kwargs=call[1], protect=protect)
    gone: dict[str, set[int]] = {}
    for given, chosen in wanted.items():
        group = group_of(groups, given)
        gone.setdefault(group.name, set()).update(_numbers(given, group, chosen))
    keep = {}
    for own, drop in gone.items():
        group = groups[own]
        if len(drop) == group.size:
            raise PruneError(f"{own}: cannot remove all {group.size} units; one must stay")
        if drop:
            keep[own] = torch.tensor([u for u in range(group.size) if u not in drop])
    _check_ties(groups, keep)
    widths = {own: len(kept) for own, kept in keep.items()}
    before, after = groups.cost(), groups.cost(widths)
    planned = Plan(_ANYTHING, keep, widths, {}, {}, before, after)
    with timed(seconds, "surgery"):
        surgery = remove(model, groups, keep, call, optimizer=optimizer, verify=verify)
    return Result(model, groups, planned, surgery, before, after, {}, seconds)


def group_of(groups: Groups, name: str) -> Group:
    """The group of that name, or the one group that a module's output dimension is.

    Raises:
        PruneError: no such group or module; or the output is pinned, or several groups.
    """
    if name in groups or name in groups.pinned:
        return groups[name]  # speaks for itself where pinned
    nodes = [n for n in groups.analysis.tapes[0].nodes if n.module == name and n.outputs]
    if not nodes:
        known = [*groups, *groups.pinned]
        raise PruneError(f"no group or module {name!r}; {closest(name, known)}")
    axes = [resolve(axis) for axis in groups.analysis.axes(nodes[-1].outputs[0])]
    found = {d: groups.by_dim[d] for a in axes for d in dims(a) if d in groups.by_dim}
    free = [g for g in found.values() if g.pinned is None]
    if len(free) == 1 and any(isinstance(a, Dim) and a is free[0].dim for a in axes):
        return free[0]
    if free:
        raise PruneError(
            f"the output of {name!r} is not one group of units; name the group: "
            f"{', '.join(repr(g.name) for g in free[:6])}"
        )
    if found:
        group = next(iter(found.values()))
        raise PruneError(f"the output of {name!r} is pinned: {group.pinned}")
    raise PruneError(f"the output of {name!r} has no units that a parameter makes")


def _numbers(name: str, group: Group, units: Any) -> set[int]:
    if isinstance(units, Tensor):
        units = units.tolist()
    try:
        if any(isinstance(u, bool) for u in units):
            raise PruneError(f"{name}: units are given by number, from 0; got a mask of booleans")
        numbers = {operator.index(u) for u in units}
    except TypeError:
        raise PruneError(f"{name}: units must be a sequence of integers; got {units!r}") from None
    wrong = sorted(u for u in numbers if not 0 <= u < group.size)
    if wrong:
        raise PruneError(f"{name}: no unit {wrong[0]}; units are numbered 0 to {group.size - 1}")
    return numbers


def _check_ties(groups: Groups, keep: Mapping[str, Tensor]) -> None:
    for members in groups.classes():
        if not any(g.name in keep for g in members):
            continue
        kept = {g.name: len(keep[g.name]) if g.name in keep else g.size for g in members}
        first = members[0]
        # Equal shares, cross-multiplied: no rounding.
        if any(kept[g.name] * first.size != kept[first.name] * g.size for g in members):
            got = ", ".join(f"{g.name} {kept[g.name]} of {g.size}" for g in members)
            steps = ", ".join(f"{g.name} {g.step}" for g in members)
            raise PruneError(
                f"the model's code computes one of these widths from another, so they must keep "
                f"equal shares; this would keep: {got}. Units to remove together: {steps}, or a "
                f"multiple. delete_units takes a mapping of several names, prune does it by itself"
            )
