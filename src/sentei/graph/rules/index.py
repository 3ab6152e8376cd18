"""Picking and placing by integer index. What an index counts is pinned; all else passes."""

from __future__ import annotations

from typing import Any

import torch

from sentei.graph.rules.base import Traced, aten, broadcast, data, pin, repeats, rule, same

_WHY = "positions are addressed by an index tensor"


def _broadcast_shape(tensors: list[Traced]) -> list[int]:
    return list(torch.broadcast_shapes(*(t.shape for t in tensors)))


def _is_mask(t: Any) -> bool:
    return isinstance(t, Traced) and t.value.dtype in (torch.bool, torch.uint8)


@rule(aten.index, aten._unsafe_index)
def index(x: Traced, indices: list[Any], *_: Any) -> Any:
    taken: list[int] = []
    plain: list[Traced] = []
    at, masked = 0, 0
    for item in indices:
        if item is None:
            at += 1
            continue
        width = item.ndim if _is_mask(item) else 1
        for d in range(at, at + width):
            pin(x.axes[d], _WHY)
            taken.append(d)
        if _is_mask(item):
            for axis in item.axes:
                pin(axis, _WHY)
            masked += 1
        else:
            plain.append(item)
        at += width
    rest = [i for i in range(x.ndim) if i not in taken]
    if masked:
        middle: list[Any] = [None] if not plain else [None] * max(1, len(_broadcast_shape(plain)))
    else:
        middle = list(broadcast(plain, _broadcast_shape(plain))) if plain else []
    contiguous = (
        bool(taken) and taken == list(range(taken[0], taken[-1] + 1)) and _adjacent(indices)
    )
    lead = [i for i in rest if taken and contiguous and i < taken[0]]
    return [x.axes[i] for i in lead] + middle + [x.axes[i] for i in rest if i not in lead]


def _adjacent(indices: list[Any]) -> bool:
    used = [i for i, item in enumerate(indices) if item is not None]
    return used == list(range(used[0], used[-1] + 1))


@rule(aten.index_put, aten.index_put_, aten._index_put_impl_, aten._unsafe_index_put)
def _(x: Traced, indices: list[Any], values: Traced, *_: Any) -> Any:
    shape = index(x, indices)
    for item in indices:
        for axis in item.axes if item is not None else []:
            pin(axis, "it counts what is written")
    for i in range(1, min(values.ndim, len(shape)) + 1):
        own, axis = values.axes[-i], shape[-i]
        if axis is not None and own.size == axis.size:
            same(axis, own)
    return x.axes


@rule(aten.index_select, aten.take_along_dim)
def _(x: Traced, dim: Any, indices: Any) -> Any:
    if isinstance(dim, Traced):  # take_along_dim(x, indices, dim)
        dim, indices = indices, dim
        return gather(x, dim, indices)
    pin(x.axes[dim], _WHY)
    axes: list[Any] = list(x.axes)
    axes[dim] = indices.axes[0] if indices.ndim else data(1)
    return axes


@rule(aten.gather)
def gather(x: Traced, dim: int, indices: Traced, **_: Any) -> Any:
    _along(x, indices, dim)
    return indices.axes


def _along(x: Traced, indices: Traced, dim: int) -> None:
    if not x.ndim:
        return
    pin(x.axes[dim], _WHY)
    for i, (a, b) in enumerate(zip(x.axes, indices.axes, strict=False)):
        if i == dim % x.ndim:
            continue
        if a.size == b.size:
            same(a, b)
        else:
            pin(a, _WHY)
            pin(b, _WHY)


@rule(aten.scatter, aten.scatter_, aten.scatter_add, aten.scatter_add_, aten.scatter_reduce,
      aten.scatter_reduce_)  # fmt: skip
def _(x: Traced, dim: int, indices: Traced, source: Any = None, *_: Any, **__: Any) -> Any:
    _along(x, indices, dim)
    if indices.ndim:
        pin(indices.axes[dim], "it counts what is written")
    if isinstance(source, Traced) and source.ndim == indices.ndim:
        for a, b in zip(source.axes, indices.axes, strict=True):
            if a.size == b.size:
                same(a, b)
            else:
                pin(a, _WHY)
                pin(b, _WHY)
    return x.axes


@rule(aten.index_add, aten.index_add_, aten.index_copy, aten.index_copy_, aten.index_reduce,
      aten.index_reduce_)  # fmt: skip
def _(x: Traced, dim: int, indices: Traced, source: Traced, *_: Any, **__: Any) -> Any:
    pin(x.axes[dim], _WHY)
    for axis in [*indices.axes, source.axes[dim]]:
        pin(axis, "it counts what is written")
    for i, (a, b) in enumerate(zip(x.axes, source.axes, strict=True)):
        if i != dim % x.ndim:
            same(a, b)
    return x.axes


@rule(aten.index_fill, aten.index_fill_)
def _(x: Traced, dim: int, indices: Traced, *_: Any) -> Any:
    for axis in [x.axes[dim], *indices.axes]:
        pin(axis, _WHY)
    return x.axes


@rule(aten.segment_reduce)
def _(x: Traced, *rest: Any, **options: Any) -> Any:
    counts = [t for t in [*rest, *options.values()] if isinstance(t, Traced)]
    for axis in [x.axes[0], *(a for t in counts for a in t.axes)]:
        pin(axis, "segments are taken along it")
    return [None, *x.axes[1:]]


@rule(aten.masked_scatter, aten.masked_scatter_)
def _(x: Traced, mask: Traced, source: Traced) -> Any:
    """Elements are taken from the source in row-major order, so what it has too many of counts.

    Where the mask repeats itself, whole rows are written: as those of the source are equally
    long, each of its rows fills one.
    """
    whole = 0
    for dim in range(-1, -min(x.ndim, mask.ndim, source.ndim + 1), -1):
        if x.shape[dim] != source.shape[dim] or not repeats(mask, dim):
            break
        whole = -dim
        same(x.axes[dim], source.axes[dim])
        if mask.shape[dim] != 1:
            same(x.axes[dim], mask.axes[dim])
    for tensor in (x, source, mask):
        for axis in tensor.axes[: len(tensor.axes) - whole]:
            pin(axis, "masked_scatter fills in row-major order")
    return x.axes


@rule(aten.masked_select)
def _(x: Traced, mask: Traced) -> Any:
    return None


@rule(aten.nonzero, aten.nonzero_numpy, aten.argwhere, aten.take, aten.unique_dim, aten._unique2,
      aten.bincount, aten.histc, aten.searchsorted, aten.bucketize,
      aten.unique_consecutive)  # fmt: skip
def _(x: Any, *_: Any, **__: Any) -> Any:
    return None


@rule(aten.embedding)
def _(weight: Traced, indices: Traced, *_: Any, **__: Any) -> Any:
    pin(weight.axes[0], "rows are addressed by token number")
    return [*indices.axes, weight.axes[1]]


@rule(aten.embedding_bag, aten._embedding_bag, aten._embedding_bag_forward_only)
def _(weight: Traced, indices: Traced, *rest: Any, **_: Any) -> Any:
    pin(weight.axes[0], "rows are addressed by token number")
    for tensor in [indices, *rest]:
        for axis in tensor.axes if isinstance(tensor, Traced) else []:
            pin(axis, "bags are taken along it")
    return [None, weight.axes[1]], None, None, None


@rule(aten.one_hot)
def _(x: Traced, *_: Any) -> Any:
    return [*x.axes, data(0)]


@rule(aten.bernoulli_, aten.multinomial)
def _(x: Traced, *_: Any, **__: Any) -> Any:
    return None
