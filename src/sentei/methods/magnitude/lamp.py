from sentei.methods.base import method
from sentei.methods.parts import ranked
from sentei.methods.setting import Setting
from sentei.structures import Masks

__all__ = ["lamp"]


@method(
    "lamp",
    title="Layer-adaptive sparsity for the magnitude-based pruning",
    authors="Lee, Park, Mo, Ahn, Shin",
    venue="ICLR",
    year=2021,
    arxiv="2010.07611",
    family="magnitude",
    structure="weight",
    timing="after",
    starts="trained",
    needs=("data", "labels", "training"),
    card="A6",
    lineage=("han-magnitude",),
)
def lamp(setting: Setting, *, step: float = 1.0) -> Masks:
    """Rank all weights by w² over the squares of what is no smaller in the layer; train on.

    score[u] = w[u]² / Σ w[v]² over v with |w[v]| >= |w[u]| (eq. 3), ranked globally

    Args:
        step: share of the survivors to remove each round, scored and trained anew; 1 removes all
            at once. The paper's iterative experiments use 0.2.
    """
    masks, density = Masks.full(setting.weights), 1.0
    while density > setting.keep:
        density = max(density * (1 - step), setting.keep)
        masks = ranked(setting, "lamp", density, "global", masks)
        setting.recover(masks)
    return masks
