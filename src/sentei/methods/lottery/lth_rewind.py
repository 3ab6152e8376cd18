from sentei.methods.base import method
from sentei.methods.lottery.rounds import path, search, step_of
from sentei.methods.setting import Setting
from sentei.structures import Masks

__all__ = ["lth_rewind"]


@method(
    "lth-rewind",
    title="Stabilizing the Lottery Ticket Hypothesis",
    authors="Frankle, Dziugaite, Roy, Carbin",
    venue="arXiv",
    year=2019,
    arxiv="1903.01611",
    family="lottery",
    structure="weight",
    timing="after",
    starts="initial",
    needs=("data", "labels", "training"),
    card="C2",
    lineage=("lth-imp",),
)
def lth_rewind(
    setting: Setting,
    *,
    to: float = 0.05,
    rate: float = 0.2,
    rounds: int | None = None,
    scope: str = "global",
) -> Masks:
    """As lth-imp, but survivors go back to their values early in training, not to the initial ones.

    Weights, buffers, learning-rate schedule and data order go on at step k of `to`; the optimiser
    starts afresh.

    Args:
        to: k, in steps (an int) or as a share of training (a float); the paper's are 0.1 to 7 %.
        others: as for lth-imp.

    Source: section 3, "iterative magnitude pruning with rewinding".
    """
    shapes = {n: tuple(w.shape) for n, w in setting.weights.items()}
    densities = path(shapes, setting.keep, rate=rate, rounds=rounds)
    return search(setting, densities, scope=scope, step=step_of(setting, to)).masks
