"""Where `--round-to N` could not be kept to."""

from __future__ import annotations

from collections.abc import Callable, Collection
from math import prod

from sentei.graph.axis import Axis, Dim, Product, dims, resolve, width
from sentei.pruning import Result

__all__ = ["unrounded", "unrounded_words"]


def unrounded(result: Result, multiple: int | str | None) -> list[str]:
    """The groups that lost units and whose width is now no multiple of this.

    Those are narrower than the multiple, or tied to groups that are. A width counts what it is
    multiplied with: 3 heads of 64 channels are 192 wide. With "auto" every group has a multiple
    that fits it, and None asks for none: then the list is empty.
    """
    if not isinstance(multiple, int):
        return []
    groups, widths = result.groups, result.plan.widths

    def kept(dim: Dim) -> int:
        group = groups.by_dim.get(dim)
        return dim.size if group is None else widths.get(group.name, dim.size)

    def wide(name: str) -> int:
        group = groups[name]
        return max(_around(resolve(s.axis), group.dim, kept) for s in group.slices)

    return [name for name in widths if wide(name) % multiple]


def _around(axis: Axis, dim: Dim, kept: Callable[[Dim], int]) -> int:
    """The width of the widest product in an axis that `dim` is part of; 0 where it is in none."""
    if axis is dim:
        return kept(dim)
    if isinstance(axis, Product):
        return prod(width(part, kept) for part in axis.parts) if dim in dims(axis) else 0
    return max((_around(resolve(p), dim, kept) for p in getattr(axis, "parts", ())), default=0)


def unrounded_words(names: Collection[str], cut: int, multiple: int) -> str:
    """
    >>> unrounded_words(["fc1", "fc2"], 5, 64)
    '--round-to 64 had no effect on 2 of the 5 groups that lost units, too narrow for it: fc1, fc2'
    """
    shown = [*names][:3]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return (
        f"--round-to {multiple} had no effect on {len(names)} of the {cut} groups that lost units, "
        f"too narrow for it: {', '.join(shown)}{more}"
    )
