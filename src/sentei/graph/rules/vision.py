"""torchvision's own operators."""

from __future__ import annotations

from typing import Any

import torch

from sentei.graph.rules.base import Traced, factor, pin, rule, same

# The packets exist once torchvision is imported; before that no model can use them.
_ops = torch.ops.torchvision


def register() -> None:
    """Add the rules; called when a tape holds an operator of this namespace."""
    rule(_ops.nms)(lambda boxes, scores, threshold: None)

    @rule(_ops.roi_align, _ops.roi_pool)
    def _(x: Traced, rois: Traced, *_: Any) -> Any:
        for axis in [x.axes[0], *x.axes[2:], *rois.axes]:
            pin(axis, "regions are pooled from it")
        return [None, x.axes[1], None, None], [None, x.axes[1], None, None]

    @rule(_ops.ps_roi_align, _ops.ps_roi_pool)
    def _(x: Traced, *_: Any) -> Any:
        return None

    @rule(_ops.deform_conv2d)
    def _(x: Traced, weight: Traced, offset: Traced, mask: Traced, bias: Traced, *rest: Any) -> Any:
        groups, offset_groups = rest[6], rest[7]
        if groups > 1:
            outer, inner = factor(x.axes[1], groups)
            same(inner, weight.axes[1])
            out_outer, _ = factor(weight.axes[0], groups)
            same(outer, out_outer)
            pin(outer, "groups of a deformable convolution")
        else:
            same(x.axes[1], weight.axes[1])
        if offset_groups > 1:
            pin(x.axes[1], "offset groups of a deformable convolution")
        same(bias.axes[0], weight.axes[0])
        fixed = [x.axes[2:], weight.axes[2:], offset.axes[1:], mask.axes[1:]]
        for axis in [a for axes in fixed for a in axes]:
            pin(axis, "positions of a deformable convolution")
        same(x.axes[0], offset.axes[0])
        if mask.shape[0] == x.shape[0]:
            same(x.axes[0], mask.axes[0])
        return [x.axes[0], weight.axes[0], None, None]
