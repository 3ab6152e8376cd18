from dataclasses import replace

import torch

from sentei.allocation.weights import select
from sentei.hooks.scores import BernoulliMask
from sentei.methods.base import method
from sentei.methods.lottery.values import signed_constant
from sentei.methods.setting import Setting
from sentei.structures import Masks

__all__ = ["learned_supermask"]


@method(
    "learned-supermask",
    title="Deconstructing Lottery Tickets: Zeros, Signs, and the Supermask",
    authors="Zhou, Lan, Liu, Yosinski",
    venue="NeurIPS",
    year=2019,
    arxiv="1905.01067",
    family="lottery",
    structure="weight",
    timing="during",
    starts="initial",
    needs=("data", "labels", "gradients", "training"),
    card="C6",
    lineage=("supermask",),
)
def learned_supermask(
    setting: Setting, *, lr: float = 100.0, constant: bool = True, rescale: bool = True
) -> Masks:
    """Learn the probability that each weight of a random network is kept.

    Masks are drawn from Bernoulli(sigmoid(v)) at every step and only v is trained, straight
    through the draw; see `BernoulliMask`. In the end the share asked for with the largest v stays.

    Args:
        lr: of the scores, as in the paper: their gradients are tiny.
        constant: weights are ± one value per layer with their initial signs (found best).
        rescale: dynamic weight rescaling, in training and of what is left in the end.

    Source: section 5. The paper samples at test time as well and meets no given density; the final
    top-k is ours.
    """
    setting.need_data()
    weights = setting.weights
    if constant:
        with torch.no_grad():
            for weight in weights.values():
                weight.copy_(signed_constant(weight))
    hook = BernoulliMask(weights, rescale=rescale, momentum=0.0, seed=setting.seed)
    setting.train([hook], recipe=replace(setting.recipe, lr=lr))
    masks = select(hook.scores, setting.keep, "global")
    with torch.no_grad():
        for name, mask in masks.items():
            weights[name].copy_(hook.frozen[name] * mask * hook.scale(mask))
    masks.apply_(setting.model)
    return masks
