from dataclasses import replace

from sentei.criteria.weights.ntk_sap import ntk_sap as saliency
from sentei.methods.base import method
from sentei.methods.gradient.progressive import progressive
from sentei.methods.setting import Setting
from sentei.structures import Masks

__all__ = ["ntk_sap"]


@method(
    "ntk-sap",
    title="NTK-SAP: Improving neural network pruning by aligning training dynamics",
    authors="Wang, Li, Sun",
    venue="ICLR",
    year=2023,
    arxiv="2304.02840",
    family="gradient",
    structure="weight",
    timing="before",
    starts="initial",
    needs=("training",),
    card="B10",
    lineage=("synflow", "force"),
)
def ntk_sap(
    setting: Setting,
    *,
    steps: int = 20,
    draws: int = 5,
    batch_size: int = 64,
    epsilon: float = 0.01,
) -> Masks:
    """Before training and without data, keep what holds up the trace of the tangent kernel.

    In each of `steps` rounds, score = |dJ/dm| with J the squared change of the masked network's
    outputs for normal inputs when all weights move by epsilon * N(0, 1), over `draws` new weights,
    directions and inputs; the best d^(t/T) of the whole network stay (eq. 11, algorithm 1). Then
    train, from the network's own weights.
    """
    rounds, about = iter(range(steps)), setting.evidence()

    def score(masks, dense):
        # A seed for every round, or all rounds would draw the same weights.
        evidence = replace(about, seed=setting.seed * 1000 + next(rounds))
        return saliency(evidence, masks, draws=draws, batch_size=batch_size, epsilon=epsilon)

    masks = progressive(setting, score, steps)
    setting.train(masks=masks)
    return masks
