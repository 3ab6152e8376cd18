"""Objects that hold a model's settings, and what of a module is no setting."""

from __future__ import annotations

import types
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["ATOMS", "INTERNAL", "Settings", "holds_settings", "put_back", "settings"]

INTERNAL = frozenset(vars(nn.Module())) | {
    "_flat_weights", "_flat_weights_names", "_flat_weight_refs", "_all_weights",
}  # fmt: skip


ATOMS = frozenset({bool, float, str, bytes, type(None), type, torch.dtype, torch.device,
                    types.FunctionType,
                    types.BuiltinFunctionType, types.MethodType, nn.Parameter, Tensor})  # fmt: skip


Settings = tuple[dict[str, Any], dict[Any, Any]]
"""The attributes of an object, and the items where it is a mapping as well."""


def settings(owner: Any) -> Settings:
    """A copy of what a settings object holds.

    >>> settings(types.SimpleNamespace(width=3))
    ({'width': 3}, {})
    """
    return dict(vars(owner)), dict(owner) if isinstance(owner, dict) else {}


def put_back(owner: Any, saved: Settings) -> None:
    """Undo what was done to a settings object since `saved = settings(owner)`.

    Mappings may refuse to be written to, so that the class itself is asked; keys stay the same.
    """
    attributes, items = saved
    vars(owner).clear()
    vars(owner).update(attributes)
    for key, item in items.items():
        dict.__setitem__(owner, key, item)


def holds_settings(value: Any) -> bool:
    """Plain objects that hold settings: Hugging Face configurations, dataclasses, namespaces."""
    if callable(value) or not hasattr(value, "__dict__"):
        return False
    home = type(value).__module__.split(".")[0]
    return home not in ("torch", "builtins", "numpy", "weakref", "threading", "functools")
