"""Tensors as operators see them: their form, their memory, and what stands for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = [
    "LEAVES",
    "Form",
    "as_meta",
    "as_zeros",
    "has_memory",
    "is_float",
    "map_tensors",
    "storage_key",
]

LEAVES = frozenset({int, float, bool, str, type(None), torch.dtype, torch.memory_format})


def map_tensors(tree: Any, fn: Callable[[Tensor], Any]) -> Any:
    """The tree with `fn` of each tensor in it.

    >>> map_tensors(("a", [torch.ones(2)]), len)
    ('a', [2])
    """
    kind = type(tree)
    if kind in LEAVES:
        return tree
    if isinstance(tree, Tensor):
        return fn(tree)
    if kind is list:
        return [map_tensors(x, fn) for x in tree]
    if kind is tuple:
        return tuple([map_tensors(x, fn) for x in tree])
    if type(tree) is dict:
        return {k: map_tensors(x, fn) for k, x in tree.items()}
    if isinstance(tree, tuple):  # named tuples of torch.return_types
        return tuple(map_tensors(x, fn) for x in tree)
    return tree


def is_float(tensor: Tensor) -> bool:
    """Real or complex?"""
    return tensor.is_floating_point() or tensor.is_complex()


def has_memory(tensor: Tensor) -> bool:
    """Does it have memory of its own, to be known by?"""
    return (
        type(tensor) in (Tensor, nn.Parameter)
        and tensor.layout is torch.strided
        and not tensor.is_meta
        and tensor.numel() > 0
    )


def storage_key(tensor: Tensor) -> Any:
    """What tells a tensor's memory, and its view of it, from others."""
    return tensor.data_ptr(), tuple(tensor.size()), tensor.stride(), tensor.dtype


def as_meta(tensor: Tensor) -> Tensor:
    """A tensor of the same form without contents."""
    if tensor.is_meta:
        return tensor
    if tensor.layout is not torch.strided:
        return torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
    return torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device="meta")


def as_zeros(tensor: Tensor) -> Tensor:
    """Itself, or zeros where it has no contents."""
    return torch.zeros(tensor.shape, dtype=tensor.dtype) if tensor.is_meta else tensor


class Form:
    """All that an operator can learn of a tensor without contents. One object of each: use `is`.

    plain: `tensor()` makes its like: one that has its memory to itself.
    """

    __slots__ = ("dtype", "plain", "shape", "stride")

    def __init__(self, shape: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype) -> None:
        self.shape, self.stride, self.dtype = shape, stride, dtype
        self.plain = False

    @staticmethod
    def of(tensor: Tensor) -> Form | None:
        """None where the contents matter, or a class or layout of its own."""
        kind = type(tensor)
        if not (kind is Tensor or kind is nn.Parameter) or tensor.layout is not torch.strided:
            return None
        if not is_float(tensor):
            return None
        shape, stride, dtype = tuple(tensor.size()), tensor.stride(), tensor.dtype
        # Views of it tell where its memory begins and ends, and whether inference mode made it.
        extent: tuple[Any, Any] = (0, -1)
        if tensor.is_meta:
            extent = tensor.storage_offset(), tensor.untyped_storage().nbytes()
        key = shape, stride, dtype, tensor.is_inference(), *extent
        form = _FORMS.get(key)
        if form is None:
            if len(_FORMS) >= 4096:
                _FORMS.clear()
            form = _FORMS[key] = Form(shape, stride, dtype)
            own = (0, form.tensor().untyped_storage().nbytes())
            form.plain = extent == own and tensor.is_inference()
        return form

    def tensor(self) -> Tensor:
        return torch.empty_strided(self.shape, self.stride, dtype=self.dtype, device="meta")


_FORMS: dict[Any, Form] = {}
