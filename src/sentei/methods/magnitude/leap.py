from sentei.graph.errors import PruneError
from sentei.hooks.leap import RatioHook
from sentei.methods.base import method
from sentei.methods.parts import planned_steps
from sentei.methods.setting import Setting
from sentei.structures import Masks

__all__ = ["leap"]


@method(
    "leap",
    title="LEAP: Learnable Pruning for Transformer-based Models",
    authors="Yao, Wu, Ma, Shen, Keutzer, Mahoney, He",
    venue="arXiv",
    year=2021,
    arxiv="2105.14636",
    family="magnitude",
    structure="weight",
    timing="during",
    starts="trained",
    needs=("data", "labels", "gradients", "training"),
    card="A9",
    lineage=("movement-pruning",),
)
def leap(
    setting: Setting,
    *,
    lr: float = 1e-2,
    ratio_lr: float = 1e-2,
    temperature: float = 1.0,
    start: float = 10.0,
    most: float = 3000.0,
    least: float = 50.0,
    settle: float = 0.9,
) -> Masks:
    """Learn how much of each matrix stays; the target of the whole is the one thing to set.

    k_i = sigmoid(σ_i / T) of matrix i stays, by learned scores as in movement pruning; the loss
    gains λ (R - R_target)² while the share R of all is above the target, with
    λ = max(λ_max L_reg / (1 - R_target)², λ_min) (section 3). See `sentei.hooks.leap.RatioHook`.

    In a network of linear layers and ReLUs Σ dL/dM * M is nearly the same for every matrix: there
    the sizes of the matrices tell their ratios apart, small ones staying denser.

    The fine-tuning is the setting's recovery. The pull fades near the target, so that R comes to
    rest a little above it: from `settle` on the ratios are frozen, scaled to the density exactly.

    Args:
        lr, ratio_lr: Adam's, for the scores and for σ.
        temperature, start: T and where σ starts; σ = 10 takes a thousand steps of 0.01 to move.
        most, least: λ_max and λ_min.
        settle: share of the training after which the ratios are frozen.
    """
    if not 0 <= settle <= 1:
        raise PruneError(f"settle is a share of the training, in [0, 1]; got {settle:g}")
    steps = planned_steps(setting, setting.tuning)
    hook = RatioHook(
        setting.weights,
        setting.keep,
        lr=lr,
        ratio_lr=ratio_lr,
        temperature=temperature,
        start=start,
        most=most,
        least=least,
        # At the last step at the latest: what training leaves is what it ended on.
        settle=min(round(settle * steps), steps),
    )
    setting.train([hook], recipe=setting.tuning)
    hook.masks.apply_(setting.model)
    return hook.masks
