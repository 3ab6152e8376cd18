"""In what order units go: the allocations.

Each is a function from the steps that a planner may take to sort keys, ascending: what goes first.

- "global": by value, the mean over the step's units of their scores, each group's scores made
  comparable first if asked for (`sentei.allocation.normalise`).
- "isomorphic": as global, but only groups of equal structure compete with each other; all such
  sets lose the same share of their units.
- "knapsack": by value for each unit of cost that the step saves: predicted seconds where latency is
  known, else what the target bounds. The greedy answer to a knapsack. It keeps least accuracy of
  all where scores are divided by their mean first (`benchmarks/allocation.py`).
- "sensitivity": by the damage that was measured when the group alone was cut so far, so that all
  groups are predicted to do equal damage.
- "local": by share, so that all groups keep the same share, up to the step that was given back.
- "uniform": as local, and nothing is given back: groups of equal size keep equal numbers.
- "fastest": of those in `RIVALS` the one whose plan is predicted to take the least time. For
  budgets in parameters or multiply-adds that are there to save time: plans of equal cost differ.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from sentei.allocation.movable import Together
from sentei.graph.groups import Group, Groups
from sentei.graph.tape import Value, flatten

__all__ = ["ALLOCATIONS", "ORDERS", "RIVALS", "Steps", "structures"]

Keys = tuple[np.ndarray, ...]


@dataclass(frozen=True, eq=False)
class Steps:
    """Steps down, as columns of one table; a class is a set of groups that move together.

    owner: the class. place: how far from the top, within the class; the top has the largest.
    worth: value of a unit that the step removes. share: what the class keeps before the step.
    units: how many it removes. damage: measured, with the class alone at the width below.
    sizes: units of each class. What few orders need is computed when asked for, one number for
    each class: saved(): cost saved by a unit, as a share of the whole. structure(): which structure
    it has, by number.
    """

    owner: np.ndarray
    place: np.ndarray
    worth: np.ndarray
    share: np.ndarray
    units: np.ndarray
    damage: np.ndarray
    sizes: np.ndarray
    saved: Callable[[], np.ndarray]
    structure: Callable[[], np.ndarray]


def by_value(steps: Steps) -> Keys:
    return (steps.worth,)


def by_share(steps: Steps) -> Keys:
    return (-steps.share, steps.worth)


def by_value_for_cost(steps: Steps) -> Keys:
    """Worth over cost saved. Source: Shen et al. 2022, arXiv:2110.10811 (HALP), eq. 4, greedily."""
    # Negative worth (normalised scores may be) goes before all else, whatever it saves.
    rate = np.maximum(steps.saved()[steps.owner], 1e-300)
    return (np.where(steps.worth > 0, steps.worth / rate, steps.worth),)


def by_damage(steps: Steps) -> Keys:
    return (steps.damage, -steps.share, steps.worth)


def by_quantile(steps: Steps) -> Keys:
    """The share of its kind's units that is gone after the step, kind by kind ranked by value.

    Source: Fang et al. 2024, arXiv:2407.04616: groups with isomorphic sub-graphs are ranked
    together and lose a common ratio. A graph here is the multiset of operators, operands and
    dimensions that the units run through.
    """
    quantile = np.zeros(len(steps.owner))
    order = np.lexsort((steps.place, steps.owner, steps.worth))
    structure = steps.structure()
    kinds = structure[steps.owner]
    for kind in np.unique(kinds):
        chosen = order[kinds[order] == kind]
        total = steps.sizes[structure == kind].sum()
        quantile[chosen] = steps.units[chosen].cumsum() / total
    return (quantile, steps.worth)


ORDERS: dict[str, Callable[[Steps], Keys]] = {
    "global": by_value,
    "isomorphic": by_quantile,
    "knapsack": by_value_for_cost,
    "local": by_share,
    "sensitivity": by_damage,
    "uniform": by_share,
}
RIVALS = ("global", "isomorphic", "knapsack", "local")
ALLOCATIONS = (*ORDERS, "fastest")


def structures(groups: Groups, moving: Iterable[Together]) -> list[int]:
    """A number for each class; equal numbers run through the same operators in the same places.

    >>> import torch
    >>> from sentei.graph.groups import analyze
    >>> net = torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(4)))
    >>> groups = analyze(net, torch.zeros(1, 4))
    >>> structures(groups, [Together((g,)) for g in groups.values()])
    [0, 0, 0]
    """
    uses: dict[str, Counter[tuple[str, int]]] = {}
    for node in groups.analysis.tapes[0].nodes:
        for place, argument in enumerate(node.args):
            for value in flatten(argument):
                if isinstance(value, Value) and value.name and value.origin != "input":
                    uses.setdefault(value.name, Counter())[node.name, place] += 1

    def structure(group: Group) -> tuple[object, ...]:
        through = Counter(
            (tuple(sorted(uses.get(s.parameter, Counter()).items())), s.dim) for s in group.slices
        )
        return (group.kind, *sorted(through.items()))

    numbers: dict[object, int] = {}
    return [
        numbers.setdefault(frozenset(structure(g) for g in together.members), len(numbers))
        for together in moving
    ]
