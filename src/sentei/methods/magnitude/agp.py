from sentei.graph.errors import PruneError, closest
from sentei.methods.base import method
from sentei.methods.parts import gradual, planned_steps, window
from sentei.methods.setting import Setting
from sentei.schedules import Cubic, Exponential, Linear
from sentei.structures import Masks

__all__ = ["agp"]

CURVES = {"cubic": Cubic, "exponential": Exponential, "linear": Linear}


@method(
    "agp",
    title="To prune, or not to prune: exploring the efficacy of pruning for model compression",
    authors="Zhu, Gupta",
    venue="ICLR Workshop",
    year=2018,
    arxiv="1710.01878",
    family="magnitude",
    structure="weight",
    timing="during",
    starts="initial",
    needs=("data", "labels", "training"),
    card="A4",
    lineage=("han-magnitude", "narang-gradual-rnn"),
)
def agp(
    setting: Setting,
    *,
    saliency: str = "magnitude",
    scope: str = "uniform",
    curve: str = "cubic",
    initial: float = 0.0,
    begin: float = 0.1,
    end: float = 0.6,
    every: int = 10,
) -> Masks:
    """Automated gradual pruning: raise the sparsity along a cubic while training.

    s(t) = s_f + (s_i - s_f) (1 - (t - t0) / (n Δt))³ at t = t0, t0 + Δt, …, t0 + n Δt (eq. 1)

    At each such step the `round((1 - s) n_l)` largest weights of each layer stay; in between, and
    from the last on, masked weights are held at zero. Then the setting's recovery.

    Args:
        saliency: what ranks the weights; scope: over what (the paper ranks inside each layer).
        curve: "cubic", "linear" or "exponential" (density falls by the same factor each time).
        initial: s_i; begin, end: t0 and t0 + n Δt as shares of the training; every: Δt in steps.
            The last update is at `end` even where Δt does not divide the span.
    """
    if curve not in CURVES:
        raise PruneError(f"unknown curve {curve!r}; {closest(curve, CURVES)}")
    span = window(planned_steps(setting, setting.recipe), begin, end)
    schedule = CURVES[curve](1 - setting.keep, *span, initial)
    hook = gradual(setting, schedule, span, every, saliency, scope)
    setting.train([hook])
    setting.recover(hook.masks)
    return hook.masks
