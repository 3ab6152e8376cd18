from typing import Any

from sentei.criteria import Evidence
from sentei.graph.errors import PruneError
from sentei.graph.groups import analyze
from sentei.hooks.early_bird import EarlyBird
from sentei.methods.base import method
from sentei.methods.setting import Setting
from sentei.recovery.fresh import reinitialise

__all__ = ["early_bird", "prune_by_scale"]


def prune_by_scale(setting: Setting) -> Any:
    """Remove units by batch-norm's scales, ranked over all layers, until the target holds.

    Groups that no normalisation scales stay whole.

    Raises:
        PruneError: no target or no example inputs.
    """
    from sentei.pruning import prune

    if setting.target is None or setting.example is None:
        raise PruneError("this method removes units: give target= and example inputs")
    groups = analyze(setting.model, setting.example, protect=setting.protect)
    scales = Evidence.of(setting.model, groups).norm_scales
    bare = [n for n, g in groups.items() if not any(s.parameter in scales for s in g.slices)]
    return prune(
        setting.model,
        setting.example,
        target=setting.target,
        criterion="bn-scale",
        normalise="none",
        protect=[*setting.protect, *bare],
        seed=setting.seed,
    )


@method(
    "early-bird",
    title="Drawing Early-Bird Tickets: Towards More Efficient Training of Deep Networks",
    authors="You, Li, Xu, Fu, Wang, Chen, Baraniuk, Wang, Lin",
    venue="ICLR",
    year=2020,
    arxiv="1909.11957",
    family="lottery",
    structure="channel",
    timing="during",
    starts="initial",
    needs=("data", "labels", "training", "batch norm"),
    card="C4",
    lineage=("lth-imp",),
)
def early_bird(
    setting: Setting,
    *,
    share: float = 0.5,
    tolerance: float = 0.1,
    length: int = 5,
    l1: float = 1e-4,
    restart: bool = False,
) -> Any:
    """Train until the channels that batch-norm's scales would keep stop changing, prune, train on.

    After each epoch: the mask of channels with the largest |gamma| of all layers. Once the last
    `length` masks differ in at most `tolerance` of their entries, units are removed by their
    scales, and the small network takes the rest of the training's steps. See `EarlyBird`.

    Args:
        share: of the channels, for the masks that are watched. What is removed in the end follows
            from the setting's target.
        tolerance, length: ε and the length of the queue.
        l1: of the penalty on the scales before the ticket is drawn.
        restart: train the small network from new weights for the whole recipe instead.

    Source: algorithm 1. Where no ticket is drawn before the end, the trained network is pruned and
    fine-tuned.
    """
    setting.need_data()
    every = setting.recipe.steps(setting.data) // max(setting.recipe.epochs, 1)
    if not every:
        raise PruneError("early-bird needs epochs of a known number of batches")
    hook = EarlyBird(share, every, l1=l1, tolerance=tolerance, length=length)
    setting.train([hook])
    result = prune_by_scale(setting)
    if restart:
        reinitialise(setting.model, setting.seed)
        setting.train()
    elif hook.found is None:
        setting.recover()
    else:
        setting.train(start=hook.found)
    return result
