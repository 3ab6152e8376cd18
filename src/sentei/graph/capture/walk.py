"""What a model holds, by name; the tensors inside anything."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

from torch import Tensor, nn

__all__ = [
    "named_modules",
    "named_parameters",
    "named_tensors",
    "tensors_in",
    "tensors_of",
    "unwrap",
]


def unwrap(model: nn.Module) -> nn.Module:
    """The user's module inside `torch.compile`, DataParallel, DDP or FSDP wrappers."""
    inner: Any = model
    while True:
        if hasattr(inner, "_orig_mod"):
            inner = inner._orig_mod
        elif type(inner).__name__ in {
            "DataParallel",
            "DistributedDataParallel",
            "FullyShardedDataParallel",
        }:
            inner = inner.module
        else:
            return cast(nn.Module, inner)


def named_tensors(model: nn.Module) -> dict[str, tuple[str, Tensor]]:
    """name -> (origin, tensor) for parameters, buffers and plain tensor attributes, each once."""
    return tensors_of(named_modules(model))


def tensors_of(modules: Sequence[tuple[str, nn.Module]]) -> dict[str, tuple[str, Tensor]]:
    """`named_tensors` of a model whose modules are known by name already."""
    found: dict[str, tuple[str, Tensor]] = {}
    seen: set[int] = set()
    stores: tuple[tuple[str, Callable[[nn.Module], Any]], ...] = (
        ("parameter", lambda module: module._parameters),
        ("buffer", lambda module: module._buffers),
        ("attribute", vars),
    )
    for origin, store in stores:
        for prefix, module in modules:
            for key, value in [kv for kv in store(module).items() if isinstance(kv[1], Tensor)]:
                if id(value) not in seen:
                    seen.add(id(value))
                    found[f"{prefix}.{key}" if prefix else key] = (origin, value)
    return found


def named_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """`dict(model.named_parameters())`, a shared one once."""
    found: dict[int, tuple[str, nn.Parameter]] = {}
    for prefix, module in named_modules(model):
        for name, parameter in module._parameters.items():
            if parameter is not None and id(parameter) not in found:
                found[id(parameter)] = (f"{prefix}.{name}" if prefix else name, parameter)
    return dict(found.values())


def named_modules(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """`list(model.named_modules())`, without a generator for every level of nesting."""
    found: list[tuple[str, nn.Module]] = []
    seen: set[int] = set()
    stack: list[tuple[str, nn.Module]] = [("", model)]
    while stack:
        name, module = stack.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        found.append((name, module))
        dot = f"{name}." if name else ""
        children = [(dot + key, m) for key, m in module._modules.items() if m is not None]
        stack += reversed(children)
    return found


def tensors_in(tree: Any, path: str = "", depth: int = 8) -> Iterator[tuple[str, Tensor]]:
    """(path, tensor) for the tensors inside nested containers, dataclasses and plain objects."""
    if isinstance(tree, Tensor):
        yield path, tree
    elif depth == 0 or tree is None or isinstance(tree, (str, bytes, int, float, nn.Module, type)):
        return
    elif isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from tensors_in(value, f"{path}.{key}" if path else str(key), depth - 1)
    elif isinstance(tree, (list, tuple, set)):
        for i, value in enumerate(tree):
            yield from tensors_in(value, f"{path}[{i}]", depth - 1)
    elif dataclasses.is_dataclass(tree) or hasattr(tree, "__dict__"):
        if isinstance(tree, (types.FunctionType, types.ModuleType)):
            return
        for key, value in vars(tree).items():
            yield from tensors_in(value, f"{path}.{key}" if path else key, depth - 1)
