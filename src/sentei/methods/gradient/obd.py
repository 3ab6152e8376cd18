from functools import partial

from sentei.criteria.weights.fisher import obd as saliency
from sentei.methods.base import method
from sentei.methods.gradient.progressive import iterative
from sentei.methods.setting import Setting
from sentei.structures import Masks

__all__ = ["fisher_diag", "obd"]

_FACTS = {
    "family": "gradient",
    "structure": "weight",
    "timing": "after",
    "starts": "trained",
    "needs": ("data", "labels", "gradients", "training"),
    "card": "B1",
}


@method(
    "obd",
    title="Optimal Brain Damage",
    authors="LeCun, Denker, Solla",
    venue="NIPS",
    year=1989,
    **_FACTS,
)
def obd(
    setting: Setting,
    *,
    curvature: str = "hutchinson",
    rounds: int = 1,
    batch_size: int = 512,
    scope: str = "global",
) -> Masks:
    """Remove the weights whose curvature says that the loss would miss them least.

    score = h w² / 2 with h the diagonal of the Hessian at the trained network (eq. 5). In each of
    `rounds`, remove the lowest so that the density falls by the same factor, and train on.

    Args:
        curvature: the paper gets h from one more backward sweep, layer by layer: "recursion", for
            networks that are a chain of layers. The default estimates the diagonal of any network;
            see `sentei.criteria.weights.fisher.obd` for all choices.
    """
    return iterative(
        setting, partial(saliency, curvature=curvature), rounds, scope=scope, size=batch_size
    )


@method(
    "fisher-diag",
    title="Optimal Brain Damage by the diagonal of the empirical Fisher",
    authors="LeCun, Denker, Solla; Theis et al.",
    venue="arXiv",
    year=2018,
    arxiv="1801.05787",
    lineage=("obd",),
    **_FACTS,
)
def fisher_diag(setting: Setting, *, rounds: int = 1, scope: str = "global") -> Masks:
    """Remove the weights with the lowest mean squared change of single examples' losses.

    score = w² * mean over examples n of g_n² / 2, at the trained network; `rounds` as in `obd`.
    """
    return iterative(setting, "fisher-diag", rounds, scope=scope)
