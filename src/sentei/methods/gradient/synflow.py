from sentei.criteria.weights import weigh
from sentei.methods.base import method
from sentei.methods.gradient.progressive import progressive
from sentei.methods.setting import Setting
from sentei.structures import Masks

__all__ = ["synflow"]


@method(
    "synflow",
    title="Pruning neural networks without any data by iteratively conserving synaptic flow",
    authors="Tanaka, Kunin, Yamins, Ganguli",
    venue="NeurIPS",
    year=2020,
    arxiv="2006.05467",
    family="gradient",
    structure="weight",
    timing="before",
    starts="initial",
    needs=("training",),
    card="B8",
    lineage=("snip",),
)
def synflow(setting: Setting, *, steps: int = 100, curve: str = "exponential") -> Masks:
    """Before training and without data, keep what carries the flow of ones through the network.

    In each of `steps` rounds, score = w * dR/dw of the pruned network with absolute weights, R the
    sum of its outputs for ones; keep the best d^(t/T) of the whole network. Scores of a layer add
    up to R, so that scoring again after each small step never empties a layer before the others
    are down to one weight (theorem 3, algorithm 1). Then train. Counts are exact here, where the
    paper's code prunes all ties with the threshold.
    """
    evidence = setting.evidence()  # of the weights as they are whenever it is asked
    masks = progressive(setting, lambda masks, dense: weigh("synflow", evidence), steps, curve)
    setting.train(masks=masks)
    return masks
