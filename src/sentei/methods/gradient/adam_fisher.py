from sentei.allocation.weights import select
from sentei.hooks import SecondMoment
from sentei.methods.base import method
from sentei.methods.setting import Setting
from sentei.structures import Masks

__all__ = ["adam_fisher"]


@method(
    "adam-fisher",
    title="Optimal Brain Damage by Adam's second moment",
    authors="LeCun, Denker, Solla; Kingma, Ba",
    venue="ICLR",
    year=2015,
    arxiv="1412.6980",
    family="gradient",
    structure="weight",
    timing="during",
    starts="initial",
    needs=("data", "labels", "gradients", "training"),
    card="B1",
    lineage=("fisher-diag",),
)
def adam_fisher(setting: Setting, *, beta: float = 0.999, scope: str = "global") -> Masks:
    """Train, remove what Adam's second moment says the loss would miss least, and train on.

    score = w² ν, ν the running mean of the squared gradients of the training's own batches: no pass
    over the data for scoring. It mixes the mean gradient's square and its variance over the batch
    size, so that it ranks as the Fisher does once the mean gradient is small.

    Args:
        beta: of the running mean, for optimisers that keep none of their own.
    """
    hook = SecondMoment(setting.weights, beta)
    setting.train([hook])
    scores = {
        n: w.detach().double().square() * hook.moments[n].double()
        for n, w in setting.weights.items()
    }
    masks = select(scores, setting.keep, scope)
    masks.apply_(setting.model)
    setting.recover(masks)
    return masks
