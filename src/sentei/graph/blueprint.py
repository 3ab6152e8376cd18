"""Networks built from a configuration, without weights; models that follow a configuration.

A model that carries `config` (Hugging Face's way) is described by it: `type(model)(config)` has the
same shapes. What is changed in such a model should be changed in its configuration, or nobody can
build it again. No library is imported here: a configuration is what has `to_dict`.
"""

from __future__ import annotations

import copy
import inspect
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from sentei.graph.capture import named_tensors, unwrap

__all__ = [
    "ABSENT", "Path", "blueprint", "changed", "configured", "follow", "followed", "get_field",
    "read_back", "saved_shapes", "weightless",
    "without_cache",
]  # fmt: skip

Path = tuple[Any, ...]  # attribute names, list positions and keys, from a configuration inwards
ABSENT: Any = object()  # as the value of a field: the configuration does not have it


def configured(model: nn.Module) -> bool:
    """Whether the model carries a configuration from which its class builds it.

    >>> configured(nn.Linear(2, 2))
    False
    """
    return is_config(getattr(unwrap(model), "config", None))


def is_config(value: Any) -> bool:
    return callable(getattr(value, "to_dict", None)) and not isinstance(value, type)


def blueprint(kind: Callable[[Any], nn.Module], config: Any) -> nn.Module:
    """The network that `config` describes, in eval mode, its parameters without memory.

    Buffers are real: some are computed from the configuration and never saved.
    """
    with weightless(), warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        return kind(copy.deepcopy(config)).eval()


@contextmanager
def weightless() -> Iterator[None]:
    """Parameters go to the meta device as modules register them, before they are initialised.

    >>> with weightless():
    ...     net = nn.Linear(10, 10)
    >>> net.weight.is_meta
    True
    """
    original = nn.Module.register_parameter
    # A parameter that two modules share must stay one parameter.
    known: dict[int, tuple[Any, nn.Parameter]] = {}

    def register(self: nn.Module, name: str, param: nn.Parameter | None) -> None:
        if param is not None and not param.is_meta:
            before = known.get(id(param))
            if before is not None and before[0]() is param:
                param = before[1]
            else:
                twin = nn.Parameter(param.detach().to("meta"), param.requires_grad)
                known[id(param)] = (weakref.ref(param), twin)
                param = twin
        original(self, name, param)

    nn.Module.register_parameter = register  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.register_parameter = original  # type: ignore[method-assign]


def saved_shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Shapes of what is saved, each tensor once."""
    saved = model.state_dict().keys()
    return {
        name: tuple(tensor.shape)
        for name, (_, tensor) in named_tensors(model).items()
        if name in saved
    }


def without_cache(
    model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The call, asking a Hugging Face model not to return its cache unless the caller asks for it.

    A cache holds keys and values of each layer for the next call. It is no result whose shape
    somebody relies on; kept as an output, it would pin the heads.
    """
    model = unwrap(model)
    if not configured(model) or not getattr(model.config, "use_cache", False):
        return args, dict(kwargs)
    try:
        signature = inspect.signature(model.forward)
        bound = signature.bind_partial(*args, **kwargs).arguments
    except (TypeError, ValueError):  # forward itself will say what is wrong
        return args, dict(kwargs)
    rest = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    known = rest or "use_cache" in signature.parameters
    given = "use_cache" in bound or "use_cache" in kwargs
    if not known or given or bound.get("past_key_values") is not None:
        return args, dict(kwargs)
    return args, {**kwargs, "use_cache": False}


# -- fields ---------------------------------------------------------------------------------------
def get_field(config: Any, path: Path) -> Any:
    """The value at a path; None where there is none."""
    for step in path:
        inside = isinstance(config, (list, tuple, dict))
        config = config[step] if inside else getattr(config, step, None)
    return config


def changed(config: Any, changes: Mapping[Path, Any]) -> Any:
    """A copy with other values at these paths."""
    config = copy.deepcopy(config)
    for path, value in changes.items():
        _set(config, path, value)
    return config


def _set(config: Any, path: Path, value: Any) -> None:
    *way, last = path
    owner = get_field(config, tuple(way))
    if isinstance(owner, tuple):
        _set(config, tuple(way), (*owner[:last], value, *owner[last + 1 :]))
    elif isinstance(owner, (list, dict)):
        owner[last] = value
    elif value is ABSENT:
        vars(owner).pop(last, None)
    else:
        setattr(owner, last, value)


def read_back(config: Any) -> Any:
    """The configuration as a reader of its file will see it.

    Raises:
        Exception: whatever its class objects to.
    """
    read = type(config).from_dict(config.to_dict())
    for choice in ("_attn_implementation", "_experts_implementation"):  # not written to files
        if getattr(config, choice, None) is not None and hasattr(read, choice):
            setattr(read, choice, getattr(config, choice))
    return read


# -- models that follow ---------------------------------------------------------------------------
def followed(old: Any, new: Any) -> Any:
    """The object `old` with the fields of `new` that differ."""
    for key, value in vars(new).items():
        was = vars(old).get(key)
        if is_config(value) and was is not None:
            followed(was, value)
        elif type(value) in (int, list, tuple, dict, type(None)) and value != was:
            vars(old)[key] = copy.deepcopy(value)
    return old


def follow(model: nn.Module, fresh: nn.Module) -> None:
    """Integers and configurations that every module of `model` holds become those of `fresh`."""
    others = dict(fresh.named_modules())
    for name, module in model.named_modules():
        other = others.get(name)
        if other is None or type(other) is not type(module):
            continue
        for key, value in vars(other).items():
            was = vars(module).get(key)
            if type(value) is int and type(was) is int and value != was:
                vars(module)[key] = value
            elif type(value) is tuple and type(was) is tuple and value != was:
                if all(type(n) is int for n in (*value, *was)):
                    vars(module)[key] = value
            elif key == "config" and is_config(value) and was is not None:
                followed(was, value)
