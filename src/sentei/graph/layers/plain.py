"""Modules as plain data: what a stranger's file may say to build one.

Only types of `torch.nn` in a table here are built, by name, from numbers and texts; nothing is
imported or run. What is described is compared with the module that it describes, so that a module
that was changed after it was built is not described as another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from sentei.graph.capture.settings import INTERNAL
from sentei.graph.errors import PruneError

__all__ = ["Plain", "build", "describe"]

_CONV = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups",
         "bias", "padding_mode")  # fmt: skip
_UP = (*_CONV[:5], "output_padding", "groups", "bias", "dilation", "padding_mode")
_NORM = ("num_features", "eps", "momentum", "affine", "track_running_stats")
_MAX = ("kernel_size", "stride", "padding", "dilation", "return_indices", "ceil_mode")
_RECURRENT = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout",
              "bidirectional")  # fmt: skip

# Type -> arguments of its constructor, each an attribute of the same name afterwards.
_TYPES: dict[type[nn.Module], tuple[str, ...]] = {
    nn.Linear: ("in_features", "out_features", "bias"),
    nn.Conv1d: _CONV, nn.Conv2d: _CONV, nn.Conv3d: _CONV,
    nn.ConvTranspose1d: _UP, nn.ConvTranspose2d: _UP, nn.ConvTranspose3d: _UP,
    nn.BatchNorm1d: _NORM, nn.BatchNorm2d: _NORM, nn.BatchNorm3d: _NORM,
    nn.InstanceNorm1d: _NORM, nn.InstanceNorm2d: _NORM, nn.InstanceNorm3d: _NORM,
    nn.LayerNorm: ("normalized_shape", "eps", "elementwise_affine", "bias"),
    nn.RMSNorm: ("normalized_shape", "eps", "elementwise_affine"),
    nn.GroupNorm: ("num_groups", "num_channels", "eps", "affine"),
    nn.Embedding: ("num_embeddings", "embedding_dim", "padding_idx"),
    nn.Identity: (), nn.Sigmoid: (), nn.Tanh: (), nn.Softsign: (), nn.LogSigmoid: (),
    nn.ReLU: ("inplace",), nn.ReLU6: ("inplace",), nn.SiLU: ("inplace",), nn.Mish: ("inplace",),
    nn.Hardswish: ("inplace",), nn.Hardsigmoid: ("inplace",), nn.GELU: ("approximate",),
    nn.LeakyReLU: ("negative_slope", "inplace"), nn.ELU: ("alpha", "inplace"),
    nn.Softplus: ("beta", "threshold"), nn.PReLU: ("num_parameters",), nn.GLU: ("dim",),
    nn.Softmax: ("dim",), nn.LogSoftmax: ("dim",),
    nn.Dropout: ("p", "inplace"), nn.Dropout1d: ("p", "inplace"), nn.Dropout2d: ("p", "inplace"),
    nn.MaxPool1d: _MAX, nn.MaxPool2d: _MAX, nn.MaxPool3d: _MAX,
    nn.AvgPool1d: ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad"),
    nn.AvgPool2d: ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad",
                   "divisor_override"),
    nn.AdaptiveAvgPool1d: ("output_size",), nn.AdaptiveAvgPool2d: ("output_size",),
    nn.AdaptiveMaxPool1d: ("output_size",), nn.AdaptiveMaxPool2d: ("output_size",),
    nn.Flatten: ("start_dim", "end_dim"), nn.PixelShuffle: ("upscale_factor",),
    nn.ZeroPad2d: ("padding",),
    nn.LSTM: (*_RECURRENT, "proj_size"), nn.GRU: _RECURRENT,
    nn.RNN: (*_RECURRENT, "nonlinearity"),
}  # fmt: skip
_NAMES = {kind.__name__: kind for kind in _TYPES}
# Attributes that are a tensor or None, where the constructor wants yes or no.
_SWITCHES = ("bias",)
_DEEPEST = 16


@dataclass(frozen=True, slots=True)
class Plain:
    """A module of `torch.nn`: its type, arguments of its constructor, or for a Sequential its
    elements."""

    type: str
    options: dict[str, Any] = field(default_factory=dict)
    children: dict[str, Plain] = field(default_factory=dict)


def describe(module: nn.Module) -> Plain:
    """The description from which `build` makes this module again, its weights aside.

    Raises:
        PruneError: it is of another type than those known here, or was changed since it was built.

    >>> describe(nn.Linear(3, 4, bias=False))
    Plain(type='Linear', options={'in_features': 3, 'out_features': 4, 'bias': False}, children={})
    >>> build(describe(nn.Sequential(nn.Linear(3, 4), nn.ReLU())))
    Sequential(
      (0): Linear(in_features=3, out_features=4, bias=True)
      (1): ReLU()
    )
    """
    plain = _described(module, "", 0)
    again = build(plain)
    for (name, one), (_, other) in zip(module.named_modules(), again.named_modules(), strict=True):
        tensors = [
            [(n, t.shape) for n, t in (*m.named_parameters(), *m.named_buffers())]
            for m in (one, other)
        ]
        if tensors[0] != tensors[1] or _facts(one) != _facts(other):
            raise PruneError(f"the {_called(one, name)} was changed after it was built")
    return plain


def build(plain: Plain) -> nn.Module:
    """The module that is described, on the meta device: nothing is allocated for it.

    Raises:
        PruneError: the description makes no sense, or names what is not known here.

    >>> build(Plain("Linear", {"in_features": 3})).weight
    Traceback (most recent call last):
    ...
    sentei.graph.errors.PruneError: a Linear wants in_features, out_features, bias; got in_features
    """
    return _built(plain, 0)


def _built(plain: Plain, depth: int) -> nn.Module:
    if depth > _DEEPEST:
        raise PruneError("modules inside modules, too deep")
    if plain.type == "Sequential" and not plain.options:
        made = nn.Sequential()
        for name, child in plain.children.items():
            if not name or "." in name or hasattr(made, name):
                raise PruneError(f"an element of a Sequential cannot be called {name[:80]!r}")
            made.add_module(name, _built(child, depth + 1))
        return made
    kind = _NAMES.get(plain.type)
    if kind is None or plain.children:
        raise PruneError(f"{plain.type[:80]!r} is no module that is built from plain data")
    wanted = _TYPES[kind]
    if set(plain.options) != set(wanted):
        got = ", ".join(plain.options)[:200] or "nothing"
        raise PruneError(f"a {plain.type} wants {', '.join(wanted) or 'nothing'}; got {got}")
    options = {name: _value(plain.type, name, plain.options[name]) for name in wanted}
    try:
        with torch.device("meta"):
            return kind(**options)
    except (ValueError, TypeError, RuntimeError, OverflowError, ZeroDivisionError) as error:
        raise PruneError(f"a {plain.type} cannot be built so: {str(error)[:200]}") from None


def _value(kind: str, name: str, value: Any) -> Any:
    """Numbers, texts and tuples of whole numbers: all that constructors here take."""
    match value:
        case None | bool() | float():
            return value
        case int() if abs(value) <= (256 if name == "num_layers" else 2**31):
            return value
        case str() if len(value) <= 20:
            return value
        case list() | tuple() if len(value) <= 8 and all(
            n is None or (type(n) is int and abs(n) <= 2**31) for n in value
        ):
            return tuple(value)
    raise PruneError(f"{name} of a {kind} cannot be {str(value)[:80]!r}")


def _described(module: nn.Module, name: str, depth: int) -> Plain:
    if type(module) is nn.Sequential and depth < _DEEPEST:
        return Plain(
            "Sequential",
            children={
                key: _described(child, f"{name}.{key}".lstrip("."), depth + 1)
                for key, child in module.named_children()
            },
        )
    wanted = _TYPES.get(type(module))
    if wanted is None:
        raise PruneError(f"the {_called(module, name)} is no module that is built from plain data")
    options = {}
    for option in wanted:
        value = getattr(module, option)
        switch = option in _SWITCHES and not isinstance(value, bool)
        options[option] = value is not None if switch else value
    return Plain(type(module).__name__, options)


def _called(module: nn.Module, name: str) -> str:
    return f"{type(module).__name__} {name!r} in it" if name else type(module).__name__


def _facts(module: nn.Module) -> Mapping[str, Any]:
    """What a module holds beside tensors, modules and torch's own."""
    return {
        key: value
        for key, value in vars(module).items()
        if key not in INTERNAL and not key.startswith("_sentei") and key != "training"
    }
