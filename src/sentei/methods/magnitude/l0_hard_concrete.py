from sentei.allocation.weights import select
from sentei.hooks.hard_concrete import HardConcrete
from sentei.methods.base import method
from sentei.methods.setting import Setting
from sentei.structures import Masks

__all__ = ["l0_hard_concrete"]


@method(
    "l0-hard-concrete",
    title="Learning Sparse Neural Networks through L0 Regularization",
    authors="Louizos, Welling, Kingma",
    venue="ICLR",
    year=2018,
    arxiv="1712.01312",
    family="magnitude",
    structure="weight",
    timing="during",
    starts="initial",
    needs=("data", "labels", "gradients", "training"),
    card="A5",
)
def l0_hard_concrete(
    setting: Setting, *, strength: float = 1.0, lr: float = 1e-2, start: float = 2.0
) -> Masks:
    """Learn a stochastic gate for each weight, and pay for those that are likely open.

    W' = W z, z = clip(s (ζ - γ) + γ, 0, 1) with s binary concrete; loss + λ mean of P(z > 0)
    (eqs. 10 to 13). At the end weights are multiplied by their gates at test time, and those of
    the largest log α stay, over all layers, at exactly the setting's density; then the recovery.

    Args:
        strength: λ; lr: Adam's for log α; start: log α at first, 2 for gates nearly open.
    """
    hook = HardConcrete(setting.weights, strength=strength, lr=lr, start=start, seed=setting.seed)
    setting.train([hook])
    masks = select(hook.log_alpha, setting.keep)
    masks.apply_(setting.model)
    setting.recover(masks)
    return masks
