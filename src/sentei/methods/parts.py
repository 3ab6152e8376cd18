"""Sentences that methods are made of."""

from __future__ import annotations

from collections.abc import Mapping

from sentei.allocation.weights import select
from sentei.criteria.weights import Saliency, weigh
from sentei.methods.setting import Setting
from sentei.structures import Masks

__all__ = ["one_shot"]


def one_shot(
    setting: Setting, saliency: str | Saliency, scope: str | Mapping[str, float] = "global"
) -> Masks:
    """Score once, keep the setting's density of the best, and set the others to zero."""
    masks = select(weigh(saliency, setting.evidence()), setting.keep, scope)
    masks.apply_(setting.model)
    return masks
