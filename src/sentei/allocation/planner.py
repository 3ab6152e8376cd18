"""How much of what: widths that meet a budget, and the units that stay.

Every group (or set of groups that move together) can give up units one **step** at a time. Steps
are put in one order, cheapest first; cutting the first t of them is monotone in every cost, so the
smallest t that meets the budget is found by bisection. Then steps that still fit are given back,
the most valuable first, until none fits: the budget is reached from below, and what is left unused
is less than any step that was cut would cost. The order is what the allocations differ in:

- "global": by value, the mean over the step's units of their scores, each group's scores divided by
  their mean (so an average unit is worth 1 in every group);
- "local": by share, so that all groups keep the same share, up to the step that was given back;
- "uniform": as local, and nothing is given back: groups of equal size keep equal numbers.

Cost comes from the formulas of `sentei.graph.cost`; the model is never touched.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from sentei.allocation.formula import Formula
from sentei.allocation.movable import Together, granule, movable, togethers
from sentei.allocation.target import Target, ceil_share, share_of
from sentei.graph.cost import Cost
from sentei.graph.errors import PruneError, closest
from sentei.graph.groups import Groups

__all__ = ["ALLOCATIONS", "NORMALISERS", "Plan", "plan"]


@dataclass(frozen=True)
class Plan:
    """What stays.

    keep: group name -> (kept,) long, unit indices ascending; only groups that lose units.
    widths: group name -> number of kept units, of the same groups.
    asked, reached: what the target bounds (of width, units, params, macs) -> ceiling and outcome.
        For width these are shares: the largest share any group keeps.
    before, after: cost of the whole network.
    """

    target: Target
    keep: dict[str, Tensor] = field(repr=False)
    widths: dict[str, int]
    asked: dict[str, float]
    reached: dict[str, float]
    before: Cost
    after: Cost


def by_mean(scores: Tensor) -> Tensor:
    """Scores over their mean magnitude: an average unit is worth 1. All zeros stay zeros.

    >>> import torch
    >>> by_mean(torch.tensor([1., 3.]))
    tensor([0.5000, 1.5000])
    """
    mean = scores.abs().mean()
    return scores / mean if mean > 0 else scores


def as_is(scores: Tensor) -> Tensor:
    """Scores as the criterion gave them, for criteria that compare groups by themselves."""
    return scores


NORMALISERS: dict[str, Callable[[Tensor], Tensor]] = {"mean": by_mean, "none": as_is}
ALLOCATIONS = ("global", "local", "uniform")


def plan(
    groups: Groups,
    scores: Mapping[str, Tensor],
    target: Target,
    *,
    allocation: str = "global",
    normalise: str = "mean",
    round_to: int | None = None,
    min_units: int = 1,
    min_fraction: float = 0.0,
    granularity: str = "auto",
    uniform: bool = False,
    hold: Iterable[str] = (),
) -> Plan:
    """The widths that meet `target`, and the best units for them.

    Args:
        scores: group name -> (units,), larger is worth more; for groups that may move.
        allocation: "global", "local" or "uniform"; see the module.
        normalise: how scores of different groups are made comparable: "mean" or "none".
        round_to: kept widths are multiples of this, where a group has so many positions; a group
            that loses nothing keeps its width.
        min_units, min_fraction: what every group keeps at least.
        granularity: which of nested groups move; see `sentei.allocation.movable`.
        uniform: groups of one role (name without numbers), kind and size keep equal numbers.
        hold: names of groups to leave whole.
    Returns:
        a Plan with reached <= asked for everything asked.
    Raises:
        PruneError: the budget cannot be met (names the nearest that can), nothing is prunable,
            scores are missing or do not fit, or an option is unknown.

    >>> import torch
    >>> from sentei.graph.groups import analyze
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> groups = analyze(net, torch.zeros(1, 4))
    >>> made = plan(groups, {"0": torch.arange(8.)}, Target(macs=0.5))
    >>> made.keep["0"].tolist(), made.asked, made.reached
    ([4, 5, 6, 7], {'macs': 24}, {'macs': 24})
    """
    if not isinstance(target, Target):
        raise PruneError(f"target must be a Target, such as Target(macs=0.5); got {target!r}")
    if allocation not in ALLOCATIONS:
        raise PruneError(
            f"unknown allocation {allocation!r}; {closest(str(allocation), ALLOCATIONS)}"
        )
    if normalise not in NORMALISERS:
        raise PruneError(
            f"unknown normalisation {normalise!r}; {closest(str(normalise), NORMALISERS)}"
        )
    if round_to is not None and (not isinstance(round_to, int) or round_to < 1):
        raise PruneError(f"round_to must be a positive integer such as 8; got {round_to!r}")
    if min_units < 1 or not 0 <= min_fraction <= 1:
        raise PruneError(
            f"min_units must be at least 1 and min_fraction in [0, 1]; "
            f"got {min_units!r} and {min_fraction!r}"
        )
    moving = togethers(movable(groups, granularity, hold), uniform)
    _check_scores(moving, scores)
    ladder = _Ladder(groups, moving, target, round_to or 1, min_units, min_fraction)
    limits = target.limits(ladder.before)
    value = _values(ladder, moving, scores, NORMALISERS[normalise])
    ladder.descend(limits, value, allocation)
    return _planned(groups, moving, scores, ladder, target, limits)


class _Ladder:
    """The widths each class may take, where it stands, and what that costs.

    rungs[c]: the numbers of shares class c may keep, ascending; at[c] indexes it.
    """

    def __init__(
        self,
        groups: Groups,
        moving: list[Together],
        target: Target,
        multiple: int,
        min_units: int,
        min_fraction: float,
    ) -> None:
        self.moving = moving
        free = {g.dim for together in moving for g in together.members}
        self.rungs: list[np.ndarray] = []
        for together in moving:
            shares = together.shares
            step = granule(together, free, multiple) if multiple > 1 else 1
            rungs = np.unique(np.append(np.arange(step, shares + 1, step), shares))
            least = max(
                -(-max(min_units, ceil_share(min_fraction, g.size)) * shares // g.size)
                for g in together.members
            )
            least = min(least, shares)
            most = max(share_of(target.width or 1.0, shares), least)
            fitting = rungs[(rungs >= least) & (rungs <= most)]
            # No multiple between the floor and the ceiling: the ceiling matters more.
            self.rungs.append(fitting if len(fitting) else np.array([most]))
        places = [(g, c) for c, t in enumerate(moving) for g in t.members]
        self.owner = np.array([c for _, c in places])
        self.unit = np.array([g.size // moving[c].shares for g, c in places])
        dims = {g.dim: i for i, (g, _) in enumerate(places)}
        costs = {"params": groups.costs.params, "macs": groups.costs.macs}
        self.measures: dict[str, Callable[[np.ndarray], int]] = {
            "units": lambda widths: int(widths.sum()),
            **{name: Formula(poly, dims) for name, poly in costs.items()},
        }
        whole = np.array([g.size for g, _ in places])
        self.before = {name: measure(whole) for name, measure in self.measures.items()}
        self.at = np.array([len(r) - 1 for r in self.rungs])

    def widths(self, at: np.ndarray) -> np.ndarray:
        kept = np.array([r[i] for r, i in zip(self.rungs, at, strict=True)])
        return kept[self.owner] * self.unit

    def cost(self, at: np.ndarray, names: Iterable[str]) -> dict[str, int]:
        widths = self.widths(at)
        return {name: self.measures[name](widths) for name in names}

    def fits(self, at: np.ndarray, limits: Mapping[str, int]) -> bool:
        widths = self.widths(at)
        return all(self.measures[name](widths) <= limit for name, limit in limits.items())

    def descend(self, limits: Mapping[str, int], value: list[np.ndarray], allocation: str) -> None:
        """Move `at` down until `limits` hold."""
        if self.fits(self.at, limits):
            return
        bottom = np.zeros_like(self.at)
        if not self.fits(bottom, limits):
            raise PruneError(self._impossible(limits, bottom))
        owner, order = self._order(value, allocation)
        # Cutting more never costs more: bisect for the fewest cuts that fit.
        stops = np.arange(1, len(owner) + 1)
        if allocation == "uniform":
            share = order[0]
            stops = np.append(np.flatnonzero(np.diff(share)) + 1, len(share))
        low, high = 0, len(stops) - 1
        while low < high:
            middle = (low + high) // 2
            if self.fits(self._cut(owner, stops[middle]), limits):
                high = middle
            else:
                low = middle + 1
        self.at = self._cut(owner, stops[low])
        if allocation != "uniform":
            self._give_back(limits, value, allocation)

    def _order(
        self, value: list[np.ndarray], allocation: str
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """The class each step belongs to, first to go first, and the sorted keys."""
        owner = np.concatenate([np.full(len(v), c) for c, v in enumerate(value)])
        # Steps of one class go from the top down, whatever their values say.
        place = np.concatenate([np.arange(len(v), 0, -1) for v in value])
        worth = np.concatenate(value)
        if allocation == "global":
            keys = (worth,)
        else:
            share = [r[1:] / t.shares for r, t in zip(self.rungs, self.moving, strict=True)]
            keys = (-np.concatenate(share), worth)
        order = np.lexsort((place, owner, *keys[::-1]))
        return owner[order], tuple(k[order] for k in keys)

    def _cut(self, owner: np.ndarray, steps: int) -> np.ndarray:
        top = np.array([len(r) - 1 for r in self.rungs])
        return top - np.bincount(owner[:steps], minlength=len(top))

    def _give_back(
        self, limits: Mapping[str, int], value: list[np.ndarray], allocation: str
    ) -> None:
        """Give back steps that still fit, the most valuable (or the largest shortfall) first."""

        def entry(c: int) -> tuple[float, float, int]:
            i = self.at[c]
            worth = -float(value[c][i])
            share = float(self.rungs[c][i + 1] / self.moving[c].shares)
            return (worth, 0.0, c) if allocation == "global" else (share, worth, c)

        heap = [entry(c) for c in range(len(self.at)) if self.at[c] + 1 < len(self.rungs[c])]
        heapq.heapify(heap)
        while heap:
            c = heapq.heappop(heap)[-1]
            self.at[c] += 1
            if not self.fits(self.at, limits):
                self.at[c] -= 1  # and never again: costs only grow from here
            elif self.at[c] + 1 < len(self.rungs[c]):
                heapq.heappush(heap, entry(c))

    def _impossible(self, limits: Mapping[str, int], bottom: np.ndarray) -> str:
        least = self.cost(bottom, limits)
        missed = [
            f"{name} {limits[name]:,} ({limits[name] / max(self.before[name], 1):.2%}) is below "
            f"what can be reached. Nearest: {name}={n} ({n / max(self.before[name], 1):.2%})"
            for name, n in least.items()
            if n > limits[name]
        ]
        return (
            f"budget out of reach: {'; '.join(missed)}, with every prunable group at its smallest "
            f"width. What is pinned or protected keeps its cost"
        )


def _values(
    ladder: _Ladder,
    moving: list[Together],
    scores: Mapping[str, Tensor],
    normalise: Callable[[Tensor], Tensor],
) -> list[np.ndarray]:
    """What each step between rungs is worth: value[c][i] for the step from rung i to i + 1."""
    out = []
    for together, rungs in zip(moving, ladder.rungs, strict=True):
        per_share = np.zeros(together.shares)
        for group in together.members:
            best = normalise(scores[group.name].double()).sort(descending=True).values
            per_share += best.view(together.shares, -1).mean(1).numpy() / len(together.members)
        sums = np.concatenate([[0.0], per_share.cumsum()])
        value = np.diff(sums[rungs]) / np.diff(rungs)
        # Falling by construction; rounding must not make it rise.
        out.append(np.minimum.accumulate(value) if len(value) else value)
    return out


def _check_scores(moving: list[Together], scores: Mapping[str, Tensor]) -> None:
    for together in moving:
        for group in together.members:
            if group.name not in scores:
                raise PruneError(
                    f"no scores for group {group.name!r}; {closest(group.name, scores)}"
                )
            given = scores[group.name]
            if tuple(given.shape) != (group.size,):
                raise PruneError(
                    f"group {group.name!r} has {group.size} units, but its scores have shape "
                    f"{tuple(given.shape)}"
                )
            if not given.isfinite().all():
                raise PruneError(f"the scores of group {group.name!r} hold NaN or infinity")


def highest(scores: Tensor, k: int) -> Tensor:
    """Indices of the k highest scores, ascending; of equal ones the last stay.

    >>> import torch
    >>> highest(torch.tensor([.5, .1, .5, .5]), 2)
    tensor([2, 3])
    """
    return scores.argsort(stable=True)[len(scores) - k :].sort().values


def _planned(
    groups: Groups,
    moving: list[Together],
    scores: Mapping[str, Tensor],
    ladder: _Ladder,
    target: Target,
    limits: dict[str, int],
) -> Plan:
    keep: dict[str, Tensor] = {}
    largest = 0.0
    for together, rungs, i in zip(moving, ladder.rungs, ladder.at, strict=True):
        kept = int(rungs[i])
        largest = max(largest, kept / together.shares)
        if kept < together.shares:
            for group in together.members:
                units = kept * (group.size // together.shares)
                keep[group.name] = highest(scores[group.name], units)
    widths = {name: len(units) for name, units in keep.items()}
    asked: dict[str, float] = dict(limits)
    reached: dict[str, float] = dict(ladder.cost(ladder.at, limits))
    if target.width is not None:
        asked["width"], reached["width"] = target.width, largest
    return Plan(target, keep, widths, asked, reached, groups.cost(), groups.cost(widths))
