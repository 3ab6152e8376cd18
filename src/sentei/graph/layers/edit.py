"""The public functions: list, delete, insert, replace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from sentei.graph.capture import unwrap
from sentei.graph.errors import PruneError
from sentei.graph.groups import call_arguments
from sentei.graph.history import Gone
from sentei.graph.layers.change import (
    all_or_nothing,
    forget,
    put_in,
    submodule,
    take_out,
)
from sentei.graph.layers.check import check_runs, compare, silenced
from sentei.graph.layers.find import find, why_not
from sentei.graph.layers.found import Layer, Layers
from sentei.graph.layers.silent import Silent
from sentei.graph.layers.watch import is_list, join, watch

__all__ = ["delete_layer", "insert_layer", "layers", "replace_layer"]


def layers(
    model: nn.Module,
    example_inputs: Any = None,
    *,
    args: tuple[Any, ...] | None = None,
    kwargs: Mapping[str, Any] | None = None,
) -> Layers:
    """Whole layers and residual branches that `delete_layer` can take out.

    Args:
        example_inputs: a tensor, a tuple of positional arguments, or a dict of keyword arguments;
            `args` and `kwargs` give both at once.
    Raises:
        PruneError: no or unusable example inputs.

    >>> class Residual(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.f = nn.Linear(4, 4)
    ...     def forward(self, x):
    ...         return x + self.f(x)
    >>> net = nn.Sequential(nn.Linear(3, 4), Residual(), Residual(), nn.Linear(4, 2))
    >>> layers(net, torch.zeros(1, 3))
    layer  kind    params  MACs  deletion
    1      layer       20    16  exact
    1.f    branch      20    16  exact
    2      layer       20    16  exact
    2.f    branch      20    16  exact
    """
    return find(unwrap(model), call_arguments(example_inputs, args, kwargs))


def delete_layer(
    model: nn.Module,
    name: str,
    example_inputs: Any = None,
    *,
    args: tuple[Any, ...] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    verify: bool = True,
    optimizer: torch.optim.Optimizer | None = None,
) -> Layer:
    """Take a layer out of its list, or replace a residual branch by zeros, in place.

    Counts (`num_layers`), numbers of the layers behind it (`layer_idx`, by which caches go) and,
    for whole layers of Hugging Face models, the configuration follow.

    Args:
        name: a name in `layers(model, ...)`.
        verify: compare with the original whose branches are multiplied by zero.
        optimizer: forgets the parameters that are gone, with their state.
    Returns:
        what was deleted, with its `verification`.
    Raises:
        PruneError: no such layer, or it cannot be deleted (says why).
        VerificationError: the result differs from the original with the branches silenced.
        In both cases the model is as before.

    >>> class Residual(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.f = nn.Linear(4, 4)
    ...     def forward(self, x):
    ...         return x + self.f(x)
    >>> net = nn.Sequential(nn.Linear(3, 4), Residual(), Residual(), nn.Linear(4, 2))
    >>> delete_layer(net, "1", torch.zeros(1, 3)).params
    20
    >>> len(net)
    3
    """
    model = unwrap(model)
    call = call_arguments(example_inputs, args, kwargs)
    found = find(model, call, trial=False)  # its own deletion is trial enough
    if name not in found:  # a layer that cannot be taken out may have hidden it
        found = find(model, call)
    if name not in found:
        raise PruneError(why_not(model, name, found))
    layer = found[name]
    verify = verify and not any(p.is_meta for p in model.parameters())
    before = silenced(model, layer, found._seen, call) if verify else None
    had = {id(p) for p in model.parameters()}
    gone = Gone(name)
    if layer.kind == "branch":
        made = [
            (n, Silent.of(model.get_submodule(n), found._seen.only_call(n))) for n in layer.modules
        ]
        numbers = found._seen.numbers(layer.modules)
        gone = Gone(name, tuple((n, s.steps, s.outputs) for n, s in made), numbers)
    with all_or_nothing(model):
        take_out(model, gone)
        check_runs(model, call, found._seen, f"without {name}")
        if before is not None:
            layer = replace(layer, verification=compare(model, before, name, call))
    if optimizer is not None:
        forget(optimizer, had - {id(p) for p in model.parameters()})
    return layer


def insert_layer(
    model: nn.Module,
    after: str,
    module: nn.Module,
    example_inputs: Any = None,
    *,
    args: tuple[Any, ...] | None = None,
    kwargs: Mapping[str, Any] | None = None,
) -> str:
    """Put `module` behind the element `after` of a `ModuleList` or `Sequential`, in place.

    `sentei.save` writes down modules of `torch.nn` that plain data can describe (see
    `sentei.graph.layers.plain`); others keep a model from being saved.

    Args:
        after: name of the element; or of the list itself, to put the module first.
    Returns:
        the name of the new element.
    Raises:
        PruneError: there is no such element, or the model does not run with the module there, or
            gives outputs of another shape. The model is as before.

    >>> net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> insert_layer(net, "1", nn.Linear(4, 4), torch.zeros(1, 3))
    '2'
    >>> len(net)
    4
    """
    model = unwrap(model)
    call = call_arguments(example_inputs, args, kwargs)
    if not isinstance(module, nn.Module):
        raise PruneError(f"insert_layer: give a module; got {type(module).__name__}")
    if any(m is module for m in model.modules()):
        raise PruneError(
            "insert_layer: this module is already part of the model; insert a copy "
            "(copy.deepcopy), or its weights would be shared"
        )
    seen = watch(model, call)
    container = submodule(model, after)
    if is_list(container):
        after = join(after, "")
    with all_or_nothing(model, module):
        new = put_in(model, after, module, instead=False)
        check_runs(model, call, seen, f"with {type(module).__name__} as {new}", same_outputs=True)
    return new


def replace_layer(
    model: nn.Module,
    name: str,
    module: nn.Module,
    example_inputs: Any = None,
    *,
    args: tuple[Any, ...] | None = None,
    kwargs: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Put `module` in the place of the module called `name`, in place; returns the old one.

    The new module takes over the number of the old one (`layer_idx`), where it has one. Saving is
    as after `insert_layer`.

    Raises:
        PruneError: there is no such module, or the model does not run with the new one, or gives
            outputs of another shape. The model is as before.

    >>> net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> replace_layer(net, "1", nn.GELU(), torch.zeros(1, 3))
    ReLU()
    """
    model = unwrap(model)
    call = call_arguments(example_inputs, args, kwargs)
    if not isinstance(module, nn.Module):
        raise PruneError(f"replace_layer: give a module; got {type(module).__name__}")
    old = submodule(model, name)
    if old is model:
        raise PruneError("replace_layer: the name of a part of the model is needed")
    seen = watch(model, call)
    with all_or_nothing(model, module):
        put_in(model, name, module, instead=True)
        what = f"with {type(module).__name__} as {name}"
        check_runs(model, call, seen, what, same_outputs=True)
    return old
