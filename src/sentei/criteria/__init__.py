"""What is a unit worth? A criterion gives one score per unit; larger is worth more.

A criterion is a function of a group and the evidence. Add one to `CRITERIA`, or hand any function
of that signature to `sentei.prune(criterion=...)`:

>>> import torch
>>> def first(group, evidence):
...     return torch.arange(group.size, 0, -1)      # units in order: the last goes first
>>> criterion(first) is first
True
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from sentei.criteria.evidence import Criterion, Evidence, needs
from sentei.criteria.gates import taylor_act, taylor_gate
from sentei.criteria.magnitude import l1, l2
from sentei.criteria.random import random
from sentei.criteria.scale import bn_scale
from sentei.criteria.taylor import taylor
from sentei.graph.errors import PruneError, closest
from sentei.graph.groups import Group

__all__ = ["CRITERIA", "Criterion", "Evidence", "criterion", "needs", "needs_of", "score"]

CRITERIA: dict[str, Criterion] = {
    "bn-scale": bn_scale,
    "l1": l1,
    "l2": l2,
    "random": random,
    "taylor": taylor,
    "taylor-act": taylor_act,
    "taylor-gate": taylor_gate,
    "taylor-joint": taylor,
}


def criterion(which: str | Callable[[Group, Evidence], Tensor]) -> Criterion:
    """A criterion by name; a function is taken as it is.

    Names of per-weight saliencies (`sentei.criteria.weights.SALIENCIES`) are criteria, too: they
    are summed over everything that goes with a unit.

    >>> criterion("scale")
    Traceback (most recent call last):
    sentei.graph.errors.PruneError: unknown criterion 'scale'; closest: 'bn-scale'
    """
    if callable(which):
        return which
    if which in CRITERIA:
        return CRITERIA[which]
    # Imported here: saliencies build on the evidence, and are criteria by a detour only.
    from sentei.criteria.weights import SALIENCIES, unitwise

    if which in SALIENCIES:
        return unitwise(which)
    known = [*CRITERIA, *SALIENCIES]
    raise PruneError(f"unknown criterion {which!r}; {closest(str(which), known)}")


def needs_of(which: str | Callable[[Group, Evidence], Tensor]) -> tuple[str, ...]:
    """What a criterion looks at beside the weights, as it says with `needs`.

    A function that does not say so may look at all there is.

    >>> needs_of("l2"), needs_of("taylor"), needs_of("wanda"), needs_of(lambda group, about: None)
    ((), ('data', 'gradients'), ('data',), ('data', 'gradients'))
    """
    return getattr(criterion(which), "needs", ("data", "gradients"))


def score(
    which: str | Callable[[Group, Evidence], Tensor], groups: Iterable[Group], evidence: Evidence
) -> dict[str, Tensor]:
    """The scores of each group by name, checked: (units,) float64 on the CPU, finite.

    A group that may keep other units for each outer index (`group.outer`) is scored by pairs. Its
    units are then ranks: score k is the sum over outer indices of the k-th best there, and
    `evidence.orders` tells which units those are.

    Raises:
        PruneError: an unknown criterion, or one that gives a wrong shape or NaN.
    """
    function = criterion(which)
    label = which if isinstance(which, str) else getattr(function, "__name__", "the criterion")
    out: dict[str, Tensor] = {}
    for group in groups:
        given = function(group, evidence)
        try:
            scores = torch.as_tensor(given).detach()
        except (TypeError, ValueError, RuntimeError):
            raise PruneError(
                f"the criterion gave a {type(given).__name__} for {group.name}; "
                f"want a tensor of {group.size} scores"
            ) from None
        rows = group.dim.outer.size if group.dim.outer is not None else 1
        if rows > 1 and tuple(scores.shape) == (rows * group.size,):
            # Best to worst for each outer index; the k-th best of all rows go together.
            ranked = scores.view(rows, group.size).sort(dim=1, descending=True, stable=True)
            evidence.orders[group.name] = ranked.indices.cpu()
            scores = ranked.values.sum(0)
        if tuple(scores.shape) != (group.size,):
            raise PruneError(
                f"{label}: group {group.name!r} has {group.size} units, but the scores have shape "
                f"{tuple(scores.shape)}; want ({group.size},)"
            )
        scores = scores.to("cpu", torch.float64)
        if not scores.isfinite().all():
            raise PruneError(
                f"{label}: the scores of group {group.name!r} hold NaN or infinity "
                f"(first at unit {int((~scores.isfinite()).nonzero()[0])})"
            )
        out[group.name] = scores
    return out
