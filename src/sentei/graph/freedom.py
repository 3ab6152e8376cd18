"""Which inner widths may keep other units for each outer index?

Every attention head may lose other channels than its neighbours, as long as all lose as many. A dim
is *free in* an outer dim if the two always travel together: in every parameter it stands behind the
outer dim in the same product, and in every tensor of the captured passes that carries it, the outer
dim is there, too, and only once. Where anything is summed, picked or compared across the outer
dim, a tensor shows up that has the one without the other, and the dim is not free.
"""

from __future__ import annotations

from collections import Counter

from sentei.graph.analysis import Analysis
from sentei.graph.axis import Axis, Concat, Dim, Fixed, Product, dims, resolve

__all__ = ["outers"]


def outers(analysis: Analysis) -> dict[Dim, Dim]:
    """Each dim that is free, with the outer dim it is free in."""
    candidates: dict[Dim, Dim | None] = {}
    for axes in analysis.parameters.values():
        for axis in axes:
            _pairs(resolve(axis), None, candidates)
    pairs = {
        d: h
        for d, h in candidates.items()
        if h is not None and d.pinned is None and h.pinned is None and "normalised" not in d.facts
    }
    if not pairs:
        return {}
    relevant = {*pairs, *pairs.values()}
    checked: dict[tuple[int, ...], list[Axis]] = {}  # alive, for their ids to be theirs
    for axes in analysis.values.values():
        finest: list[Axis] = [axis for axis in map(resolve, axes) if not isinstance(axis, Fixed)]
        key = tuple(map(id, finest))
        if key in checked:
            continue
        checked[key] = finest
        seen = Counter([d for axis in finest for d in dims(axis) if d in relevant])
        if not seen:
            continue
        behind: Counter[Dim] = Counter()
        for axis in finest:
            _behind(axis, pairs, behind)
        for dim in [d for d in pairs if d in seen]:
            outer = pairs[dim]
            together = seen[dim] == behind[dim]  # each time inside a product with its outer dim
            if not together and not (seen[dim] == seen[outer] == 1):
                del pairs[dim]
    return pairs


def _pairs(axis: Axis, outer: Dim | None, found: dict[Dim, Dim | None]) -> None:
    """Note for each dim the one dim before it in every product; None where that varies."""
    if isinstance(axis, Dim):
        known = found.setdefault(axis, outer)
        if known is not outer:
            found[axis] = None
    elif isinstance(axis, Concat):
        for part in axis.parts:
            _pairs(part, None, found)
    elif isinstance(axis, Product):
        first: Dim | None = None
        for part in axis.parts:
            _pairs(part, first, found)
            if isinstance(part, Dim) and first is None:
                first = part


def _behind(axis: Axis, pairs: dict[Dim, Dim], count: Counter[Dim]) -> None:
    if isinstance(axis, Product):
        plain = [p for p in axis.parts if isinstance(p, Dim)]
        for dim in plain:
            if dim in pairs and plain.count(pairs[dim]) == 1:
                count[dim] += 1
    for part in getattr(axis, "parts", ()):
        if not isinstance(part, Dim):
            _behind(part, pairs, count)
