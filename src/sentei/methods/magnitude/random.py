from sentei.methods.base import method
from sentei.methods.parts import one_shot
from sentei.methods.setting import Setting
from sentei.structures import Masks

__all__ = ["random_pruning"]


@method(
    "random",
    title="Random pruning, the baseline",
    authors="-",
    venue="-",
    year=1989,
    family="magnitude",
    structure="weight",
    timing="after",
    starts="trained",
    needs=("data", "labels", "training"),
)
def random_pruning(setting: Setting, *, scope: str = "uniform") -> Masks:
    """Remove weights by lot, the same share in every layer, and train the rest on."""
    masks = one_shot(setting, "random-weights", scope)
    setting.recover(masks)
    return masks
