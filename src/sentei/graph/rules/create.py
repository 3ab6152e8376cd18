"""New tensors. Where all positions hold one value, any of them may go; positions that are counted
(arange, eye) stay."""

from __future__ import annotations

from typing import Any

from sentei.graph.rules.base import Traced, aten, free, in_training, need, rule


def _uniform(sizes: Any) -> Any:
    out: list[Any] = []
    for size in sizes:
        axis = free(size)
        need(size, axis)
        out.append(axis)
    return out


@rule(aten.zeros, aten.ones, aten.empty, aten.full)
def _(sizes: Any = (), *_: Any, **__: Any) -> Any:
    return _uniform(sizes)


@rule(aten.randn, aten.rand)
def _(sizes: Any, *_: Any, **__: Any) -> Any:
    # As with `randn_like`: other noise is as good in training.
    return _uniform(sizes) if in_training() else None


@rule(aten.empty_strided)
def _(sizes: Any, *_: Any, **__: Any) -> Any:
    return [None] * len(sizes)


@rule(aten.new_empty_strided)
def _(x: Traced, sizes: Any, *_: Any, **__: Any) -> Any:
    return [None] * len(sizes)


@rule(aten.new_zeros, aten.new_ones, aten.new_empty, aten.new_full)
def _(x: Traced, sizes: Any = (), *_: Any, **__: Any) -> Any:
    return _uniform(sizes)


@rule(aten.arange, aten.linspace, aten.logspace, aten.range, aten.eye, aten.randperm,
      aten.randint, aten.tril_indices, aten.triu_indices, aten.hann_window, aten.hamming_window,
      aten.scalar_tensor, aten._efficientzerotensor)  # fmt: skip
def _(*_: Any, **__: Any) -> Any:
    return None
