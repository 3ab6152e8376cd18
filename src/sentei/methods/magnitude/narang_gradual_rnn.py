from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from sentei.graph.errors import PruneError
from sentei.hooks.gradual import GradualHook, updates
from sentei.methods.base import method
from sentei.methods.parts import planned_steps
from sentei.methods.setting import Setting
from sentei.schedules.threshold import Ramp
from sentei.structures import Masks

__all__ = ["narang_gradual_rnn"]


@method(
    "narang-gradual-rnn",
    title="Exploring Sparsity in Recurrent Neural Networks",
    authors="Narang, Diamos, Sengupta, Elsen",
    venue="ICLR",
    year=2017,
    arxiv="1704.05119",
    family="magnitude",
    structure="weight",
    timing="during",
    starts="initial",
    needs=("data", "labels", "training"),
    card="A3",
    lineage=("han-magnitude",),
)
def narang_gradual_rnn(
    setting: Setting,
    *,
    q: Mapping[str, float] | None = None,
    start: float | None = None,
    ramp: float = 0.25,
    end: float = 0.5,
    freq: int | None = None,
    steepness: float = 1.5,
) -> Masks:
    """Train from scratch under a threshold that rises, gently first and then more steeply.

    m <- m * 1[|W| >= ε(t)] every `freq` steps from start to end (algorithm 1); ε by eq. 1, see
    `sentei.schedules.threshold.Ramp`. The threshold tells how much goes: the density comes near
    what was asked for. Gates packed in one tensor share its threshold. Unlike eq. 1, which ends a
    little above q, the threshold stops at q; that matters only in very short trainings.

    Args:
        q: the threshold's scale by parameter: the percentile of |W| of an earlier dense network
            that is the sparsity wanted. None trains a dense copy by the same recipe for it, which
            counts among the trainings.
        start: as a share of the training; by default the second epoch. ramp, end: likewise.
        freq: steps between updates; by default 100, or a tenth of the span where that is short.
        steepness: second slope over the first; 1.5 to 2.
    """
    steps = planned_steps(setting, setting.recipe)
    if q is None:
        dense = replace(setting, model=copy.deepcopy(setting.model), logs=[])
        setting.logs.append(dense.train())
        q = {n: _percentile(w, 1 - setting.keep) for n, w in dense.weights.items()}
    missing = [n for n in setting.weights if n not in q]
    if missing:
        raise PruneError(f"q names no threshold for {missing[0]!r}; there are {list(q)}")
    first = min(1 / setting.recipe.epochs, ramp) if start is None else start
    if not 0 <= first <= ramp <= end <= 1:
        raise PruneError(
            f"start, ramp and end are shares of the training in this order; got {first:g}, "
            f"{ramp:g} and {end:g}"
        )
    at = [round(first * steps), round(ramp * steps), max(round(end * steps), 1)]
    every = freq or min(100, max((at[2] - at[0]) // 10, 1))
    ramps = {n: Ramp(q[n], at[0], at[1], at[2], every, steepness) for n in setting.weights}
    weights = setting.weights

    def choose(step: int, masks: Masks) -> Masks:
        return masks & Masks(
            {n: w.detach().abs() >= min(ramps[n](step), q[n]) for n, w in weights.items()}
        )

    hook = GradualHook(Masks.full(weights), choose, updates(at[0], at[2], every))
    setting.train([hook])
    setting.recover(hook.masks)
    return hook.masks


def _percentile(weight: Tensor, share: float) -> float:
    size = weight.detach().abs().flatten().sort().values
    return size[min(int(share * len(size)), len(size) - 1)].item()
