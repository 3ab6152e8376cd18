"""Change lists of layers, with the counts, numbers and configurations that speak of them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from sentei.graph.blueprint import (
    blueprint,
    changed,
    configured,
    follow,
    followed,
    read_back,
    saved_shapes,
)
from sentei.graph.errors import PruneError, closest
from sentei.graph.history import Gone, Put, forget_past, remember_gone
from sentei.graph.layers.plain import describe
from sentei.graph.layers.silent import Silent
from sentei.graph.layers.watch import NUMBERS, inside, is_list, join
from sentei.graph.surgery import _config_states, _restore_states

_DEPTHS = re.compile(r"layer|depth|block")


@contextmanager
def all_or_nothing(*models: nn.Module) -> Iterator[None]:
    """Everything as before if anything inside raises."""
    parts = [(m, dict(vars(m))) for model in models for m in model.modules()]
    stores = [
        (vars(m)[key], dict(vars(m)[key]))
        for m, _ in parts
        for key in ("_modules", "_parameters", "_buffers")
    ]
    configs = [state for model in models for state in _config_states(model)]
    try:
        yield
    except BaseException:
        for module, state in parts:
            vars(module).clear()
            vars(module).update(state)
        for store, items in stores:
            store.clear()
            store.update(items)
        _restore_states(configs)
        raise


def forget(optimizer: torch.optim.Optimizer, gone: set[int]) -> None:
    """Drop parameters, by id, from the groups and the state of an optimiser."""
    for group in optimizer.param_groups:
        group["params"] = [p for p in group["params"] if id(p) not in gone]
    for parameter in [p for p in optimizer.state if id(p) in gone]:
        del optimizer.state[parameter]


def submodule(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError:
        known = [n for n, _ in model.named_modules() if n]
        raise PruneError(f"no module {name!r}; {closest(name, known)}") from None


def put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, key = name.rpartition(".")
    model.get_submodule(parent)._modules[key] = module


def take_out(model: nn.Module, gone: Gone) -> None:
    """Take a layer out of its list, or put stand-ins for a branch, or shorten a list of experts;
    and note it on the model.

    Raises:
        PruneError: there is no such layer or module; the model may be half changed.
    """
    if gone.stand_ins:
        for name, steps, outputs in gone.stand_ins:
            put(model, name, Silent.made(submodule(model, name), steps, outputs))
            for around, module in model.named_modules():
                inside = name.startswith(f"{around}." if around else "")
                if inside and isinstance(module, nn.TransformerEncoder):
                    # It reads the weights of its first layer's parts for a fused kernel.
                    module.use_nested_tensor = False
        close_ranks(model, gone.numbers, [name for name, *_ in gone.stand_ins])
    elif gone.elements:
        _shorten(submodule(model, gone.name), gone)
    else:
        submodule(model, gone.name)
        resize(model, gone.name, lambda items, i: items[:i] + items[i + 1 :])
    remember_gone(model, gone)


def put_in(model: nn.Module, name: str, module: nn.Module, *, instead: bool) -> str:
    """Put a module behind an element of a list (or, with a list's name and a dot, first in it), or
    instead of a module; and note it on the model. Returns its name.

    Raises:
        PruneError: there is no such element or module; the model may be half changed.
    """
    try:
        plain: Any = describe(module)
    except PruneError as error:
        plain = str(error)  # it matters to who saves the model, if anybody does
    else:
        forget_past(module)
    new = name
    if instead:
        old = submodule(model, name)
        numbers = {k: n for k, n in vars(old).items() if type(n) is int and NUMBERS.search(k)}
        for part in module.modules():
            for key, number in numbers.items():
                if type(vars(part).get(key)) is int:
                    vars(part)[key] = number
        put(model, name, module)
    else:
        submodule(model, name.removesuffix("."))
        new = resize(model, name, lambda items, i: [*items[: i + 1], module, *items[i + 1 :]])
    remember_gone(model, Put(name, instead, plain))
    return new


def elements(container: nn.Module) -> list[str]:
    """Names of the elements of a list that hold parameters; a dropout beside them does not."""
    return [k for k, m in container.named_children() if any(True for _ in m.parameters())]


def _shorten(container: nn.Module, gone: Gone) -> None:
    """Elements move up: code that counts through a list, or through names with numbers, goes on."""
    names = elements(container)
    if not set(gone.elements) <= set(range(len(names))):
        raise PruneError(f"{gone.name} has {len(names)} elements; {list(gone.elements)} would stay")
    items = [container._modules.pop(name) for name in names]
    container._modules.update(zip(names, (items[i] for i in gone.elements), strict=False))


def resize(
    model: nn.Module,
    name: str,
    change: Callable[[list[nn.Module], int], list[nn.Module]],
) -> str:
    """Change the list that `name` is in; counts, numbers and configuration follow.

    Returns the name behind `name` afterwards.
    """
    where, _, key = name.rpartition(".")
    container = model.get_submodule(where)
    if not is_list(container):
        raise PruneError(
            f"{name!r} is not an element of a ModuleList or Sequential but of "
            f"{type(container).__name__}"
        )
    keys = list(container._modules)
    before = [m for m in container._modules.values() if m is not None]
    at = keys.index(key) if key else -1
    numbered = _numbered(before)
    after = change(before, at)
    if not after:
        raise PruneError(f"{name}: the last element of {where or 'the model'} must stay")
    config = _stated(model, len(before), len(after), at) if configured(model) else None
    if keys == [str(i) for i in range(len(keys))]:
        names = [str(i) for i in range(len(after))]
    else:  # a Sequential with names of its own keeps them
        by_id = dict(zip(map(id, before), keys, strict=True))
        free = (str(i) for i in itertools.count() if str(i) not in keys)
        names = [by_id.get(id(m)) or next(free) for m in after]
    container._modules.clear()
    container._modules.update(zip(names, after, strict=True))
    _renumber(after, numbered)
    owner = model.get_submodule(where.rpartition(".")[0]) if where else model
    for attribute, value in list(vars(owner).items()):
        if type(value) is int and value == len(before) and _DEPTHS.search(attribute):
            vars(owner)[attribute] = len(after)
    if config is not None:
        _settle(model, config)
    return join(where, names[at + 1]) if at + 1 < len(names) else join(where, names[-1])


def _numbered(items: list[nn.Module]) -> list[tuple[str, str]]:
    """(module, attribute) inside the elements that hold the element's own number."""
    found: list[tuple[str, str]] = []
    if len(items) < 2:
        first = {(n, k) for n, m in items[0].named_modules() for k in vars(m)} if items else set()
        return [(n, k) for n, k in first if NUMBERS.search(k)]
    held: dict[tuple[str, str], dict[int, Any]] = {}
    for i, item in enumerate(items):
        for name, module in item.named_modules():
            for key, value in vars(module).items():
                if type(value) is int and NUMBERS.search(key):
                    held.setdefault((name, key), {})[i] = value
    for where, values in held.items():
        if all(value == i for i, value in values.items()):
            found.append(where)
    return found


def _renumber(items: list[nn.Module], numbered: list[tuple[str, str]]) -> None:
    for i, item in enumerate(items):
        parts = dict(item.named_modules())
        for name, key in numbered:
            state: dict[str, Any] = parts[name].__dict__ if name in parts else {}
            if type(state.get(key)) is int:
                state[key] = i


def close_ranks(model: nn.Module, gone: Mapping[str, list[int]], places: list[str]) -> None:
    """Numbers behind those that are gone move up, so that caches are filled from the first on.

    Where others work by a number that is gone, as attention to an encoder does beside
    self-attention, only those in like places move: each kind fills a cache of its own.
    """
    kinds = {_kind_of(name) for name in places}
    # Only who still works by that number counts: layers around keep theirs.
    working = [
        (any(inside(_kind_of(name), kind) for kind in kinds), vars(module))
        for name, module in model.named_modules()
        if not isinstance(module, Silent) and _attends(module)
    ]
    for key, numbers in gone.items():
        held = [(alike, state) for alike, state in working if type(state.get(key)) is int]
        shared = any(state[key] in numbers for _, state in held)
        for alike, state in held:
            if alike or not shared:
                state[key] -= sum(n < state[key] for n in numbers)


def _kind_of(name: str) -> str:
    """The place of a module, in whichever layer of its list: "block.#.attention"."""
    return ".".join("#" if part.isdigit() else part for part in name.split("."))


def _attends(module: nn.Module) -> bool:
    """Whether a module is one of those that fill a cache: it has no numbered parts of its own."""
    return not any(
        type(n) is int and NUMBERS.search(k)
        for part in module.modules()
        if part is not module
        for k, n in vars(part).items()
    )


def _stated(model: nn.Module, old: int, new: int, at: int) -> list[Any]:
    """Configurations in which a depth of `old` became `new`, nearest first."""
    base = model.config
    ints = [k for k, n in vars(base).items() if type(n) is int and n == old and _DEPTHS.search(k)]
    lists = [
        k
        for k, n in vars(base).items()
        if isinstance(n, (list, tuple)) and len(n) == old and _DEPTHS.search(k)
    ]
    out = []
    for size in (1, 2):
        for some in itertools.combinations(ints, size):
            changes: dict[tuple[Any, ...], Any] = {(k,): new for k in some}
            for key in lists:
                items = list(getattr(base, key))
                if new < old:
                    del items[at]
                else:
                    items.insert(at + 1, items[max(at, 0)])
                changes[(key,)] = type(getattr(base, key))(items)
            out.append(changed(base, changes))
    return out


def _settle(model: nn.Module, options: list[Any]) -> None:
    """Write the first configuration that describes the model.

    Where none does (parts were replaced before), its code still reads the lists of layers: then
    the change that leaves no choice is written, and otherwise nothing.
    """
    wanted = saved_shapes(model)
    for config in options:
        try:
            fresh = blueprint(type(model), read_back(config))
        except Exception:
            # What its class objects to is no option.
            continue
        if saved_shapes(fresh) == wanted:
            follow(model, fresh)
            followed(model.config, config)
            return
    if len(options) == 1:
        followed(model.config, options[0])
