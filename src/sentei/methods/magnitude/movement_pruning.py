from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from sentei.allocation.weights import select
from sentei.graph.errors import PruneError
from sentei.hooks.movement import ScoreHook, SoftScoreHook, threshold
from sentei.methods.base import method
from sentei.methods.parts import planned_steps
from sentei.methods.setting import Setting
from sentei.schedules import Cubic
from sentei.structures import Masks
from sentei.structures import block as blocks

__all__ = ["movement_pruning", "soft_movement"]

FACTS = {
    "title": "Movement Pruning: Adaptive Sparsity by Fine-Tuning",
    "authors": "Sanh, Wolf, Rush",
    "venue": "NeurIPS",
    "year": 2020,
    "arxiv": "2005.07683",
    "family": "magnitude",
    "structure": "weight",
    "timing": "during",
    "starts": "trained",
    "needs": ("data", "labels", "gradients", "training"),
    "card": "A12",
}


def _density(steps: int, keep: float, warmup: float, cooldown: float) -> Cubic:
    if not 0 <= warmup + cooldown < 1:
        raise PruneError(
            f"warmup and cooldown are shares of the training, less than 1 together; got "
            f"{warmup:g} and {cooldown:g}"
        )
    return Cubic(1 - keep, round(warmup * steps), round((1 - cooldown) * steps))


@method("movement-pruning", lineage=("agp",), **FACTS)
def movement_pruning(
    setting: Setting,
    *,
    lr: float = 1e-2,
    optimizer: str = "adam",
    scope: str = "uniform",
    warmup: float = 0.1,
    cooldown: float = 0.3,
) -> Masks:
    """Learn a score per weight while fine-tuning, and keep the highest scores of each matrix.

    W' = W * Top_v(S);  dL/dS = dL/dW' * W (straight through), so S = -α Σ_t (dL/dW')_t W_t: what
    moves away from zero gains. v falls along a cubic from 1 to the density (section 4).

    The fine-tuning is the setting's recovery. S starts at 0; of equal scores the later stay.

    Args:
        lr, optimizer: for the scores.
        scope: "uniform" ranks inside each matrix as in the paper; "hxw" learns a score per block.
        warmup, cooldown: shares of the training at v = 1 and at the final v.
    """
    block = blocks.parse(scope)
    steps = planned_steps(setting, setting.tuning)
    sparsity = _density(steps, setting.keep, warmup, cooldown)

    def choose(step: int, scores: Mapping[str, Tensor]) -> Masks:
        return select(scores, 1 - sparsity(step), scope)

    hook = ScoreHook(setting.weights, choose, lr=lr, optimizer=optimizer, block=block)
    setting.train([hook], recipe=setting.tuning)
    hook.masks.apply_(setting.model)
    return hook.masks


@method("soft-movement", lineage=("movement-pruning",), **FACTS)
def soft_movement(
    setting: Setting,
    *,
    lr: float = 1e-2,
    optimizer: str = "adam",
    tau: float = 0.1,
    strength: float = 30.0,
    warmup: float = 0.1,
    cooldown: float = 0.3,
    exact: bool = True,
) -> Masks:
    """Learn a score per weight while fine-tuning, and keep what passes a threshold.

    W' = W * 1[sigmoid(S) > τ(t)], loss + λ(t) · mean(sigmoid(S)), the mean over each matrix and
    then over matrices; τ and λ rise from 0 along the same cubic. At least 0.5 % of each matrix
    stays (section 4; appendix).

    The fine-tuning is the setting's recovery. Layers find densities of their own.

    Args:
        tau, strength: the final τ and λ.
        exact: for the last part of the training keep the highest scores of all layers at exactly
            the setting's density; otherwise it is whatever τ and λ lead to.
    """
    steps = planned_steps(setting, setting.tuning)
    rise = _density(steps, 0.0, warmup, cooldown)

    def choose(step: int, scores: Mapping[str, Tensor]) -> Masks:
        if exact and step >= rise.end:
            return select(scores, setting.keep, "global")
        return threshold(scores, tau * rise(step))

    hook = SoftScoreHook(
        setting.weights,
        choose,
        lambda step: strength * rise(step),
        lr=lr,
        optimizer=optimizer,
    )
    setting.train([hook], recipe=setting.tuning)
    hook.masks.apply_(setting.model)
    return hook.masks
