"""Sums of products: linear layers, matrix products, einsum, convolutions."""

from __future__ import annotations

from typing import Any

import torch

from sentei.graph.rules.base import (
    Traced,
    align,
    aten,
    broadcast,
    data,
    factor,
    need,
    pin,
    product,
    resolve,
    rule,
    same,
)  # fmt: skip


@rule(aten.linear)
def _(x: Traced, weight: Traced, bias: Traced | None = None) -> Any:
    same(x.axes[-1], weight.axes[-1])
    if weight.ndim == 1:
        return x.axes[:-1]
    if bias is not None and bias.shape[-1] != 1:
        same(bias.axes[-1], weight.axes[0])
    return [*x.axes[:-1], weight.axes[0]]


@rule(aten.matmul, aten.bmm, aten.mm, aten.mv, aten.dot, aten.vdot, aten._sparse_mm)
def matmul(a: Traced, b: Traced, *_: Any) -> Any:
    same(a.axes[-1], b.axes[-2] if b.ndim > 1 else b.axes[0])
    if b.ndim == 1:
        return a.axes[:-1]
    if a.ndim == 1:
        return [*b.axes[:-2], b.axes[-1]]
    batch = _batch(a, b)
    return [*batch, a.axes[-2], b.axes[-1]]


def _batch(a: Traced, b: Traced, skip: int = 2) -> list[Any]:
    left, right = a.shape[:-skip], b.shape[:-skip]
    n = max(len(left), len(right))
    left, right = (1,) * (n - len(left)) + left, (1,) * (n - len(right)) + right
    return broadcast(
        [a, b], [max(p, q) if p and q else 0 for p, q in zip(left, right, strict=True)], skip
    )


@rule(aten.addmm, aten.baddbmm, aten.addmv)
def _(bias: Traced, a: Traced, b: Traced, **_: Any) -> Any:
    out = matmul(a, b)
    for axis, own in zip(reversed(out), reversed(bias.axes), strict=False):
        if own.size == axis.size:
            same(axis, own)
    return out


@rule(aten.inner)
def _(a: Traced, b: Traced) -> Any:
    if not a.ndim or not b.ndim:
        return [*a.axes, *b.axes]
    same(a.axes[-1], b.axes[-1])
    return [*a.axes[:-1], *b.axes[:-1]]


@rule(aten.outer, aten.ger)
def _(a: Traced, b: Traced) -> Any:
    return [a.axes[0], b.axes[0]]


@rule(aten.einsum)
def _(equation: str, operands: list[Traced], **_: Any) -> Any:
    equation = equation.replace(" ", "")
    inputs, _arrow, output = equation.partition("->")
    terms = inputs.split(",")
    known: dict[str, Any] = {}
    ellipsis: list[Any] = []
    for term, tensor in zip(terms, operands, strict=True):
        letters = list(term.replace("...", "."))
        extra = tensor.ndim - (len(letters) - ("." in letters))
        axes = list(tensor.axes)
        for letter in letters:
            if letter == ".":
                batch, axes = axes[:extra], axes[extra:]
                for i, axis in enumerate(reversed(batch)):
                    if i >= len(ellipsis):
                        ellipsis.append(axis)
                    elif ellipsis[i].size == 1:
                        ellipsis[i] = axis
                    elif axis.size != 1:
                        same(ellipsis[i], axis)
                continue
            axis = axes.pop(0)
            if letters.count(letter) > 1:
                pin(axis, "einsum takes a diagonal")
            if letter not in known or known[letter].size == 1:
                known[letter] = axis
            elif axis.size != 1:
                same(known[letter], axis)
    if not _arrow:
        plain = inputs.replace("...", "").replace(",", "")
        output = ("..." if "." in inputs else "") + "".join(
            sorted(c for c in set(plain) if plain.count(c) == 1)
        )
    result: list[Any] = []
    for letter in output.replace("...", "."):
        if letter == ".":
            result.extend(reversed(ellipsis))
        else:
            result.append(known[letter])
    return result


@rule(aten.tensordot)
def _(a: Traced, b: Traced, dims_a: list[int], dims_b: list[int]) -> Any:
    for i, j in zip(dims_a, dims_b, strict=True):
        same(a.axes[i], b.axes[j])
    left = {i % a.ndim for i in dims_a}
    right = {j % b.ndim for j in dims_b}
    return [x for i, x in enumerate(a.axes) if i not in left] + [
        x for j, x in enumerate(b.axes) if j not in right
    ]


@rule(aten.bilinear)
def _(a: Traced, b: Traced, weight: Traced, bias: Traced | None = None) -> Any:
    same(a.axes[-1], weight.axes[1])
    same(b.axes[-1], weight.axes[2])
    for p, q in zip(a.axes[:-1], b.axes[:-1], strict=True):
        same(p, q)
    if bias is not None:
        same(bias.axes[0], weight.axes[0])
    return [*a.axes[:-1], weight.axes[0]]


@rule(aten.cdist, aten._cdist_forward)
def _(a: Traced, b: Traced, *_: Any, **__: Any) -> Any:
    same(a.axes[-1], b.axes[-1])
    return [*_batch(a, b), a.axes[-2], b.axes[-2]]


@rule(aten.linalg_solve_triangular)
def _(matrix: Traced, b: Traced, *, upper: bool, left: bool = True, **_: Any) -> Any:
    """Each column of `b` (each row, from the right) is an equation of its own."""
    for axis in (*matrix.axes[-2:], b.axes[-2 if left else -1]):
        pin(axis, "a system of equations is solved along it")
    return [*_batch(matrix, b), *b.axes[-2:]]


@rule(aten.cosine_similarity)
def _(a: Traced, b: Traced, dim: int = 1, *_: Any) -> Any:
    axes: list[Any] = broadcast([a, b], torch.broadcast_shapes(a.shape, b.shape))
    del axes[dim]
    return axes


@rule(aten.pairwise_distance)
def _(a: Traced, b: Traced, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Any:
    axes: list[Any] = broadcast([a, b], torch.broadcast_shapes(a.shape, b.shape))
    return [*axes[:-1], data(1)] if keepdim else axes[:-1]


@rule(aten._grouped_mm)
def _(x: Traced, weight: Traced, offsets: Any = None, *_: Any, **__: Any) -> Any:
    same(x.axes[-1], weight.axes[-2])
    line = max(16 // x.value.dtype.itemsize, 1)  # its kernels take rows of whole 16 bytes
    align(x.axes[-1], line)
    if weight.value.origin == "parameter":  # what is transposed has its rows along the sum
        align(weight.axes[-1], line)
    if x.ndim == 2 and weight.ndim == 3:  # rows sorted by expert, one matrix each
        pin(weight.axes[0], "rows are routed to experts by index")
        return [x.axes[0], weight.axes[-1]]
    if x.ndim == 3 and weight.ndim == 3:
        same(x.axes[0], weight.axes[0])
        return [x.axes[0], x.axes[1], weight.axes[-1]]
    return None


# -- convolutions ---------------------------------------------------------------------------------
@rule(aten.conv1d, aten.conv2d, aten.conv3d)
def conv(
    x: Traced, weight: Traced, bias: Any = None, stride: Any = 1, padding: Any = 0,
    dilation: Any = 1, groups: Any = 1,
) -> Any:  # fmt: skip
    n = weight.ndim - 2
    batch, channels = x.axes[: -n - 1], x.axes[-n - 1]
    space = _spatial(x.axes[-n:], weight, stride, padding)
    out = weight.axes[0]
    if groups > 1:
        outer, inner = factor(channels, groups)
        same(inner, weight.axes[1])
        out_outer, _inner = factor(out, groups)
        same(outer, out_outer)
        need(groups, outer)
    else:
        same(channels, weight.axes[1])
    if bias is not None:
        same(bias.axes[0], out)
    return [*batch, resolve(out), *space]


@rule(aten.conv_transpose1d, aten.conv_transpose2d, aten.conv_transpose3d)
def conv_transpose(
    x: Traced, weight: Traced, bias: Any = None, stride: Any = 1, padding: Any = 0,
    output_padding: Any = 0, groups: Any = 1, dilation: Any = 1,
) -> Any:  # fmt: skip
    n = weight.ndim - 2
    batch, channels = x.axes[: -n - 1], x.axes[-n - 1]
    space = _spatial(x.axes[-n:], weight, stride, padding, output_padding)
    same(channels, weight.axes[0])
    out = weight.axes[1]
    if groups > 1:
        outer, _inner = factor(channels, groups)
        need(groups, outer)
        out = product([resolve(outer), out])
    if bias is not None:
        same(bias.axes[0], out)
    return [*batch, resolve(out), *space]


@rule(aten.convolution, aten._convolution)
def _(
    x: Traced, weight: Traced, bias: Any, stride: Any, padding: Any, dilation: Any,
    transposed: bool, output_padding: Any, groups: Any, *_: Any,
) -> Any:  # fmt: skip
    if transposed:
        return conv_transpose(x, weight, bias, stride, padding, output_padding, groups)
    return conv(x, weight, bias, stride, padding, dilation, groups)


def _spatial(
    positions: list[Any], weight: Traced, stride: Any, padding: Any, more: Any = 0
) -> list[Any]:
    """The output's axes of space: a kernel that sees one position at a time mixes none."""
    out: list[Any] = []
    for i, (axis, kernel) in enumerate(zip(positions, weight.axes[2:], strict=True)):
        moves = (_at(stride, i) != 1, _at(padding, i) not in (0, "same", "valid"), _at(more, i))
        if kernel.size == 1 and not any(moves):
            out.append(axis)
            continue
        pin(axis, "a convolution slides over it")
        pin(kernel, "convolution kernel")
        out.append(None)
    return out


def _at(sizes: Any, i: int) -> Any:
    """What one number for all dimensions, or one for each, says of dimension `i`."""
    return sizes[i % len(sizes)] if isinstance(sizes, (list, tuple)) and sizes else sizes or 0


@rule(aten.kron)
def _(a: Traced, b: Traced) -> Any:
    if a.ndim != b.ndim:
        return None
    return [product([p, q]) for p, q in zip(a.axes, b.axes, strict=True)]


@rule(aten.linalg_cross, aten.cross)
def _(a: Traced, b: Traced, dim: Any = -1) -> Any:
    axes = broadcast([a, b], torch.broadcast_shapes(a.shape, b.shape))
    for axis in axes if dim is None else [axes[dim]]:  # None: the first dimension of size three
        pin(axis, "cross product")
    return axes


@rule(aten.trace)
def _(x: Traced) -> Any:
    pin(x.axes[0], "trace takes a diagonal")
    pin(x.axes[1], "trace takes a diagonal")
    return []
