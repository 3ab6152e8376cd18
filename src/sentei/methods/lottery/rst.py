from dataclasses import replace

from sentei.criteria.weights import weigh
from sentei.graph.errors import PruneError
from sentei.hooks.extrusion import Extrusion
from sentei.methods.base import method
from sentei.methods.lottery.rounds import cut
from sentei.methods.setting import Setting
from sentei.structures import Masks

__all__ = ["rst"]


@method(
    "rst",
    title="Dual Lottery Ticket Hypothesis",
    authors="Bai, Wang, Tao, Li, Fu",
    venue="ICLR",
    year=2022,
    arxiv="2203.04248",
    family="lottery",
    structure="weight",
    timing="before",
    starts="initial",
    needs=("data", "labels", "training"),
    card="C7",
    lineage=("lth-imp", "random"),
)
def rst(
    setting: Setting,
    *,
    share: float = 1 / 3,
    peak: float = 1.0,
    ramp: float = 0.5,
    interval: int = 5,
    cycles: int = 1,
) -> Masks:
    """Choose a subnetwork by lot, move what the other weights know into it, remove them, train.

    Extrusion: the dense network is trained with g + λ (1 - m) ⊙ w, λ growing to `peak`; then the
    weights with m = 0 are set to zero, and the sparse network is trained. The mask is random, the
    same share in every layer, and drawn before any data is seen. See `Extrusion`.

    Args:
        share: of the recipe's epochs that go to extrusion; the sparse training has the others.
        peak, ramp, interval: of λ; ramp is a share of the extrusion's steps.
        cycles: drop in so many equal parts, an extrusion for each; masks are nested.

    Source: section 3.2 and algorithm 1. The public code picks the smallest weights unless told
    otherwise; the paper's random choice is ours.
    """
    epochs = round(share * setting.recipe.epochs)
    if not 0 < epochs < setting.recipe.epochs and setting.recipe.epochs > 1:
        raise PruneError(
            f"a share of {share!r} of {setting.recipe.epochs} epochs leaves none for one of the "
            f"two trainings"
        )
    if cycles < 1:
        raise PruneError(f"cycles must be at least 1; got {cycles!r}")
    setting.need_data()
    scores = weigh("random-weights", setting.evidence())
    masks = Masks.full(setting.weights)
    for cycle in range(1, cycles + 1):
        density = 1 - (1 - setting.keep) * cycle / cycles
        masks = cut(scores, masks, dict.fromkeys(masks, density), "layer", density)
        setting.train(
            [Extrusion(masks, peak=peak, ramp=ramp, interval=interval)],
            recipe=replace(setting.recipe, epochs=max(epochs, 1)),
        )
        masks.apply_(setting.model)
    rest = replace(setting.recipe, epochs=setting.recipe.epochs - epochs)
    setting.train(masks=masks, recipe=rest)
    return masks
