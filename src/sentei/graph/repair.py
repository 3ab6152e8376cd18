"""Make the model's own Python follow: integers in attributes, tuples, lists and shared configs.

Where an integer of the code must equal a width, provenance (see `sentei.graph.capture`) told which
attribute it came from; `ties.solve` turned that into a formula. Stock `nn` modules also keep their
documented attributes (`in_features`, `num_channels`, …) in step with their parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from sentei.graph.analysis import Analysis
from sentei.graph.axis import Dim
from sentei.graph.errors import PruneError
from sentei.graph.literals import read_literal, write_literal
from sentei.graph.stock import documented_sizes
from sentei.graph.tape import AttributeKey

__all__ = ["agree", "new_attributes", "read_attribute", "stock_attributes", "write_attribute"]


def new_attributes(analysis: Analysis, kept: Callable[[Dim], int]) -> dict[AttributeKey, int]:
    """The attributes that change when `kept(dim)` units remain, with their new values."""
    edits: dict[AttributeKey, int] = {}
    for key, value in analysis.solution.attributes.items():
        over, under = value.over.value(kept), value.under.value(kept)
        full_over, full_under = value.over.value(_whole), value.under.value(_whole)
        if over * full_under == full_over * under:
            continue  # nothing this depends on was pruned
        if under == 0 or over % under:
            raise PruneError(f"{key} would have to become {over}/{under}, which is no whole number")
        edits[key] = over // under
    return edits


def _whole(dim: Dim) -> int:
    return dim.size


def read_attribute(model: nn.Module, key: AttributeKey) -> Any:
    """The value that `key` names."""
    value: Any = model.get_submodule(key.module)
    if key.in_code:
        return read_literal(value, key.path)
    for step in key.path:
        value = _step(value, step)
    return value


def write_attribute(model: nn.Module, key: AttributeKey, value: int) -> None:
    """Set the integer that `key` names; tuples on the way are rebuilt."""
    module = model.get_submodule(key.module)
    if key.in_code:
        write_literal(module, key.path, value)
    else:
        _write(module, key.path, value)


def _step(owner: Any, step: Any) -> Any:
    if isinstance(owner, (list, tuple)) or type(owner) is dict:
        return owner[step]
    # Settings may be attributes, items or, as in a dictionary with attributes, both.
    if isinstance(owner, dict) and step not in getattr(owner, "__dict__", ()):
        return dict.__getitem__(owner, step)
    return vars(owner)[step]


def _put(owner: Any, step: Any, value: Any) -> None:
    if isinstance(owner, list) or type(owner) is dict:
        owner[step] = value
        return
    attributes = getattr(owner, "__dict__", {})
    if isinstance(owner, dict):  # with attributes: what it says of writing is said to its users
        there = dict.get(owner, step)
        if step not in attributes or there == attributes[step]:
            dict.__setitem__(owner, step, value)
        if step not in attributes:
            return
    attributes[step] = value


def _write(owner: Any, path: tuple[Any, ...], value: Any) -> None:
    step, rest = path[0], path[1:]
    if rest:
        child = _step(owner, step)
        if isinstance(child, tuple):
            value = _rebuilt(child, rest, value)
        else:
            _write(child, rest, value)
            return
    _put(owner, step, value)


def _rebuilt(items: tuple[Any, ...], path: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    step, rest = path[0], path[1:]
    if rest:
        child = items[step]
        if isinstance(child, tuple):
            value = _rebuilt(child, rest, value)
        else:
            _write(child, rest, value)
            return items
    new = [*items[:step], value, *items[step + 1 :]]
    return type(items)(*new) if hasattr(items, "_fields") else type(items)(new)


@contextmanager
def _resting(module: nn.Module) -> Iterator[None]:
    """To look at a weight that is computed changes nothing: a spectral norm in train mode improves
    its estimate whenever somebody looks."""
    computing = module._modules.get("parametrizations")
    awake = [m for m in computing.modules() if m.training] if computing is not None else []
    for part in awake:
        part.training = False
    try:
        yield
    finally:
        for part in awake:
            part.training = True


def _read(module: nn.Module, name: str, dim: int) -> int | None:
    """The size of a tensor of the module, also of one that is computed or a part's own."""
    with _resting(module):
        tensor: Any = module
        for step in name.split("."):
            tensor = getattr(tensor, step, None)
    return int(tensor.shape[dim]) if isinstance(tensor, Tensor) and tensor.dim() > dim else None


def _lstm_hidden(module: nn.LSTM) -> dict[str, int]:
    gates = int(module.get_parameter("weight_hh_l0").shape[0])
    out: dict[str, int] = {"hidden_size": gates // 4}
    if module.proj_size:
        out["proj_size"] = int(module.get_parameter("weight_hr_l0").shape[0])
    return out


def stock_attributes(module: nn.Module) -> dict[str, int]:
    """The documented size attributes of a stock module, read off its parameters.

    >>> stock_attributes(nn.Linear(3, 5))
    {'out_features': 5, 'in_features': 3}
    """
    edits: dict[str, int] = {}
    for attribute, (name, dim, times) in documented_sizes(module).items():
        size = _read(module, name, dim)
        if size is not None:
            edits[attribute] = size * times
    if isinstance(module, nn.LSTM):
        edits.update(_lstm_hidden(module))
    return edits


def agree(module: nn.Module) -> None:
    """Let what a layer of einops is copied from say what it computes with.

    It runs with `_axes_lengths`, and makes copies and pickles from `axes_lengths`.

    >>> from einops.layers.torch import Rearrange
    >>> layer = Rearrange("b (h d) -> b h d", h=3)
    >>> layer._axes_lengths = (("h", 2),)
    >>> agree(layer)
    >>> layer
    Rearrange('b (h d) -> b h d', h=2)
    """
    state = vars(module)
    stated, used = state.get("axes_lengths"), state.get("_axes_lengths")
    if isinstance(stated, dict) and isinstance(used, tuple) and stated != dict(used):
        home = type(module).__mro__
        if any(kind.__module__.startswith("einops.") for kind in home):
            state["axes_lengths"] = dict(used)
