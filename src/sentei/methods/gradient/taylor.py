from functools import partial
from typing import Any

import torch

from sentei.allocation.weights import select
from sentei.criteria.weights.taylor import taylor_abs as abs_score
from sentei.criteria.weights.taylor import taylor_second as second_score
from sentei.criteria.weights.taylor import taylor_sq as sq_score
from sentei.graph.errors import PruneError
from sentei.hooks import GradualHook, TaylorMomentum
from sentei.hooks.gradual import updates
from sentei.methods.base import method
from sentei.methods.gradient.progressive import iterative
from sentei.methods.parts import planned_steps
from sentei.methods.setting import Setting
from sentei.methods.units.channels import remove_units
from sentei.schedules import Linear
from sentei.structures import Masks

__all__ = ["taylor_abs", "taylor_act", "taylor_gate", "taylor_joint", "taylor_second", "taylor_sq"]

_FACTS: dict[str, Any] = {
    "title": "Importance Estimation for Neural Network Pruning",
    "authors": "Molchanov, Mallya, Tyree, Frosio, Kautz",
    "venue": "CVPR",
    "year": 2019,
    "arxiv": "1906.10771",
    "family": "gradient",
    "structure": "weight",
    "timing": "after",
    "starts": "trained",
    "needs": ("data", "labels", "gradients", "training"),
    "card": "B4",
}


@method("taylor-abs", lineage=("obd",), **_FACTS)
def taylor_abs(
    setting: Setting,
    *,
    examples: bool = True,
    rounds: int = 1,
    momentum: float | None = None,
    every: int = 20,
) -> Masks:
    """Remove the weights whose removal changes the loss of an example least, to first order.

    score = mean over single examples (or, without `examples`, one batch of all) of |w dL/dw|, in
    `rounds` of scoring, pruning and training on.

    Args:
        momentum: as the paper does: score by a running mean over the recovery's own batches, and
            prune every so many of them, an equal number each time, until half of it is over; see
            `sentei.hooks.TaylorMomentum`. `examples` and `rounds` then mean nothing.
        every: steps between prunings, then.
    """
    if momentum is not None:
        return _on_the_way(setting, "abs", momentum, every)
    return iterative(setting, partial(abs_score, examples=examples), rounds)


@method("taylor-sq", lineage=("taylor-abs",), **_FACTS)
def taylor_sq(
    setting: Setting,
    *,
    examples: bool = True,
    rounds: int = 1,
    momentum: float | None = None,
    every: int = 20,
) -> Masks:
    """Remove the weights whose removal changes an example's loss least, in the mean square.

    score = mean of (w dL/dw)² (eq. 4 to first order), otherwise as `taylor-abs`.
    """
    if momentum is not None:
        return _on_the_way(setting, "sq", momentum, every)
    return iterative(setting, partial(sq_score, examples=examples), rounds)


@method("taylor-second", lineage=("taylor-sq", "obd"), **_FACTS)
def taylor_second(
    setting: Setting, *, examples: bool = True, curvature: str = "fisher", rounds: int = 1
) -> Masks:
    """Remove the weights whose removal changes the loss least, to second order.

    score = mean of (w dL/dw - w² h / 2)², h the diagonal of the Fisher or of the Hessian (eq. 4),
    otherwise as `taylor-abs`.
    """
    return iterative(setting, partial(second_score, examples=examples, curvature=curvature), rounds)


def _on_the_way(setting: Setting, form: str, momentum: float, every: int) -> Masks:
    """Train on, and cut what scores lowest every so many steps of the first half."""
    steps = planned_steps(setting, setting.tuning)
    last = max(steps // 2, every)
    if not 1 <= every < steps:
        raise PruneError(f"every: prunings are so many steps apart, and the recovery has {steps}; "
                         f"got {every}")  # fmt: skip
    weights = setting.weights
    seen = TaylorMomentum(form, names=weights, momentum=momentum)
    schedule = Linear(1 - setting.keep, start=0, end=last)

    def choose(step: int, masks: Masks) -> Masks:
        scores = {n: s.masked_fill(~masks[n], -torch.inf) for n, s in seen.scores.items()}
        return select(scores, 1 - schedule(step))

    cut = GradualHook(Masks.full(weights), choose, updates(every, last, every))
    setting.train([seen, cut], recipe=setting.tuning)
    return cut.masks


_UNITS = {**_FACTS, "structure": "channel"}


@method("taylor-joint", lineage=("taylor-sq",), **_UNITS)
def taylor_joint(setting: Setting) -> Any:
    """Remove the units whose removal as a whole changes the loss least, to first order.

    score = mean over batches of (sum over the unit of w dL/dw)² (eq. 8), over all that leaves with
    the unit; ranked over all groups as it is.
    """
    return _units(setting, "taylor", normalise="none")


@method("taylor-gate", lineage=("taylor-joint",), **_UNITS)
def taylor_gate(setting: Setting) -> Any:
    """Remove the units whose outputs' gates have the smallest gradient.

    score = mean over batches of (dL/dz)², z = 1 a factor on the unit's output (section 3.2: a gate
    after the layer's batch-norm, where it has one).
    """
    return _units(setting, "taylor-gate", normalise="none")


@method(
    "taylor-act",
    **{
        **_UNITS,
        "title": "Pruning Convolutional Neural Networks for Resource Efficient Inference",
        "authors": "Molchanov, Tyree, Karras, Aila, Kautz",
        "venue": "ICLR",
        "year": 2017,
        "arxiv": "1611.06440",
        "lineage": ("obd",),
    },
)
def taylor_act(setting: Setting) -> Any:
    """Remove the feature maps whose mean product with their gradient is smallest.

    score = mean over batches of |mean over examples and positions of a dL/da|, divided by its norm
    over the layer (eq. 8-9).
    """
    return _units(setting, "taylor-act", normalise="none")


def _units(setting: Setting, criterion: str, **options: Any) -> Any:
    result = remove_units(setting, criterion, **options)
    setting.recover()
    return result
