from dataclasses import replace

from sentei.graph.errors import PruneError
from sentei.methods.base import method
from sentei.methods.parts import gradual, planned_steps, window
from sentei.methods.setting import Setting
from sentei.schedules import Cubic
from sentei.structures import Masks

__all__ = ["gale_gmp"]


@method(
    "gale-gmp",
    title="The State of Sparsity in Deep Neural Networks",
    authors="Gale, Elsen, Hooker",
    venue="arXiv",
    year=2019,
    arxiv="1902.09574",
    family="magnitude",
    structure="weight",
    timing="during",
    starts="initial",
    needs=("data", "labels", "training"),
    card="A5",
    lineage=("agp",),
)
def gale_gmp(
    setting: Setting,
    *,
    scope: str = "uniform+",
    begin: float = 0.1,
    end: float = 0.6,
    every: int = 10,
    longer: float = 1.0,
) -> Masks:
    """Gradual magnitude pruning, tuned: the cubic of AGP, the ends of the network spared.

    Args:
        scope: "uniform" is the plain recipe; "uniform+" keeps a first convolution dense and 20 % of
            the last layer; "first-dense" keeps the first layer dense whatever it is.
        begin, end: first and last update as shares of the training; every: steps between updates.
        longer: training length as a multiple of the recipe's, up to 1.5 in the paper.
    """
    if longer < 1:
        raise PruneError(f"longer: a multiple of the training, at least 1; got {longer:g}")
    recipe = replace(setting.recipe, epochs=round(longer * setting.recipe.epochs))
    span = window(planned_steps(setting, recipe), begin, end)
    hook = gradual(setting, Cubic(1 - setting.keep, *span), span, every, "magnitude", scope)
    setting.train([hook], recipe=recipe)
    setting.recover(hook.masks)
    return hook.masks
