from sentei.methods.base import method
from sentei.methods.lottery.rounds import path, search, step_of
from sentei.methods.setting import Setting
from sentei.structures import Masks

__all__ = ["lr_rewind"]


@method(
    "lr-rewind",
    title="Comparing Rewinding and Fine-tuning in Neural Network Pruning",
    authors="Renda, Frankle, Carbin",
    venue="ICLR",
    year=2020,
    arxiv="2003.02389",
    family="lottery",
    structure="weight",
    timing="after",
    starts="initial",
    needs=("data", "labels", "training"),
    card="C2",
    lineage=("han-magnitude", "lth-rewind"),
)
def lr_rewind(
    setting: Setting,
    *,
    to: float = 0.05,
    rate: float = 0.2,
    rounds: int | None = None,
    scope: str = "global",
) -> Masks:
    """After each round survivors keep their trained values; only the schedule goes back to step k.

    Args:
        as for lth-rewind.

    Source: section 3, "learning rate rewinding".
    """
    shapes = {n: tuple(w.shape) for n, w in setting.weights.items()}
    densities = path(shapes, setting.keep, rate=rate, rounds=rounds)
    step = step_of(setting, to)
    return search(setting, densities, scope=scope, step=step, rewind=False).masks
