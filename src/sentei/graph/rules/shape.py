"""Operators that rearrange elements."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from sentei.graph.axis import concat
from sentei.graph.rules.base import (
    Traced,
    aten,
    broadcast,
    copies,
    cut,
    data,
    factor,
    free,
    need,
    pin,
    product,
    regroup,
    resolve,
    rule,
    same,
    split,
    tie,
)  # fmt: skip


def _sizes(sizes: Any) -> list[Any]:
    return list(sizes) if isinstance(sizes, (list, tuple)) else [sizes]


@rule(aten.view, aten.reshape, aten._unsafe_view, aten._reshape_alias)
def reshape(x: Traced, sizes: Any, *_: Any) -> Any:
    if not isinstance(sizes, (list, tuple)):  # view(dtype)
        return None
    known, total = 1, 1
    for n in x.shape:
        total *= n
    for n in sizes:
        known *= n if n != -1 else 1
    shape = [int(n) if n != -1 else total // max(known, 1) for n in sizes]
    out = regroup(x.axes, shape)
    for size, axis in zip(sizes, out, strict=True):
        if size != -1:
            need(size, axis)
    return out


@rule(aten.view_as, aten.reshape_as)
def _(x: Traced, other: Traced) -> Any:
    out = regroup(x.axes, other.shape)
    for a, b in zip(out, other.axes, strict=True):
        tie(a, b, "reshaped to the size of another tensor")
    return out


@rule(aten.unflatten)
def _(x: Traced, dim: int, sizes: Any) -> Any:
    dim %= x.ndim
    total, known = x.shape[dim], 1
    for n in sizes:
        known *= n if n != -1 else 1
    shape = [int(n) if n != -1 else total // known for n in sizes]
    inner = regroup([x.axes[dim]], shape)
    for size, axis in zip(sizes, inner, strict=True):
        if size != -1:
            need(size, axis)
    return [*x.axes[:dim], *inner, *x.axes[dim + 1 :]]


@rule(aten.flatten, aten.ravel)
def _(x: Traced, start: int = 0, end: int = -1) -> Any:
    if x.ndim == 0:
        return [data(1)]
    start, end = start % x.ndim, end % x.ndim
    middle = product([resolve(a) for a in x.axes[start : end + 1]])
    return [*x.axes[:start], middle, *x.axes[end + 1 :]]


@rule(aten.squeeze, aten.squeeze_)
def _(x: Traced, dim: Any = None) -> Any:
    if dim is None:
        return [a for a in x.axes if a.size != 1]
    drop = {d % max(x.ndim, 1) for d in _sizes(dim)}
    for i in drop & set(range(x.ndim)):
        pin(x.axes[i], "squeezed by name: one unit left would make it vanish")
    return [a for i, a in enumerate(x.axes) if i not in drop or a.size != 1]


@rule(aten.unsqueeze, aten.unsqueeze_)
def _(x: Traced, dim: int) -> Any:
    axes = list(x.axes)
    axes.insert(dim % (x.ndim + 1), data(1))
    return axes


@rule(aten.permute)
def _(x: Traced, dims: list[int]) -> Any:
    return [x.axes[d] for d in dims]


@rule(
    aten.transpose, aten.transpose_, aten.swapaxes, aten.swapaxes_, aten.swapdims, aten.swapdims_,
)  # fmt: skip
def _(x: Traced, a: int, b: int) -> Any:
    axes = list(x.axes)
    if axes:
        axes[a], axes[b] = axes[b], axes[a]
    return axes


@rule(aten.numpy_T)
def _(x: Traced) -> Any:
    return x.axes[::-1]


@rule(aten.t, aten.t_, aten.mT, aten.mH, aten.adjoint, aten.matrix_H)
def _(x: Traced) -> Any:
    return [*x.axes[:-2], *reversed(x.axes[-2:])]


@rule(aten.movedim, aten.moveaxis)
def _(x: Traced, source: Any, destination: Any) -> Any:
    sources = [d % x.ndim for d in _sizes(source)]
    targets = [d % x.ndim for d in _sizes(destination)]
    rest = [i for i in range(x.ndim) if i not in sources]
    order: list[int] = [-1] * x.ndim
    for s, t in zip(sources, targets, strict=True):
        order[t] = s
    return [x.axes[i if i >= 0 else rest.pop(0)] for i in order]


@rule(aten.expand, aten.broadcast_to)
def expand(x: Traced, sizes: Any, **_: Any) -> Any:
    lead = len(sizes) - x.ndim
    out: list[Any] = []
    for i, size in enumerate(sizes):
        own = x.axes[i - lead] if i >= lead else data(1)
        if size == -1 or own.size == size:
            out.append(own)
            if size != -1:
                need(size, own)
        else:
            axis = free(size)  # copies of one value: any of them may go
            copies(i - len(sizes))
            need(size, axis)
            out.append(axis)
    return out


@rule(aten.expand_as)
def _(x: Traced, other: Traced) -> Any:
    lead = other.ndim - x.ndim
    out: list[Any] = []
    for i, axis in enumerate(other.axes):
        own = x.axes[i - lead] if i >= lead else data(1)
        if own.size == axis.size:
            tie(own, axis, "expanded to the size of another tensor")
            out.append(own)
        else:
            copies(i - other.ndim)
            out.append(axis)
    return out


@rule(aten.repeat, aten.tile)
def _(x: Traced, repeats: Any) -> Any:
    repeats = [1] * (x.ndim - len(repeats)) + list(repeats)
    lead = len(repeats) - x.ndim
    out: list[Any] = []
    for i, times in enumerate(repeats):
        own = x.axes[i - lead] if i >= lead else data(1)
        outer = free(times)
        need(times, outer)
        out.append(product([outer, resolve(own)]) if times > 1 else own)
    return out


@rule(aten.repeat_interleave)
def _(x: Traced, repeats: Any = None, dim: Any = None, **_: Any) -> Any:
    if not isinstance(repeats, int) or dim is None:
        if isinstance(repeats, Traced) and dim is not None:
            for axis in [x.axes[dim], *repeats.axes]:
                pin(axis, "positions are repeated by count")
            return _replaced(x, dim, None)
        for axis in x.axes:
            pin(axis, "repeat_interleave flattens it")
        return [None]
    axes = list(x.axes)
    inner = free(repeats)
    need(repeats, inner)
    axes[dim] = product([resolve(axes[dim]), inner])
    return axes


@rule(aten.cat, aten.concat, aten.concatenate)
def cat(tensors: list[Traced], dim: int = 0) -> Any:
    parts = [t for t in tensors if not (t.ndim == 1 and t.shape[0] == 0)] or tensors
    first = parts[0]
    dim %= max(first.ndim, 1)
    out = list(first.axes)
    for other in parts[1:]:
        for i, (a, b) in enumerate(zip(first.axes, other.axes, strict=True)):
            if i != dim:
                same(a, b)
    out[dim] = concat([resolve(t.axes[dim]) for t in parts])
    return out


def _widened(t: Traced, axes: list[Any]) -> Traced:
    """The tensor with dimensions of size one added."""
    return Traced(replace(t.value, shape=tuple(a.size for a in axes)), axes)


@rule(aten.hstack)
def _(tensors: list[Traced]) -> Any:
    tensors = [_widened(t, t.axes or [data(1)]) for t in tensors]
    return cat(tensors, 0 if tensors[0].ndim == 1 else 1)


@rule(aten.vstack)
def _(tensors: list[Traced]) -> Any:
    return cat([_widened(t, [data(1)] * (2 - t.ndim) + t.axes) for t in tensors], 0)


@rule(aten.dstack)
def _(tensors: list[Traced]) -> Any:
    planes = [t.axes if t.ndim > 1 else [data(1), *(t.axes or [data(1)])] for t in tensors]
    deep = [[*axes, data(1)] if len(axes) == 2 else axes for axes in planes]
    return cat([_widened(t, axes) for t, axes in zip(tensors, deep, strict=True)], 2)


@rule(aten.column_stack)
def _(tensors: list[Traced]) -> Any:
    columns = [t.axes if t.ndim > 1 else [*(t.axes or [data(1)]), data(1)] for t in tensors]
    return cat([_widened(t, axes) for t, axes in zip(tensors, columns, strict=True)], 1)


@rule(aten.stack)
def _(tensors: list[Traced], dim: int = 0) -> Any:
    first = tensors[0]
    for other in tensors[1:]:
        for a, b in zip(first.axes, other.axes, strict=True):
            same(a, b)
    out = list(first.axes)
    out.insert(dim % (first.ndim + 1), data(len(tensors), "stacked tensors"))
    return out


@rule(aten.pad_sequence)
def _(
    sequences: list[Traced], batch_first: bool = False, padding_value: float = 0.0, *_: Any
) -> Any:
    rest = sequences[0].axes[1:]
    for other in sequences:
        pin(other.axes[0], "sequences are padded to the longest")
        for a, b in zip(rest, other.axes[1:], strict=True):
            same(a, b)
    return (
        [data(len(sequences)), None, *rest] if batch_first else [None, data(len(sequences)), *rest]
    )


@rule(aten.split_with_sizes, aten.unsafe_split_with_sizes, aten.split_with_sizes_copy)
def split_with_sizes(x: Traced, sizes: list[Any], dim: int = 0) -> Any:
    pieces = split(x.axes[dim], sizes)
    for size, piece in zip(sizes, pieces, strict=True):
        need(size, piece)
    return tuple(_replaced(x, dim, piece) for piece in pieces)


@rule(aten.split, aten.unsafe_split)
def _(x: Traced, size: Any, dim: int = 0) -> Any:
    if isinstance(size, (list, tuple)):
        return split_with_sizes(x, list(size), dim)
    n = x.shape[dim]
    sizes = [int(size)] * (n // int(size)) + ([n % int(size)] if n % int(size) else [])
    pieces = split(x.axes[dim], sizes)
    if n % int(size) and len(pieces) > 1:
        for piece in pieces:
            pin(piece, "pieces of unequal size")
    elif len(pieces) > 1:
        for piece in pieces:
            need(size, piece)
    return tuple(_replaced(x, dim, piece) for piece in pieces)


@rule(aten.tensor_split)
def _(x: Traced, sections: Any, dim: int = 0) -> Any:
    if not isinstance(sections, int):
        return None
    n, k = x.shape[dim], int(sections)
    pieces = split(x.axes[dim], [n // k + (i < n % k) for i in range(k)])
    for piece in pieces:
        if n % k:
            pin(piece, "pieces of unequal size")
        elif piece is not pieces[0]:
            tie(pieces[0], piece, "tensor_split gives equal pieces")
    return tuple(_replaced(x, dim, piece) for piece in pieces)


@rule(aten.chunk, aten.unsafe_chunk)
def _(x: Traced, chunks: Any, dim: int = 0) -> Any:
    if not isinstance(chunks, int):
        return None
    n = x.shape[dim]
    step = -(-n // int(chunks))
    sizes = [step] * (n // step) + ([n % step] if n % step else [])
    pieces = split(x.axes[dim], sizes)
    if n % step:
        for piece in pieces:
            pin(piece, "chunks of unequal size")
    for piece in pieces[1:]:
        tie(pieces[0], piece, "chunk gives equal pieces")
    return tuple(_replaced(x, dim, piece) for piece in pieces)


@rule(aten.narrow, aten.narrow_copy)
def _(x: Traced, dim: int, start: Any, length: Any) -> Any:
    if isinstance(start, Traced):
        return None
    n, axis = x.shape[dim], x.axes[dim]
    first = int(start) % n if n else 0
    left, rest = cut(axis, first)
    middle, right = cut(rest, int(length))
    if first:
        need(start if start > 0 else -start, left if start > 0 else concat([middle, right]))
    need(length, middle)
    return _replaced(x, dim, resolve(middle))


@rule(aten.slice, aten.slice_copy)
def _(x: Traced, dim: int = 0, start: Any = None, end: Any = None, step: Any = 1) -> Any:
    n = x.shape[dim]
    axis = x.axes[dim]
    first = 0 if start is None else min(max(start + n if start < 0 else start, 0), n)
    last = n if end is None else min(max(end + n if end < 0 else end, first), n)
    if first == 0 and last == n and step == 1:
        if end is not None and 0 < end <= n:
            need(end, axis)
        return x.axes
    if step != 1:
        if 0 <= first < step and last == n and n % step == 0:
            # One of each run of `step`: of pairs the first, say, as interleaved rotations do.
            runs, within = factor(axis, n // step)
            pin(within, "a slice takes every other position")
            return _replaced(x, dim, resolve(runs))
        pin(axis, "a slice takes every other position")
        return _replaced(x, dim, None)
    left, rest = cut(axis, first)
    middle, right = cut(rest, last - first)
    # What stands before and after must stay countable for the code's own numbers to be right.
    if start is not None and start != 0:
        need(start if start > 0 else -start, left if start > 0 else concat([middle, right]))
    if end is not None and last < n:
        need(end if end >= 0 else -end, concat([left, middle]) if end >= 0 else right)
    return _replaced(x, dim, resolve(middle))


@rule(aten.select, aten.select_copy)
def _(x: Traced, dim: int, index: int) -> Any:
    pin(x.axes[dim], "one position is picked by number")
    return [a for i, a in enumerate(x.axes) if i != dim % x.ndim]


@rule(aten.unbind, aten.unbind_copy)
def _(x: Traced, dim: int = 0) -> Any:
    pin(x.axes[dim], "positions are taken apart one by one")
    rest = [a for i, a in enumerate(x.axes) if i != dim % x.ndim]
    return tuple(list(rest) for _ in range(x.shape[dim]))


@rule(aten.pad, aten.constant_pad_nd)
def _(x: Traced, pads: list[Any], mode: Any = "constant", value: Any = None) -> Any:
    axes: list[Any] = list(x.axes)
    if isinstance(mode, str) and mode != "constant":
        return _other_pad(x, pads)
    for i in range(len(pads) // 2):
        at = x.ndim - 1 - i
        before, after = pads[2 * i], pads[2 * i + 1]
        if before == 0 and after == 0:
            continue
        if before < 0 or after < 0:
            pin(axes[at], "cropped by negative padding")
            axes[at] = None
            continue
        left = _padding(before, value)
        right = _padding(after, value)
        axes[at] = concat([left, resolve(axes[at]), right])
    return axes


def _padding(size: Any, value: Any) -> Any:
    axis = free(int(size)) if size else data(0)
    if size:
        need(size, axis)
    return axis


@rule(
    aten.reflection_pad1d, aten.reflection_pad2d, aten.reflection_pad3d,
    aten.replication_pad1d, aten.replication_pad2d, aten.replication_pad3d, aten._pad_circular,
)  # fmt: skip
def _other_pad(x: Traced, pads: list[Any], *_: Any) -> Any:
    axes: list[Any] = list(x.axes)
    for i in range(len(pads) // 2):
        if pads[2 * i] or pads[2 * i + 1]:
            pin(axes[-1 - i], "padded with its own positions")
            axes[-1 - i] = None
    return axes


@rule(aten.fliplr)
def _(x: Traced) -> Any:
    pin(x.axes[1], "flip reverses positions")
    return x.axes


@rule(aten.flip, aten.flipud)
def _(x: Traced, dims: Any = (0,)) -> Any:
    for d in dims:
        pin(x.axes[d], "flip reverses positions")
    return x.axes


@rule(aten.roll)
def _(x: Traced, shifts: Any, dims: Any = ()) -> Any:
    for i in _sizes(dims) or range(x.ndim):
        pin(x.axes[i], "roll shifts positions")
    return x.axes


@rule(aten.rot90)
def _(x: Traced, k: int = 1, dims: Any = (0, 1)) -> Any:
    axes: list[Any] = list(x.axes)
    for d in dims:
        pin(axes[d], "rot90 turns positions")
        axes[d] = None
    return axes


@rule(aten.tril, aten.triu)
def _(x: Traced, *_: Any) -> Any:
    for d in (-1, -2):
        pin(x.axes[d], "a triangle is taken by position")
    return x.axes


@rule(aten.diagonal, aten.diag, aten.diag_embed, aten.linalg_diagonal)
def _(x: Traced, *_: Any, **__: Any) -> Any:
    return None


@rule(aten.channel_shuffle, aten.native_channel_shuffle)
def _(x: Traced, groups: Any) -> Any:
    outer, inner = factor(x.axes[1], groups)
    need(groups, outer)
    return [x.axes[0], product([resolve(inner), resolve(outer)]), *x.axes[2:]]


@rule(aten.pixel_shuffle)
def _(x: Traced, r: int) -> Any:
    channels, inner = factor(x.axes[-3], x.shape[-3] // (r * r))
    for axis in [inner, *x.axes[-2:]]:
        pin(axis, "pixel_shuffle moves channels into space")
    return [*x.axes[:-3], channels, None, None]


@rule(aten.pixel_unshuffle)
def _(x: Traced, r: int) -> Any:
    pin(x.axes[-1], "pixel_unshuffle moves it into channels")
    pin(x.axes[-2], "pixel_unshuffle moves it into channels")
    block = data(r * r, "pixel_unshuffle moves space into channels")
    return [*x.axes[:-3], product([resolve(x.axes[-3]), block]), None, None]


@rule(aten.unfold)
def _(x: Traced, dim: int, size: int, step: int) -> Any:
    pin(x.axes[dim], "windows are taken along it")
    axes: list[Any] = list(x.axes)
    axes[dim] = None
    return [*axes, None]


@rule(aten.im2col)
def _(x: Traced, kernel: list[int], *_: Any) -> Any:
    window = data(kernel[0] * kernel[1], "window of unfold")
    for axis in x.axes[-2:]:
        pin(axis, "windows are taken along it")
    batch = [x.axes[0]] if x.ndim == 4 else []
    return [*batch, product([resolve(x.axes[-3]), window]), None]


@rule(aten.col2im)
def _(x: Traced, size: Any, kernel: list[int], *_: Any) -> Any:
    channels, inner = factor(x.axes[-2], x.shape[-2] // (kernel[0] * kernel[1]))
    for axis in [inner, x.axes[-1]]:
        pin(axis, "window of fold")
    return [*x.axes[:-2], channels, None, None]


@rule(aten.meshgrid, aten.cartesian_prod, aten.combinations)
def _(*tensors: Any, **_: Any) -> Any:
    return None


@rule(aten.broadcast_tensors)
def _(tensors: list[Traced]) -> Any:
    axes = broadcast(tensors, torch.broadcast_shapes(*(t.shape for t in tensors)))
    return tuple(list(axes) for _ in tensors)


@rule(aten.atleast_1d, aten.atleast_2d, aten.atleast_3d)
def _(x: Any, *_: Any) -> Any:
    return None


def _replaced(x: Traced, dim: int, axis: Any) -> list[Any]:
    axes: list[Any] = list(x.axes)
    axes[dim] = axis
    return axes
