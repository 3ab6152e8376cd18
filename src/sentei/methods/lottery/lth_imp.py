from sentei.methods.base import method
from sentei.methods.lottery.rounds import path, search
from sentei.methods.setting import Setting
from sentei.structures import Masks

__all__ = ["lth_imp"]


@method(
    "lth-imp",
    title="The Lottery Ticket Hypothesis: Finding Sparse, Trainable Neural Networks",
    authors="Frankle, Carbin",
    venue="ICLR",
    year=2019,
    arxiv="1803.03635",
    family="lottery",
    structure="weight",
    timing="after",
    starts="initial",
    needs=("data", "labels", "training"),
    card="C1",
    lineage=("han-magnitude",),
)
def lth_imp(
    setting: Setting,
    *,
    rate: float = 0.2,
    rounds: int | None = None,
    scope: str = "layer",
    output_rate: float | None = None,
) -> Masks:
    """Train, remove a fifth of the smallest weights, put the others back to their initial values.

    θ_T = train(m ⊙ θ_0); m <- m without the share `rate` of the survivors with the least |θ_T|;
    repeat until the density is reached; train m ⊙ θ_0 a last time.

    Args:
        rate: share of the survivors removed a round; the last round removes what is missing.
        rounds: equal rounds instead; 1 is one-shot pruning.
        scope: "layer" (the paper's for LeNet) or "global" (for deeper networks, section 4).
        output_rate: rate of the last layer; half of `rate` by default for "layer" (section 2).

    Source: algorithm of section 1, "iterative pruning with resetting". Exact counts, where the
    reference code removes one weight more.
    """
    if scope == "layer" and output_rate is None:
        output_rate = rate / 2
    shapes = {n: tuple(w.shape) for n, w in setting.weights.items()}
    densities = path(shapes, setting.keep, rate=rate, rounds=rounds, output_rate=output_rate)
    return search(setting, densities, scope=scope).masks
