"""Kept positions that differ from row to row of a tensor.

A dim that keeps other units for each outer index may stand in another dimension of a tensor than
its outer dim, which then is in dimension 0 (see `sentei.graph.freedom`): the inputs of a grouped
convolution, `weight[groups · outputs, inputs, ...]`. What is kept along such a dimension is a
matrix of positions. Its rows stand for equal shares of what is kept of dimension 0, in order; a
vector stands for all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import gcd, lcm

import torch
from torch import Tensor

from sentei.graph.axis import Axis, Dim, beside, dims, mask, resolve, units

__all__ = ["chosen", "compact", "kept_along", "remaining", "take"]


def kept_along(axes: Sequence[Axis], at: int, keep: Callable[[Dim], Tensor]) -> Tensor:
    """Positions that remain of dimension `at` of a tensor with these axes.

    Args:
        keep: as for `mask`.
    Returns:
        a vector, or a matrix where they differ from row to row.

    >>> groups, outputs, inputs = Dim(2), Dim(3), Dim(4)
    >>> inputs.outer = groups
    >>> each = torch.tensor([[True, True, False, False], [False, True, False, True]])
    >>> kept = {inputs: each, groups: torch.ones(2, dtype=torch.bool)}
    >>> kept_along([groups, inputs], 1, kept.__getitem__).tolist()
    [[0, 1], [1, 3]]
    """
    axis = resolve(axes[at])
    apart = [d for d in dict.fromkeys(dims(axis)) if keep(d).dim() == 2 and not beside(axis, d)]
    if not apart:
        return mask(axis, keep).nonzero().flatten()
    first = resolve(axes[0])
    stay = mask(first, keep)
    outer = torch.stack([units(first, d.outer) for d in apart if d.outer is not None], 1)[stay]
    distinct, index = outer.unique(dim=0, return_inverse=True)
    table = []
    for numbers in distinct.tolist():
        own = {d: keep(d)[n] for d, n in zip(apart, numbers, strict=True)}
        table.append(mask(axis, partial(_of_row, own, keep)))
    return compact(torch.stack([row.nonzero().flatten() for row in table])[index])


def _of_row(own: Mapping[Dim, Tensor], keep: Callable[[Dim], Tensor], dim: Dim) -> Tensor:
    return own[dim] if dim in own else keep(dim)


def compact(rows: Tensor) -> Tensor:
    """The fewest rows that stand for equal shares; a vector where one would do.

    >>> compact(torch.tensor([[0, 1], [0, 1], [1, 2], [1, 2]])).tolist()
    [[0, 1], [1, 2]]
    >>> compact(torch.tensor([[0, 1], [0, 1]])).tolist()
    [0, 1]
    """
    changes = (rows[1:] != rows[:-1]).any(1).nonzero().flatten() + 1
    share = gcd(len(rows), *changes.tolist())
    return rows[0] if share == len(rows) else rows[::share].contiguous()


def take(tensor: Tensor, positions: Mapping[int, Tensor]) -> Tensor:
    """The kept positions of some dimensions, `{dimension: vector or matrix}`.

    >>> table = torch.arange(8).view(4, 2)
    >>> take(table, {0: torch.tensor([0, 1, 3]), 1: torch.tensor([[0], [1], [1]])}).tolist()
    [[0], [3], [7]]
    """
    for dim in sorted(positions):  # dimension 0 first: rows are those that are left of it
        kept = positions[dim].to("meta" if tensor.is_meta else tensor.device)
        if kept.dim() == 1:
            tensor = tensor.index_select(dim, kept)
            continue
        shares = tensor.unflatten(0, (len(kept), -1))
        shape = [len(kept)] + [1] * (shares.dim() - 1)
        shape[dim + 1] = -1
        tensor = torch.take_along_dim(shares, kept.view(shape), dim + 1).flatten(0, 1)
    return tensor.contiguous()


def remaining(rows: Tensor, size: int, stay: Tensor) -> Tensor:
    """What is kept by row when of the `size` positions that dimension 0 had, some stay.

    >>> remaining(torch.tensor([[0], [2]]), 4, torch.tensor([0, 2, 3])).tolist()
    [[0], [2], [2]]
    """
    return compact(rows.repeat_interleave(size // len(rows), 0)[stay])


def chosen(before: Tensor, after: Tensor) -> Tensor:
    """Kept positions `after` of what was kept `before`, numbered as `before` is.

    >>> chosen(torch.tensor([[0, 2], [1, 3]]), torch.tensor([1])).tolist()
    [[2], [3]]
    >>> chosen(torch.tensor([4, 5, 6]), torch.tensor([[0], [2]])).tolist()
    [[4], [6]]
    """
    if before.dim() == 1:
        return before[after]
    if after.dim() == 1:
        return compact(before[:, after])
    count = lcm(len(before), len(after))
    before, after = (t.repeat_interleave(count // len(t), 0) for t in (before, after))
    return compact(before.gather(1, after))
