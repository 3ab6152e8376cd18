from sentei.methods.base import method
from sentei.methods.lottery.sparse_training import sparse_training
from sentei.methods.setting import Setting
from sentei.structures import Masks

__all__ = ["rigl"]


@method(
    "rigl",
    title="Rigging the Lottery: Making All Tickets Winners",
    authors="Evci, Gale, Menick, Castro, Elsen",
    venue="ICML",
    year=2020,
    arxiv="1911.11134",
    family="lottery",
    structure="weight",
    timing="during",
    starts="initial",
    needs=("data", "labels", "gradients", "training"),
    card="C14",
    lineage=("set", "lth-imp"),
)
def rigl(
    setting: Setting,
    *,
    fraction: float = 0.3,
    interval: int | None = None,
    end: float = 0.75,
    scope: str = "erk",
) -> Masks:
    """Train sparse from scratch; drop small weights and grow where the gradient is largest.

    Every ΔT steps each layer replaces k = int(f(t) · active) weights,
    f(t) = α/2 · (1 + cos(π t / T_end)): the least |w| are dropped, the largest |dL/dw| among the
    inactive grown, at value 0. See `DynamicSparse`.

    Args:
        fraction: α. interval: ΔT in steps; 100, or less in short trainings. end: T_end, a share
            of all steps.
        scope: densities of the layers; "erk" or "uniform".

    Source: algorithm 1; the random ties of the reference code are resolved by position.
    """
    return sparse_training(setting, "gradient", fraction, interval, end, scope)
