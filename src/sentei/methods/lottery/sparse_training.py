"""What SET and RigL share."""

from __future__ import annotations

from sentei.allocation.weights import select
from sentei.criteria.weights import weigh
from sentei.hooks.dynamic_sparse import DynamicSparse
from sentei.methods.setting import Setting
from sentei.structures import Masks

__all__ = ["sparse_training"]


def sparse_training(
    setting: Setting,
    grow: str,
    fraction: float,
    interval: int | None,
    end: float,
    scope: str,
) -> Masks:
    """Random masks by `scope`, trained by the recipe with `DynamicSparse`.

    interval: 100 steps by default, as in the paper, but in short trainings a fiftieth of the steps
        before `end`.
    """
    setting.need_data()
    masks = select(weigh("random-weights", setting.evidence()), setting.keep, scope)
    if interval is None:
        steps = setting.recipe.steps(setting.data)
        before = end if isinstance(end, int) else end * steps
        interval = max(1, min(100, int(before / 50))) if before else 100
    hook = DynamicSparse(
        masks, grow, fraction=fraction, interval=interval, end=end, seed=setting.seed
    )
    setting.train([hook])
    return hook.masks
