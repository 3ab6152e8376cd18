from functools import partial

from sentei.allocation.weights import select
from sentei.criteria.weights import weigh
from sentei.criteria.weights.grasp import grasp as saliency
from sentei.methods.base import method
from sentei.methods.gradient.samples import scoring_batches
from sentei.methods.setting import Setting
from sentei.structures import Masks

__all__ = ["grasp"]


@method(
    "grasp",
    title="Picking Winning Tickets Before Training by Preserving Gradient Flow",
    authors="Wang, Zhang, Grosse",
    venue="ICLR",
    year=2020,
    arxiv="2002.07376",
    family="gradient",
    structure="weight",
    timing="before",
    starts="initial",
    needs=("data", "labels", "gradients", "training"),
    card="B9",
    lineage=("snip",),
)
def grasp(setting: Setting, *, samples: int = 100, temperature: float = 200.0) -> Masks:
    """Before training, keep the weights without which gradients would flow least.

    score = w * (H g) for the loss of outputs / temperature on `samples` examples with equally many
    of each class; the highest of the whole network stay (eq. 8, algorithm 1), then train. The
    paper's code scores linear layers with Xavier-normal weights of their own; here the network is
    scored as it is, and as it will be trained.
    """
    evidence = setting.evidence(scoring_batches(setting, samples))
    masks = select(weigh(partial(saliency, temperature=temperature), evidence), setting.keep)
    masks.apply_(setting.model)
    setting.train(masks=masks)
    return masks
