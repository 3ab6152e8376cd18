from dataclasses import replace

import torch

from sentei.graph.errors import PruneError
from sentei.hooks.scores import EdgePopup
from sentei.methods.base import method
from sentei.methods.lottery.values import signed_constant
from sentei.methods.setting import Setting
from sentei.structures import Masks

__all__ = ["edge_popup"]


@method(
    "edge-popup",
    title="What's Hidden in a Randomly Weighted Neural Network?",
    authors="Ramanujan, Wortsman, Kembhavi, Farhadi, Rastegari",
    venue="CVPR",
    year=2020,
    arxiv="1911.13299",
    family="lottery",
    structure="weight",
    timing="during",
    starts="initial",
    needs=("data", "labels", "gradients", "training"),
    card="C5",
    lineage=("lth-imp", "supermask"),
)
def edge_popup(
    setting: Setting,
    *,
    values: str = "signed-constant",
    lr: float = 0.1,
    weight_decay: float = 1e-4,
) -> Masks:
    """Find a good subnetwork of a random network without ever training a weight.

    Each weight has a score s; the forward pass uses W ⊙ h, h = 1 for the share k of each layer
    with the largest |s|, and s <- s - lr · dL/dW' · W · sign(s). See `EdgePopup`. No parameter of
    the model is trained: biases and norms stay as they were drawn.

    Args:
        values: "signed-constant", sign(w) · sqrt(2 / (k · fan in)), which works best (section 4.5);
            or "as-is", the model's own random weights.
        lr, weight_decay: of the scores; epochs and schedule are the recipe's.

    Source: section 3. Every layer keeps n - int((1 - k) n) weights, as in the reference code.
    """
    if values not in ("signed-constant", "as-is"):
        raise PruneError(f"values are 'signed-constant' or 'as-is'; got {values!r}")
    setting.need_data()
    density = setting.keep
    if density <= 0:
        raise PruneError("edge-popup needs a density above 0")
    if values == "signed-constant":
        with torch.no_grad():
            for weight in setting.weights.values():
                weight.copy_(signed_constant(weight, density))
    hook = EdgePopup(setting.weights, density, weight_decay=weight_decay, seed=setting.seed)
    setting.train([hook], recipe=replace(setting.recipe, lr=lr))
    return hook.masks
