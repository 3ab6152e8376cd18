"""Operators that act element by element, with broadcasting."""

from __future__ import annotations

from typing import Any

import torch

from sentei.graph.axis import note, pin
from sentei.graph.rules.base import (
    Traced,
    aten,
    broadcast,
    cut,
    here,
    in_training,
    rule,
    same,
    scaled,
)
from sentei.graph.tape import Node, Scalar, Symbol, flatten, operator_name

__all__ = ["is_pointwise", "pointwise"]

# Element-wise, but not tagged so.
_EXTRA = {
    "dropout", "dropout_", "feature_dropout", "alpha_dropout", "feature_alpha_dropout",
    "feature_dropout_", "alpha_dropout_", "native_dropout", "rrelu", "rrelu_",
    "rrelu_with_noise", "masked_fill", "masked_fill_", "copy_",
    "copy", "fill_", "fill", "zero_", "clone", "detach", "detach_", "alias", "contiguous", "to",
    "_to_copy", "type_as", "float", "half", "double", "long", "int", "lift_fresh", "lift",
    "requires_grad_", "positive", "cast", "data", "clamp", "clamp_",
    "clamp_min", "clamp_max", "clip", "clip_", "nan_to_num", "where", "isclose", "logical_and",
    "logical_or", "logical_not", "logical_xor", "softplus", "lerp", "addcmul", "addcdiv",
    "prelu", "isfinite", "isnan", "isinf", "relu", "relu_", "relu6", "relu6_", "hardtanh",
    "hardtanh_", "hardswish", "hardswish_", "selu", "selu_", "celu", "celu_", "elu", "elu_",
    "silu", "silu_", "mish", "mish_", "gelu", "gelu_", "softshrink", "hardshrink", "tanhshrink",
    "logsigmoid", "log_sigmoid", "special_expit", "special_xlogy", "square", "square_", "rsub",
    "true_divide", "floor_divide", "fake_quantize_per_tensor_affine", "fmod", "remainder",
    "conj", "real", "imag", "resolve_conj", "resolve_neg", "angle", "polar", "complex",
    "pin_memory", "cpu", "cuda", "bool", "softsign", "threshold", "threshold_", "multiply",
    "divide", "subtract", "add_", "nan_to_num_", "empty_like", "zeros_like", "ones_like",
    "full_like", "_fused_dropout", "special_erf", "special_erfc",
    "erf", "sinc", "frac", "special_logit", "__and__", "__or__",
    "__xor__", "_conj", "_neg_view", "bitwise_not", "not_equal", "greater",
    "greater_equal", "less", "less_equal", "negative", "absolute", "arctan2", "fix",
    "_cast_Float", "_autocast_to_full_precision", "_autocast_to_reduced_precision",
}  # fmt: skip


# What these take from their second tensor is its type, not its elements.
_TYPE_ONLY = {torch.ops.aten.type_as.default, torch.ops.aten.to.other}


def is_pointwise(op: Any) -> bool:
    """Does the operator act element by element?

    Of torch's own, some do that do not say so; another library's operator of that name may not.
    """
    known = op.namespace in ("aten", "prims") and operator_name(op) in _EXTRA
    return known or torch.Tag.pointwise in op.tags


def pointwise(node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Align every tensor argument as broadcasting does."""
    tensors = [t for t in flatten((args, kwargs)) if isinstance(t, Traced)]
    if node.op in _TYPE_ONLY:
        tensors = tensors[:1]
    name = node.operator.rstrip("_")
    if name in ("mul", "div", "multiply", "divide", "true_divide"):
        for i, number in enumerate(args[:2]):
            if type(number) in (Scalar, Symbol) and isinstance(args[1 - i], Traced):
                expr = number.expr if name in ("mul", "multiply") else ("/", 1.0, number.expr)
                scaled(args[1 - i].value, expr)
    shape = node.outputs[0].shape
    axes = broadcast(tensors, shape)
    return tuple(list(axes) for _ in node.outputs)


@rule(aten.prelu, aten._prelu_kernel)
def _(x: Traced, weight: Traced) -> Any:
    # One slope for all, or one a channel, whatever dimensions follow.
    if weight.value.shape and weight.shape[-1 if weight.ndim == 1 else 0] > 1 and weight.ndim == 1:
        same(x.axes[1 if x.ndim > 1 else 0], weight.axes[0])
    elif weight.ndim > 1:
        return broadcast([x, weight], x.shape)
    return x.axes


@rule(aten.dropout1d, aten.dropout2d, aten.dropout3d)
def _(x: Traced, *_: Any) -> Any:
    return x.axes


@rule(torch.ops.aten.where.default)
def _(condition: Traced) -> Any:
    return None  # the positions that hold: as `nonzero`


@rule(aten.glu)
def _(x: Traced, dim: int = -1) -> Any:
    axes = list(x.axes)
    left, right = cut(axes[dim], x.shape[dim] // 2)
    same(left, right)
    axes[dim] = left
    return axes


@rule(aten.randn_like, aten.rand_like, aten.randint_like, aten.bernoulli, aten.bernoulli_,
      aten.uniform_, aten.normal_, aten.log_normal_, aten.exponential_, aten.random_, aten.cauchy_,
      aten.geometric_, aten.poisson, aten.binomial, aten._standard_gamma, aten.normal)  # fmt: skip
def _(*args: Any, **_: Any) -> Any:
    drawn = broadcast([t for t in args if isinstance(t, Traced)], here().outputs[0].shape)
    # Another width draws other numbers. In training that is as good; an answer cannot be compared.
    if not in_training():
        for axis in drawn:
            pin(axis, "random noise of this shape is drawn")
    return drawn


@rule(aten._weight_norm, aten._weight_norm_interface)
def _(v: Traced, g: Traced, dim: int = 0) -> Any:
    for i, (own, axis) in enumerate(zip(g.axes, v.axes, strict=True)):
        if own.size == axis.size:
            same(own, axis)
        if i != dim % v.ndim:
            note(axis, "normalised")
    return v.axes, g.axes
