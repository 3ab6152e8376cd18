"""Which groups may move, and which of them move together."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from math import gcd, lcm, prod

from sentei.graph.axis import Axis, Dim, Product, dims, resolve
from sentei.graph.errors import PruneError, closest
from sentei.graph.groups import Group, Groups

__all__ = ["GRANULARITIES", "Together", "movable", "role", "togethers"]

GRANULARITIES = ("auto", "blocks", "width", "both")
# With fewer blocks than this, one block is more than a quarter of the width: too coarse a step.
_ENOUGH_BLOCKS = 4


@dataclass(frozen=True, eq=False)
class Together:
    """Groups that keep one and the same share: `k` of `shares`, `k * size // shares` units each."""

    members: tuple[Group, ...]

    @property
    def shares(self) -> int:
        return gcd(*(g.size // g.step for g in self.members))

    @property
    def name(self) -> str:
        return self.members[0].name


def role(name: str) -> str:
    """What a group is for, whichever layer it is in: its name without the numbers.

    >>> role("encoder.layer.11.mlp.fc1")
    'encoder.layer.*.mlp.fc*'
    >>> role("layers.3.self_attn.q_proj/1")  # the second dim of that dimension: not a layer
    'layers.*.self_attn.q_proj/1'
    """
    return re.sub(r"^[^/\[]*", lambda module: re.sub(r"\d+", "*", module[0]), name)


def movable(
    groups: Groups, granularity: str = "auto", hold: Iterable[str] = ()
) -> list[list[Group]]:
    """Groups to decide on, in lists that are decided together.

    Where groups are nested in one dimension (heads and the width of each head, the groups of a
    convolution and the channels of each), removing from all of them would remove a share of a
    share, and the dimension would keep w² where w was asked for. So one of them moves:

    - "blocks": the outermost, such as whole heads;
    - "width": the innermost, such as some channels of every head;
    - "auto": the outermost that has at least four units, else the one with the most;
    - "both": all of them.

    A group that is tied to one that moves moves too.

    Args:
        hold: names of groups to leave whole.
    Raises:
        PruneError: nothing can be removed; says why.
    """
    if granularity not in GRANULARITIES:
        raise PruneError(
            f"unknown granularity {granularity!r}; {closest(str(granularity), GRANULARITIES)}"
        )
    classes = groups.classes()
    held = set(hold)
    classes = [c for c in classes if not any(g.name in held for g in c)]
    if not classes:
        raise PruneError(_nothing(groups, held))
    if granularity == "both":
        return classes
    resting = _resting(groups, granularity, {g.dim for c in classes for g in c})
    return [c for c in classes if not all(g.dim in resting for g in c)]


def _resting(groups: Groups, granularity: str, free: set[Dim]) -> set[Dim]:
    """Of nested dims, those that stay whole."""
    moving: set[Dim] = set()
    resting: set[Dim] = set()
    # A dim that is tied to something outside cannot rest without holding that as well.
    tied = {g.dim for g in groups.values() if g.tied}
    nests: dict[tuple[Dim, ...], None] = {}
    for axes in groups.analysis.parameters.values():
        for axis in axes:
            for nest in _nests(resolve(axis)):
                nest = tuple(d for d in nest if d in free)
                if len(nest) > 1:
                    nests[nest] = None
    for nest in sorted(nests, key=lambda n: not any(d in tied for d in n)):
        chosen = [d for d in nest if d in moving]
        if not chosen:
            options = [d for d in nest if d not in resting] or list(nest)
            chosen = [_choice([d for d in options if d in tied] or options, granularity)]
        moving.update(chosen)
        resting.update(d for d in nest if d not in chosen)
    return resting - moving


def _choice(nest: list[Dim], granularity: str) -> Dim:
    if granularity == "blocks":
        return nest[0]
    if granularity == "width":
        return nest[-1]
    return next((d for d in nest if d.size >= _ENOUGH_BLOCKS), max(nest, key=lambda d: d.size))


def _nests(axis: Axis) -> Iterable[tuple[Dim, ...]]:
    """The dims of each product, outermost first."""
    if isinstance(axis, Product):
        yield tuple(p for p in axis.parts if isinstance(p, Dim))
    for part in getattr(axis, "parts", ()):
        yield from _nests(part)


def togethers(classes: Iterable[list[Group]], uniform: bool) -> list[Together]:
    """One `Together` for each class; with `uniform`, for each role and size across layers."""
    classes = list(classes)
    if not uniform:
        return [Together(tuple(members)) for members in classes]
    parent = list(range(len(classes)))

    def find(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    first: dict[tuple[str, str, int], int] = {}
    for i, members in enumerate(classes):
        for group in members:
            known = find(first.setdefault((role(group.name), group.kind, group.size), i))
            a, b = sorted((known, find(i)))
            parent[b] = a
    merged: dict[int, list[Group]] = {}
    for i, members in enumerate(classes):
        merged.setdefault(find(i), []).extend(members)
    return [Together(tuple(members)) for members in merged.values()]


def granule(together: Together, moving: set[Dim], multiple: int) -> int:
    """Shares to move at once, so that every whole width stays a multiple of `multiple`.

    The whole width of a group counts what surrounds it in its widest dimension: removing heads of
    64 channels leaves multiples of 64. What does not have so many positions is not rounded.
    """
    need = 1
    for group in together.members:
        step = group.size // together.shares
        around = max(_around(resolve(s.axis), group.dim, moving) for s in group.slices)
        if group.size * around >= multiple:
            need = lcm(need, multiple // gcd(multiple, step * around))
    return need if need <= together.shares else 1


def _around(axis: Axis, dim: Dim, moving: set[Dim]) -> int:
    """Positions a unit of `dim` has in the product it is part of, counting only what stays."""
    if isinstance(axis, Product):
        rest = [p for p in axis.parts if p is not dim]
        if len(rest) < len(axis.parts):
            return prod(p.size for p in rest if not any(d in moving for d in dims(p)))
    return max((_around(part, dim, moving) for part in getattr(axis, "parts", ())), default=1)


def _nothing(groups: Groups, held: set[str]) -> str:
    if held and len(groups):
        return (
            f"nothing left to prune: all {len(groups)} groups are held. "
            f"Held: {', '.join(sorted(held)[:5])}"
        )
    reasons = Counter(g.pinned for g in groups.pinned.values())
    if not reasons:
        return "nothing to prune: the model has no parameters with units"
    top = "; ".join(f"{why} ({n})" for why, n in reasons.most_common(3))
    return f"nothing to prune: all {len(groups.pinned)} groups are pinned. Reasons: {top}"
