from sentei.allocation.weights import select
from sentei.criteria.weights import weigh
from sentei.methods.base import method
from sentei.methods.gradient.samples import scoring_batches
from sentei.methods.setting import Setting
from sentei.structures import Masks

__all__ = ["snip"]


@method(
    "snip",
    title="SNIP: Single-shot Network Pruning based on Connection Sensitivity",
    authors="Lee, Ajanthan, Torr",
    venue="ICLR",
    year=2019,
    arxiv="1810.02340",
    family="gradient",
    structure="weight",
    timing="before",
    starts="initial",
    needs=("data", "labels", "gradients", "training"),
    card="B5",
)
def snip(setting: Setting, *, samples: int = 100) -> Masks:
    """Before training, keep the connections that the loss of one batch feels most.

    score_j = |w_j dL/dw_j| / sum of all, on one batch of `samples` examples with equally many of
    each class; keep the highest of the whole network, then train (eq. 4-6). The paper's code also
    masks biases and has an L2 term on the weights that stay; here the recipe's weight decay.
    """
    evidence = setting.evidence(scoring_batches(setting, samples))
    masks = select(weigh("snip", evidence), setting.keep)
    masks.apply_(setting.model)
    setting.train(masks=masks)
    return masks
