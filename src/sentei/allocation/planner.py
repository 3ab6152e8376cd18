"""How much of what: widths that meet a budget, and the units that stay.

Every group (or set of groups that move together) can give up units one **step** at a time. Steps
are put in one order, cheapest first; cutting the first t of them is monotone in every cost, so the
smallest t that meets the budget is found by bisection. Then steps that still fit are given back,
those cut last first, until none fits: the budget is reached from below, and what is left unused is
less than any step that was cut would cost. The order is what the allocations differ in; see
`sentei.allocation.orders`.

Cost comes from the formulas of `sentei.graph.cost`, latency from `sentei.allocation.latency`; the
model is never touched.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from torch import Tensor

from sentei.allocation.curves import Curve
from sentei.allocation.formula import Formula, Peak
from sentei.allocation.movable import Together, granule, movable, togethers
from sentei.allocation.normalise import NORMALISERS
from sentei.allocation.orders import ALLOCATIONS, ORDERS, RIVALS, Steps, structures
from sentei.allocation.target import Target, ceil_share, in_units, share_of
from sentei.graph.axis import Dim
from sentei.graph.cost import Cost
from sentei.graph.errors import PruneError, closest
from sentei.graph.groups import Groups

__all__ = ["ALLOCATIONS", "NORMALISERS", "OutOfReach", "Plan", "Predictor", "plan"]


class OutOfReach(PruneError):
    """No plan meets the budget; `nearest` says what can be reached of what was missed."""

    def __init__(self, message: str, nearest: dict[str, float]) -> None:
        super().__init__(message)
        self.nearest = nearest


class Predictor(Protocol):
    """Seconds of a forward pass as a function of widths; see `sentei.allocation.latency`."""

    def compiled(self, dims: Mapping[Dim, int]) -> Callable[[np.ndarray], float]:
        """A function of the widths of `dims`, that never falls when a width rises."""
        ...

    def slower(self, together: Together, rungs: np.ndarray) -> np.ndarray:
        """Which of these numbers of shares are slower than a larger one: bool, as `rungs`."""
        ...


@dataclass(frozen=True)
class Plan:
    """What stays.

    keep: group name -> (kept,) long, unit indices ascending; only groups that lose units.
    widths: group name -> number of kept units, of the same groups.
    asked, reached: what the target bounds -> ceiling and outcome. For width these are shares (the
        largest share any group keeps), for latency seconds (as predicted).
    before, after: cost of the whole network.
    """

    target: Target
    keep: dict[str, Tensor] = field(repr=False)
    widths: dict[str, int]
    asked: dict[str, float]
    reached: dict[str, float]
    before: Cost
    after: Cost


def plan(
    groups: Groups,
    scores: Mapping[str, Tensor],
    target: Target,
    *,
    allocation: str = "global",
    normalise: str = "none",
    round_to: int | Mapping[str, int] | None = None,
    min_units: int = 1,
    min_fraction: float = 0.0,
    granularity: str = "auto",
    uniform: bool = False,
    hold: Iterable[str] = (),
    latency: Predictor | None = None,
    curves: Mapping[str, Curve] | None = None,
) -> Plan:
    """The widths that meet `target`, and the best units for them.

    Args:
        scores: group name -> (units,), larger is worth more; for groups that may move.
        allocation: in what order steps go, a name in `ALLOCATIONS`; see `sentei.allocation.orders`.
        normalise: how scores of different groups are made comparable, a name in `NORMALISERS`.
        round_to: kept widths are multiples of this, where a group has so many positions; a group
            that loses nothing keeps its width. A mapping gives each group its own.
        min_units, min_fraction: what every group keeps at least.
        granularity: which of nested groups move; see `sentei.allocation.movable`.
        uniform: groups of one role (name without numbers), kind and size keep equal numbers.
        hold: names of groups to leave whole.
        latency: predicts seconds; needed where the target bounds them. With it no group is given
            a width that is slower than a larger one.
        curves: damage by kept share, by group name; needed by the allocation "sensitivity".
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
    multiples = round_to.values() if isinstance(round_to, Mapping) else [round_to or 1]
    if round_to == 0 or any(not isinstance(m, int) or m < 1 for m in multiples):
        raise PruneError(f"round_to must be a positive integer such as 8; got {round_to!r}")
    if min_units < 1 or not 0 <= min_fraction <= 1:
        raise PruneError(
            f"min_units must be at least 1 and min_fraction in [0, 1]; "
            f"got {min_units!r} and {min_fraction!r}"
        )
    if target.latency is not None and latency is None:
        raise PruneError("a target for latency needs times: give plan(latency=...), or use prune")
    if allocation == "fastest" and (latency is None or target.latency is not None):
        raise PruneError(
            "the allocation 'fastest' chooses among plans of equal cost by predicted time: it "
            "needs times, plan(latency=...), and a budget that is not itself a latency"
        )
    if allocation == "sensitivity" and curves is None:
        raise PruneError(
            "the allocation 'sensitivity' needs curves: give plan(curves=...) from "
            "sentei.sensitivity, or use prune(data=..., loss=...)"
        )
    moving = togethers(movable(groups, granularity, hold), uniform)
    _check_scores(moving, scores)
    by_name = round_to if isinstance(round_to, Mapping) else {}
    default = round_to if isinstance(round_to, int) else 1
    coarse = [max(by_name.get(g.name, default) for g in t.members) for t in moving]
    ladder = _Ladder(groups, moving, target, coarse, min_units, min_fraction, latency)
    limits = target.limits(ladder.before)
    value = _values(ladder, moving, scores, NORMALISERS[normalise])
    steps = ladder.steps(value, curves, ["latency"] if latency is not None else [*limits])
    if allocation == "fastest":
        ladder.race(limits, steps)
    else:
        ladder.descend(limits, steps, allocation)
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
        multiples: list[int],
        min_units: int,
        min_fraction: float,
        latency: Predictor | None,
    ) -> None:
        self.moving = moving
        self.groups = groups
        free = {g.dim for together in moving for g in together.members}
        self.rungs: list[np.ndarray] = []
        for together, multiple in zip(moving, multiples, strict=True):
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
            fitting = fitting if len(fitting) else np.array([most])
            if latency is not None and len(fitting) > 1:
                fitting = fitting[~latency.slower(together, fitting)]
            self.rungs.append(fitting)
        places = [(g, c) for c, t in enumerate(moving) for g in t.members]
        self.owner = np.array([c for _, c in places])
        self.unit = np.array([g.size // moving[c].shares for g, c in places])
        dims = {g.dim: i for i, (g, _) in enumerate(places)}
        costs = groups.costs
        self.measures: dict[str, Callable[[np.ndarray], float]] = {
            "units": lambda widths: int(widths.sum()),
            "params": Formula(costs.params, dims),
            "macs": Formula(costs.macs, dims),
            "bytes": Formula(costs.bytes, dims),
        }
        # These two take longer to compile: only where they are asked for.
        if target.memory is not None:
            resident, live = Formula(costs.resident, dims), Peak(costs.live, dims)
            self.measures["memory"] = lambda widths: resident(widths) + live(widths)
        if latency is not None:
            self.measures["latency"] = latency.compiled(dims)
        whole = np.array([g.size for g, _ in places])
        self.before = {name: measure(whole) for name, measure in self.measures.items()}
        self.at = np.array([len(r) - 1 for r in self.rungs])

    def widths(self, at: np.ndarray) -> np.ndarray:
        kept = np.array([r[i] for r, i in zip(self.rungs, at, strict=True)])
        return kept[self.owner] * self.unit

    def cost(self, at: np.ndarray, names: Iterable[str]) -> dict[str, float]:
        widths = self.widths(at)
        return {name: self.measures[name](widths) for name in names}

    def fits(self, at: np.ndarray, limits: Mapping[str, float]) -> bool:
        widths = self.widths(at)
        return all(self.measures[name](widths) <= limit for name, limit in limits.items())

    def saved(self, names: Iterable[str]) -> np.ndarray:
        """What a unit of each class saves of these costs, as shares of the whole, summed."""
        top = np.array([len(r) - 1 for r in self.rungs])
        whole = self.cost(top, names)
        found = np.zeros(len(top))
        for c, rungs in enumerate(self.rungs):
            if len(rungs) > 1:
                low = top.copy()
                low[c] = 0
                less = self.cost(low, names)
                units = (rungs[-1] - rungs[0]) * sum(g.size for g in self.moving[c].members)
                share = sum((whole[n] - less[n]) / max(whole[n], 1e-300) for n in whole)
                found[c] = share * self.moving[c].shares / units
        return found

    def steps(
        self, value: list[np.ndarray], curves: Mapping[str, Curve] | None, bounded: Iterable[str]
    ) -> Steps:
        """Every step down, class by class, from the lowest rung upwards."""
        shares = [t.shares for t in self.moving]
        damage = [
            _damage(t, r, curves) if curves is not None else np.zeros(len(r) - 1)
            for t, r in zip(self.moving, self.rungs, strict=True)
        ]
        size = [sum(g.size for g in t.members) for t in self.moving]
        spans = [np.diff(r) * n / s for r, n, s in zip(self.rungs, size, shares, strict=True)]
        return Steps(
            owner=np.concatenate([np.full(len(v), c) for c, v in enumerate(value)]),
            # Steps of one class go from the top down, whatever their values say.
            place=np.concatenate([np.arange(len(v), 0, -1) for v in value]),
            worth=np.concatenate(value),
            share=np.concatenate([r[1:] / s for r, s in zip(self.rungs, shares, strict=True)]),
            units=np.concatenate(spans),
            damage=np.concatenate(damage),
            sizes=np.array(size),
            saved=lambda: self.saved(bounded),
            structure=lambda: np.array(structures(self.groups, self.moving)),
        )

    def descend(self, limits: Mapping[str, float], steps: Steps, allocation: str) -> None:
        """Move `at` down until `limits` hold."""
        if self.fits(self.at, limits):
            return
        bottom = np.zeros_like(self.at)
        if not self.fits(bottom, limits):
            raise self._impossible(limits, bottom)
        keys = ORDERS[allocation](steps)
        order = np.lexsort((steps.place, steps.owner, *keys[::-1]))
        owner = steps.owner[order]
        # Cutting more never costs more: bisect for the fewest cuts that fit.
        stops = np.arange(1, len(owner) + 1)
        if allocation == "uniform":
            share = keys[0][order]
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
            self._give_back(limits, owner)

    def race(self, limits: Mapping[str, float], steps: Steps) -> None:
        """Move `at` down by each of the `RIVALS`, and stay where least time is predicted."""
        start, ends = self.at, []
        for allocation in RIVALS:
            self.at = start
            self.descend(limits, steps, allocation)
            ends.append((self.cost(self.at, ["latency"])["latency"], self.at))
        self.at = min(ends, key=lambda end: end[0])[1]

    def _cut(self, owner: np.ndarray, steps: int) -> np.ndarray:
        top = np.array([len(r) - 1 for r in self.rungs])
        return top - np.bincount(owner[:steps], minlength=len(top))

    def _give_back(self, limits: Mapping[str, float], owner: np.ndarray) -> None:
        """Give back steps that still fit, those that go last first."""
        # When the k-th cut of a class comes in the order: its place in line.
        turns = [np.flatnonzero(owner == c) for c in range(len(self.at))]

        def entry(c: int) -> tuple[int, int]:
            cuts = len(self.rungs[c]) - 1 - self.at[c]
            return (-int(turns[c][cuts - 1]), c)

        heap = [entry(c) for c in range(len(self.at)) if self.at[c] + 1 < len(self.rungs[c])]
        heapq.heapify(heap)
        while heap:
            c = heapq.heappop(heap)[-1]
            self.at[c] += 1
            if not self.fits(self.at, limits):
                self.at[c] -= 1  # and never again: costs only grow from here
            elif self.at[c] + 1 < len(self.rungs[c]):
                heapq.heappush(heap, entry(c))

    def _impossible(self, limits: Mapping[str, float], bottom: np.ndarray) -> OutOfReach:
        least = self.cost(bottom, limits)
        missed = []
        for name, n in least.items():
            if n > limits[name]:
                limit, whole = limits[name], max(self.before[name], 1e-12)
                nearest = repr(in_units(name, n)) if name == "latency" else n
                missed.append(
                    f"{name} {in_units(name, limit) if name == 'latency' else f'{limit:,}'} "
                    f"({limit / whole:.2%}) is below what can be reached. "
                    f"Nearest: {name}={nearest} ({n / whole:.2%})"
                )
        return OutOfReach(
            f"budget out of reach: {'; '.join(missed)}, with every prunable group at its smallest "
            f"width. What is pinned or protected keeps its cost",
            {name: n for name, n in least.items() if n > limits[name]},
        )


def _damage(together: Together, rungs: np.ndarray, curves: Mapping[str, Curve]) -> np.ndarray:
    """The damage at the rung below each step, from the curves of the members; never falling."""
    known = [curves[g.name] for g in together.members if g.name in curves]
    if not known:
        raise PruneError(f"no sensitivity curve for group {together.name!r}")
    shares = rungs[:-1] / together.shares
    damage = np.max([curve.damage_at(shares) for curve in known], axis=0)
    return np.asarray(np.maximum.accumulate(damage[::-1])[::-1])


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
    limits: dict[str, float],
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
