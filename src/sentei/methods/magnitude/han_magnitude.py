from sentei.methods.base import method
from sentei.methods.parts import one_shot
from sentei.methods.setting import Setting
from sentei.structures import Masks

__all__ = ["han_magnitude"]


@method(
    "han-magnitude",
    title="Learning both Weights and Connections for Efficient Neural Networks",
    authors="Han, Pool, Tran, Dally",
    venue="NIPS",
    year=2015,
    arxiv="1506.02626",
    family="magnitude",
    structure="weight",
    timing="after",
    starts="trained",
    needs=("data", "labels", "training"),
    card="A1",
)
def han_magnitude(setting: Setting, *, scope: str = "global") -> Masks:
    """Remove the smallest weights of a trained network, train the rest on from where they are."""
    masks = one_shot(setting, "magnitude", scope)
    setting.recover(masks)
    return masks
