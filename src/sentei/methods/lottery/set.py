from sentei.methods.base import method
from sentei.methods.lottery.sparse_training import sparse_training
from sentei.methods.setting import Setting
from sentei.structures import Masks

__all__ = ["set_"]


@method(
    "set",
    title="Scalable training of artificial neural networks with adaptive sparse connectivity "
    "inspired by network science",
    authors="Mocanu, Mocanu, Stone, Nguyen, Gibescu, Liotta",
    venue="Nature Communications",
    year=2018,
    arxiv="1707.04780",
    family="lottery",
    structure="weight",
    timing="during",
    starts="initial",
    needs=("data", "labels", "training"),
    card="C13",
)
def set_(
    setting: Setting,
    *,
    fraction: float = 0.3,
    interval: int | None = None,
    end: float = 0.75,
    scope: str = "erk",
) -> Masks:
    """Train sparse from scratch; drop small weights and grow as many at random places.

    Args:
        as for rigl.

    Source: box 1, in the form of RigL's comparison (arXiv:1911.11134, section 3): smallest |w|
    rather than the smallest positive and largest negative ones, and the same cosine.
    """
    return sparse_training(setting, "random", fraction, interval, end, scope)
