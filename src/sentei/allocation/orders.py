"""In what order units go: the allocations.

Each is a function from the steps that a planner may take to sort keys, ascending: what goes first.

- "global": by value, the mean over the step's units of their scores, each group's scores made
  comparable first (by default divided by their mean, so an average unit is worth 1 everywhere).
- "isomorphic": as global, but only groups of equal structure compete with each other; all such
  sets lose the same share of their units.
- "sensitivity": by the damage that was measured when the group alone was cut so far, so that all
  groups are predicted to do equal damage.
- "local": by share, so that all groups keep the same share, up to the step that was given back.
- "uniform": as local, and nothing is given back: groups of equal size keep equal numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from sentei.allocation.movable import Together
from sentei.graph.groups import Group, Groups
from sentei.graph.tape import Value, flatten

__all__ = ["ALLOCATIONS", "ORDERS", "Steps", "structures"]

Keys = tuple[np.ndarray, ...]


@dataclass(frozen=True, eq=False)
class Steps:
    """Steps down, as columns of one table; a class is a set of groups that move together.

    owner: the class. place: how far from the top, within the class; the top has the largest.
    worth: value of a unit that the step removes. share: what the class keeps before the step.
    units: how many it removes. damage: measured, with the class alone at the width below.
    structure: which structure each *class* has, by number. sizes: units of each class.
    """

    owner: np.ndarray
    place: np.ndarray
    worth: np.ndarray
    share: np.ndarray
    units: np.ndarray
    damage: np.ndarray
    structure: np.ndarray
    sizes: np.ndarray


def by_value(steps: Steps) -> Keys:
    return (steps.worth,)


def by_share(steps: Steps) -> Keys:
    return (-steps.share, steps.worth)


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
    kinds = steps.structure[steps.owner]
    for kind in np.unique(kinds):
        chosen = order[kinds[order] == kind]
        total = steps.sizes[steps.structure == kind].sum()
        quantile[chosen] = steps.units[chosen].cumsum() / total
    return (quantile, steps.worth)


ORDERS: dict[str, Callable[[Steps], Keys]] = {
    "global": by_value,
    "isomorphic": by_quantile,
    "local": by_share,
    "sensitivity": by_damage,
    "uniform": by_share,
}
ALLOCATIONS = tuple(ORDERS)


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
