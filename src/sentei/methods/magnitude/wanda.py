from torch import Tensor

from sentei.allocation.weights import select
from sentei.criteria.weights.wanda import Norms
from sentei.methods.base import method
from sentei.methods.blockwise import by_blocks
from sentei.methods.setting import Setting
from sentei.structures import Masks

__all__ = ["cumulative_share", "wanda"]


@method(
    "wanda",
    title="A Simple and Effective Pruning Approach for Large Language Models",
    authors="Sun, Liu, Bair, Kolter",
    venue="ICLR",
    year=2024,
    arxiv="2306.11695",
    family="magnitude",
    structure="weight",
    timing="after",
    starts="trained",
    needs=("data",),
    card="A13",
    lineage=("han-magnitude", "sparsegpt"),
)
def wanda(
    setting: Setting, *, scope: str = "rows", propagate: str = "layer", recover: bool = False
) -> Masks:
    """Score weights by magnitude times input norm, prune inside each row; no training, no update.

    S_ij = |W_ij| ‖X_j‖₂ (eq. 1); the `floor(s C_in)` lowest of each row go. The network is walked
    through in order, and each part sees what the pruned ones before it give (section 3).

    Args:
        scope: "rows", or "n:m": n of every m consecutive inputs of a row stay; "cumulative" drops
            in each row the lowest scores up to a share α of the row's sum, α such that the layer
            meets the density exactly (the reference's variant). Any other scope of
            `sentei.allocation.weights.select` that does not compare layers works as well.
        propagate: "layer": each weight on its own; "block": weights of one numbered block on the
            same inputs, as the reference does; "none": all on the dense network's inputs.
        recover: train on afterwards, which the paper does not.
    """

    def prune(name: str, weight: Tensor, norms: Norms) -> Tensor:
        use = norms.uses[name]
        # Rows are outputs, whichever way round the weight is stored.
        flat = use.matrix(norms.score(name, weight)).flatten(0, 1)
        if scope == "cumulative":
            mask = select({name: cumulative_share(flat)}, setting.keep, "uniform")[name]
        else:
            mask = select({name: flat}, setting.keep, scope)[name]
        return use.weight(mask.view(use.groups, -1, mask.shape[1]), weight.shape)

    masks = Masks(by_blocks(setting, Norms, prune, propagate))
    if recover:
        setting.recover(masks)
    return masks


def cumulative_share(scores: Tensor) -> Tensor:
    """Share of its row's sum that a score and all lower ones make up.

    Dropping what lies below α in every row is then one ranking of the whole matrix.

    >>> import torch
    >>> cumulative_share(torch.tensor([[6., 1., 3.]])).tolist()
    [[1.0, 0.1, 0.4]]
    """
    values, order = scores.double().sort(dim=1, stable=True)
    running = values.cumsum(1)
    share = running / running[:, -1:].clamp(min=1e-300)
    return share.new_empty(share.shape).scatter_(1, order, share)
