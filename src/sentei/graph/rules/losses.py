"""Losses, for models that return one: classes and targets are given from outside, and stay."""

from __future__ import annotations

from typing import Any

from sentei.graph.rules.base import Traced, aten, pin, rule


@rule(aten.cross_entropy_loss, aten.nll_loss, aten.nll_loss_nd, aten.nll_loss2d, aten.ctc_loss,
      aten.binary_cross_entropy, aten.binary_cross_entropy_with_logits, aten.kl_div,
      aten.mse_loss, aten.l1_loss, aten.smooth_l1_loss, aten.huber_loss, aten.soft_margin_loss,
      aten.multi_margin_loss, aten.multilabel_margin_loss, aten.poisson_nll_loss,
      aten.triplet_margin_loss, aten.cosine_embedding_loss, aten.hinge_embedding_loss,
      aten.margin_ranking_loss)  # fmt: skip
def _(*tensors: Any, **_: Any) -> Any:
    for tensor in tensors:
        for axis in tensor.axes if isinstance(tensor, Traced) else ():
            pin(axis, "a loss is taken over it")
    return None
