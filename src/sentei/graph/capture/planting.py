"""Put numbers that know where they live in the place of those that modules hold."""

from __future__ import annotations

import types
from collections.abc import Iterable, Sequence
from operator import is_
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from sentei.graph.capture.settings import (
    ATOMS,
    INTERNAL,
    Settings,
    holds_settings,
    put_back,
    settings,
)
from sentei.graph.conversions import converting
from sentei.graph.literals import planted
from sentei.graph.stock import STAND_INS, documented_sizes
from sentei.graph.tape import AttributeKey, Symbol

__all__ = [
    "adopt_stand_ins",
    "plant_conversions",
    "plant_literals",
    "plant_symbols",
    "put_back_configs",
    "stock_sizes",
]

_touched_configs: list[tuple[Any, Settings]] = []  # since they were last put back


def put_back_configs() -> None:
    """Undo what planting did to settings objects, which modules may share."""
    while _touched_configs:
        put_back(*_touched_configs.pop())


def adopt_stand_ins(modules: Iterable[nn.Module]) -> None:
    """Turn stock modules that cannot express a pruned result into those that can, in place."""
    for module in modules:
        stand_in = STAND_INS.get(type(module))
        if stand_in is not None:
            stand_in.adopt(module)


def plant_symbols(modules: Sequence[tuple[str, nn.Module]]) -> dict[AttributeKey, int]:
    """Replace the integers that modules hold by `Symbol`s; tells where each lives."""
    attributes: dict[AttributeKey, int] = {}
    seen: set[int] = set()
    adopt_stand_ins(module for _, module in modules)
    for name, module in modules:
        if isinstance(module, torch.jit.ScriptModule):
            continue
        state = vars(module)
        new = {
            key: _wrap(value, name, (key,), attributes, seen, 4)
            for key, value in state.items()
            if type(value) not in ATOMS and key not in INTERNAL
        }
        state.update(new)
    return attributes


def stock_sizes(modules: Sequence[tuple[str, nn.Module]]) -> dict[AttributeKey, tuple[str, int]]:
    """The attributes of stock modules that are the size of one of their tensors."""
    return {
        AttributeKey(name, (attribute,)): (f"{name}.{tensor}" if name else tensor, dim)
        for name, module in modules
        for attribute, (tensor, dim, times) in documented_sizes(module).items()
        if times == 1
    }


def plant_literals(
    modules: Sequence[tuple[str, nn.Module]], wanted: frozenset[int]
) -> dict[AttributeKey, int]:
    """Put `Symbol`s in the place of numbers in the code; tells where each stands."""
    found: dict[AttributeKey, int] = {}
    for name, module in modules:

        def make(path: tuple[Any, ...], number: int, name: str = name) -> int:
            key = AttributeKey(name, path)
            found[key] = number
            return Symbol.make(number, ("attribute", key))

        for method, made in planted(module, wanted, make).items():
            bound = isinstance(made, types.MethodType)
            function = converting(made.__func__ if bound else made)
            vars(module)[method] = types.MethodType(function, module) if bound else function
    return found


def plant_conversions(modules: Sequence[tuple[str, nn.Module]]) -> None:
    """Let `int` and `float` remember in the methods of the model's own modules."""
    known: dict[type, dict[str, types.FunctionType]] = {}
    for _, module in modules:
        kind = type(module)
        if kind not in known:
            script = isinstance(module, torch.jit.ScriptModule)
            known[kind] = {} if script else _conversions(kind)
        for name, function in known[kind].items():
            vars(module).setdefault(name, types.MethodType(function, module))


def _conversions(kind: type) -> dict[str, types.FunctionType]:
    """The methods of a class that convert numbers, with others in their place."""
    names = _CONVERTERS.get(kind)
    if names is None:
        names = _CONVERTERS[kind] = [n for n, m in _methods(kind).items() if converting(m) is not m]
    return {name: converting(_methods(kind)[name]) for name in names}


# Of classes whose methods were looked through, those that convert numbers.
_CONVERTERS: WeakKeyDictionary[type, list[str]] = WeakKeyDictionary()


def _methods(kind: type) -> dict[str, types.FunctionType]:
    """What a class answers to in code of the model's authors."""
    found: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.partition(".")[0] not in ("torch", "builtins"):
            found |= vars(base)
    return {
        name: method
        for name, method in found.items()
        if type(method) is types.FunctionType and name[:2] != "__"
    }


def _wrap(
    value: Any,
    module: str,
    path: tuple[Any, ...],
    found: dict[AttributeKey, int],
    seen: set[int],
    depth: int,
) -> Any:
    """The value with a `Symbol` for each integer in it; itself where it has none."""
    kind = type(value)
    if kind is int:
        key = AttributeKey(module, path)
        found[key] = value
        return Symbol.make(value, ("attribute", key))
    if kind in ATOMS or depth == 0 or isinstance(value, (Tensor, nn.Module)):
        return value
    if isinstance(value, tuple) or kind is list:
        items = [_wrap(x, module, (*path, i), found, seen, depth - 1) for i, x in enumerate(value)]
        if all(map(is_, items, value)):
            return value
        return items if kind is list else kind(*items) if hasattr(value, "_fields") else kind(items)
    if kind is dict:
        pairs = {k: _wrap(x, module, (*path, k), found, seen, depth - 1) for k, x in value.items()}
        return pairs if any(pairs[k] is not value[k] for k in value) else value
    if holds_settings(value) and id(value) not in seen:
        seen.add(id(value))
        held = settings(value)
        attributes, entries = held
        _touched_configs.append((value, held))
        state = vars(value)
        for k, x in attributes.items():
            state[k] = _wrap(x, module, (*path, k), found, seen, depth - 1)
        for k, x in entries.items():  # `config["width"]` is `config.width` where it has both
            if k not in attributes:
                x = _wrap(x, module, (*path, k), found, seen, depth - 1)
            elif attributes[k] is x or (type(x) is int and attributes[k] == x):
                x = state[k]
            dict.__setitem__(value, k, x)
    return value
