"""Normalisations, softmax and reductions: operators that mix the units of an axis.

A removed unit takes no part: statistics are over the units that remain. Where that differs from
the same unit being zero, the axis is marked, so that reports and verification can say so.
"""

from __future__ import annotations

from typing import Any

from sentei.graph.rules.base import (
    Traced,
    aten,
    averaged,
    broadcast,
    data,
    factor,
    need,
    note,
    numbers,
    pin,
    product,
    resolve,
    rule,
    same,
)  # fmt: skip


@rule(aten.batch_norm, aten.native_batch_norm, aten.cudnn_batch_norm, aten._native_batch_norm_legit)
def _batch_norm(x: Traced, *rest: Any, **_: Any) -> Any:
    channel = x.axes[1]
    for tensor in rest[:4]:
        if isinstance(tensor, Traced):
            same(channel, tensor.axes[0])
    training = next((flag for flag in rest if type(flag) is bool), True)
    if training or not isinstance(rest[2], Traced):
        for axis in [x.axes[0], *x.axes[2:]]:
            note(axis, "normalised")
    statistics = [channel if training else None]
    return x.axes, statistics, list(statistics)


@rule(aten.instance_norm)
def _(x: Traced, *rest: Any, **_: Any) -> Any:
    for tensor in rest[:4]:
        if isinstance(tensor, Traced):
            same(x.axes[1], tensor.axes[0])
    for axis in x.axes[2:]:
        note(axis, "normalised")
    return x.axes


@rule(aten.layer_norm, aten.rms_norm, aten._fused_rms_norm, aten.native_layer_norm)
def _(x: Traced, shape: Any, *rest: Any, **_: Any) -> Any:
    n = len(shape)
    for size, axis in zip(shape, x.axes[-n:], strict=True):
        need(size, axis)
        note(axis, "normalised")
    for tensor in rest:
        if isinstance(tensor, Traced):
            for own, axis in zip(tensor.axes, x.axes[-n:], strict=True):
                same(own, axis)
    statistics = [*x.axes[:-n], *(data(1) for _ in range(n))]
    return x.axes, statistics, list(statistics)


@rule(aten.native_group_norm)
def _(x: Traced, weight: Any, bias: Any, n: Any, c: Any, space: Any, groups: Any, eps: Any) -> Any:
    need(n, x.axes[0])
    need(c, x.axes[1])
    need(space, product([resolve(a) for a in x.axes[2:]]))
    out = group_norm(x, groups, weight, bias)
    each = [x.axes[0], factor(x.axes[1], groups)[0]]
    return out, each, list(each)


@rule(aten.group_norm)
def group_norm(x: Traced, groups: Any, *rest: Any, **_: Any) -> Any:
    channels = x.axes[1]
    outer, inner = factor(channels, groups)
    need(groups, outer)
    for axis in [inner, *x.axes[2:]]:
        note(axis, "normalised")
    for tensor in rest:
        if isinstance(tensor, Traced):
            same(channels, tensor.axes[0])
    return [x.axes[0], resolve(channels), *x.axes[2:]]


@rule(aten.softmax, aten.log_softmax, aten._softmax, aten._log_softmax, aten._safe_softmax,
      aten.softmin, aten.special_softmax, aten.special_log_softmax)  # fmt: skip
def _(x: Traced, dim: int = -1, *_: Any, **__: Any) -> Any:
    if x.ndim:
        note(x.axes[dim], "normalised")
    return x.axes


# -- reductions -----------------------------------------------------------------------------------
def _reduced(x: Traced, dims: Any, keepdim: bool) -> list[Any]:
    if dims is None or (isinstance(dims, (list, tuple)) and not dims):
        dims = range(x.ndim)
    drop = {d % max(x.ndim, 1) for d in ([dims] if isinstance(dims, int) else dims)}
    out: list[Any] = []
    for i, axis in enumerate(x.axes):
        if i not in drop:
            out.append(axis)
        elif keepdim:
            out.append(data(1))
    return out


def _dropped(x: Traced, dims: Any) -> list[Any]:
    if dims is None or (isinstance(dims, (list, tuple)) and not dims):
        return list(x.axes)
    return [x.axes[d] for d in ([dims] if isinstance(dims, int) else dims)] if x.ndim else []


@rule(
    aten.sum,
    aten.nansum,
    aten.any,
    aten._is_any_true,
    aten.count_nonzero,
)
def _(x: Traced, *rest: Any, **options: Any) -> Any:
    dims, keepdim = _dims(rest, options)
    return _reduced(x, dims, keepdim)


@rule(aten.linalg_vector_norm, aten.norm)
def _vector_norm(x: Traced, order: Any = None, *rest: Any, **options: Any) -> Any:
    dims, keepdim = _dims(rest, options)
    order = options.get("ord", options.get("p", order))
    if order is not None and order < 0:  # the smallest: a silent unit would be it
        for axis in _dropped(x, dims):
            note(axis, "normalised")
    return _reduced(x, dims, keepdim)


@rule(aten.linalg_norm)
def _(x: Traced, order: Any = None, dim: Any = None, keepdim: bool = False, **options: Any) -> Any:
    order = options.get("ord", order)
    over = range(x.ndim) if dim is None else [dim] if isinstance(dim, int) else list(dim)
    # Of a matrix only the root of the sum of all squares is a norm of its elements.
    if order not in (None, "fro") and len(over) > 1:
        return None
    return _vector_norm(x, 2 if order in (None, "fro") else order, list(over), keepdim)


@rule(aten.mean)
def _(x: Traced, *rest: Any, **options: Any) -> Any:
    dims, keepdim = _dims(rest, options)
    averaged(product([resolve(axis) for axis in _dropped(x, dims)]))
    return _reduced(x, dims, keepdim)


@rule(aten.var, aten.std, aten.var_mean, aten.std_mean, aten.logsumexp, aten.amax,
      aten.amin, aten.nanmean, aten.prod, aten.all, aten.aminmax,
      aten.special_logsumexp, aten._is_all_true)  # fmt: skip
def _(x: Traced, *rest: Any, **options: Any) -> Any:
    dims, keepdim = _dims(rest, options)
    for axis in _dropped(x, dims):
        note(axis, "normalised")
    return _reduced(x, dims, keepdim)


def _dims(rest: tuple[Any, ...], options: dict[str, Any]) -> tuple[Any, bool]:
    dims = options.get("dim")
    keepdim = bool(options.get("keepdim", False))
    for value in rest:
        if type(value) is bool:
            keepdim = value if dims is not None or value is not rest[0] else keepdim
        elif isinstance(value, (list, tuple)):
            dims = list(value)
        elif isinstance(value, int) and dims is None:
            dims = value
    return dims, keepdim


@rule(aten.linalg_matrix_norm, aten.frobenius_norm)
def _(x: Traced, *_: Any, **__: Any) -> Any:
    return None


@rule(aten.max, aten.min)
def _(x: Traced, other: Any = None, keepdim: bool = False, **_: Any) -> Any:
    if isinstance(other, Traced):
        n = max(x.ndim, other.ndim)
        a = (1,) * (n - x.ndim) + x.shape
        b = (1,) * (n - other.ndim) + other.shape
        return broadcast([x, other], [max(p, q) for p, q in zip(a, b, strict=True)])
    if other is None:
        for axis in x.axes:
            note(axis, "normalised")
        return []
    note(x.axes[other], "normalised")
    numbers(1, x.axes[other])
    out = _reduced(x, other, keepdim)
    return out, list(out)


@rule(aten.argmax, aten.argmin)
def _(x: Traced, dim: Any = None, keepdim: bool = False) -> Any:
    for axis in _dropped(x, dim):
        pin(axis, "argmax numbers its positions")
    return _reduced(x, dim, keepdim)


@rule(aten.topk, aten.kthvalue, aten.median, aten.mode, aten.nanmedian)
def _(x: Traced, *rest: Any, **options: Any) -> Any:
    return None


@rule(aten.msort)
def _(x: Traced) -> Any:
    if x.ndim:
        pin(x.axes[0], "sorted: positions are renumbered")
    return x.axes


@rule(aten.sort, aten.argsort)
def _(x: Traced, *rest: Any, **options: Any) -> Any:
    dim = options.get(
        "dim", next((r for r in rest if isinstance(r, int) and type(r) is not bool), -1)
    )
    if x.ndim:
        pin(x.axes[dim], "sorted: positions are renumbered")
    return tuple(list(x.axes) for _ in range(2))


@rule(aten.cumsum, aten.cumsum_)
def _(x: Traced, *_: Any, **__: Any) -> Any:
    return x.axes


@rule(aten.cumprod, aten.cummax, aten.cummin, aten.logcumsumexp)
def _(x: Traced, dim: int, **_: Any) -> Any:
    pin(x.axes[dim], "a running product or maximum needs every position")
    return tuple(list(x.axes) for _ in range(2))


@rule(aten.diff)
def _(x: Traced, n: int = 1, dim: int = -1, *_: Any) -> Any:
    pin(x.axes[dim], "differences of neighbours")
    axes: list[Any] = list(x.axes)
    axes[dim] = None
    return axes


@rule(aten.renorm, aten.renorm_)
def _(x: Traced, *_: Any) -> Any:
    for axis in x.axes:
        note(axis, "normalised")
    return x.axes
