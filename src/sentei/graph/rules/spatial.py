"""Pooling, resizing and sampling over trailing dimensions; channels pass through."""

from __future__ import annotations

import re
from typing import Any

from sentei.graph.rules.base import Traced, aten, pin, rule, same


def _over_space(n: int) -> Any:
    def apply(x: Traced, *rest: Any, **_: Any) -> Any:
        for axis in x.axes[x.ndim - n :]:
            pin(axis, "windows are taken along it")
        for tensor in rest:  # max_unpool: where each value came from
            if isinstance(tensor, Traced):
                for own, axis in zip(tensor.axes, x.axes, strict=True):
                    same(own, axis)
        out: list[Any] = [*x.axes[: x.ndim - n], *(None for _ in range(n))]
        return out, list(out)

    return apply


for _name in (
    "avg_pool adaptive_avg_pool adaptive_max_pool max_pool lp_pool max_pool_with_indices "
    "mkldnn_max_pool _adaptive_avg_pool upsample_nearest upsample_nearest_exact "
    "_upsample_nearest_exact upsample_linear upsample_bilinear upsample_bicubic upsample_trilinear "
    "_upsample_bilinear_aa _upsample_bicubic_aa max_unpool"
).split():
    for _n in (1, 2, 3):
        _match = re.fullmatch(r"(.*pool)(_with_indices)", _name)
        _full = (
            f"{_match[1]}{_n}d{_match[2]}"
            if _match
            else f"{_name[:-3]}{_n}d_aa"
            if _name.endswith("_aa")
            else f"{_name}{_n}d"
        )
        rule(getattr(aten, _full), getattr(aten, f"{_full}_with_indices"))(_over_space(_n))


@rule(aten.fractional_max_pool2d, aten.fractional_max_pool3d)
def _(x: Traced, *_: Any) -> Any:
    return None  # the windows are random, drawn for each channel


@rule(aten.grid_sampler, aten.grid_sampler_2d, aten.grid_sampler_3d)
def _(x: Traced, grid: Traced, *_: Any) -> Any:
    for axis in x.axes[2:]:
        pin(axis, "sampled by coordinates")
    for axis in grid.axes[1:]:
        pin(axis, "sampling grid")
    same(x.axes[0], grid.axes[0])
    return [*x.axes[:2], *(None for _ in range(x.ndim - 2))]


@rule(aten.affine_grid_generator)
def _(theta: Traced, *_: Any) -> Any:
    return None
