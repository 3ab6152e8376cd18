"""What is a single weight worth? A saliency gives one score per weight; larger is worth more.

A saliency is a function of the evidence: parameter name -> tensor of the parameter's shape, for
every name in `evidence.weights`. Add one to `SALIENCIES`, or hand any such function over. A
saliency serves every structure: `unitwise` sums it over all slices of a unit, and so makes it a
criterion for channels, heads and layers.

>>> import torch
>>> from sentei.criteria import Evidence
>>> net = torch.nn.Linear(3, 1)
>>> _ = net.weight.data.copy_(torch.tensor([[1., -3., 2.]]))
>>> weigh("magnitude", Evidence.of(net))["weight"].tolist()
[[1.0, 3.0, 2.0]]
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from sentei.criteria.evidence import Criterion, Evidence
from sentei.criteria.weights.fisher import fisher_diagonal, obd
from sentei.criteria.weights.grasp import grasp
from sentei.criteria.weights.lamp import lamp
from sentei.criteria.weights.magnitude import magnitude
from sentei.criteria.weights.ntk_sap import ntk_sap
from sentei.criteria.weights.random import random
from sentei.criteria.weights.snip import snip
from sentei.criteria.weights.synflow import synflow
from sentei.criteria.weights.taylor import taylor_abs, taylor_second, taylor_sq
from sentei.criteria.weights.wanda import wanda
from sentei.criteria.weights.woodfisher import woodfisher
from sentei.graph.errors import PruneError, closest
from sentei.graph.groups import Group

__all__ = ["SALIENCIES", "Saliency", "saliency", "unitwise", "weigh"]

Saliency = Callable[[Evidence], dict[str, Tensor]]

SALIENCIES: dict[str, Saliency] = {
    "fisher-diag": fisher_diagonal,
    "grasp": grasp,
    "lamp": lamp,
    "magnitude": magnitude,
    "ntk-sap": ntk_sap,
    "obd": obd,
    "random-weights": random,
    "snip": snip,
    "synflow": synflow,
    "taylor-abs": taylor_abs,
    "taylor-second": taylor_second,
    "taylor-sq": taylor_sq,
    "woodfisher": woodfisher,
    "wanda": wanda,
}


def saliency(which: str | Saliency) -> Saliency:
    """A saliency by name; a function is taken as it is."""
    if callable(which):
        return which
    if which not in SALIENCIES:
        raise PruneError(f"unknown saliency {which!r}; {closest(str(which), SALIENCIES)}")
    return SALIENCIES[which]


def weigh(which: str | Saliency, evidence: Evidence) -> dict[str, Tensor]:
    """The scores of all weights by parameter, checked: of the parameter's shape, no NaN.

    Raises:
        PruneError: an unknown saliency, or one that gives a wrong shape, misses a weight or NaN.
    """
    function = saliency(which)
    label = which if isinstance(which, str) else getattr(function, "__name__", "the saliency")
    scores = function(evidence)
    out: dict[str, Tensor] = {}
    for name, weight in evidence.weights.items():
        given = scores.get(name)
        if given is None or given.shape != weight.shape:
            got = "nothing" if given is None else f"shape {tuple(given.shape)}"
            raise PruneError(f"{label}: {name} has shape {tuple(weight.shape)}, its scores: {got}")
        if given.isnan().any():
            raise PruneError(f"{label}: the scores of {name!r} hold NaN")
        out[name] = given.detach()
    return out


def unitwise(which: str | Saliency) -> Criterion:
    """A saliency as a criterion: score[u] = the sum over all weights that go with unit u.

    >>> import torch
    >>> from sentei.graph.groups import analyze
    >>> net = torch.nn.Sequential(torch.nn.Linear(1, 2, bias=False), torch.nn.Linear(2, 1))
    >>> _ = net[0].weight.data.copy_(torch.tensor([[1.], [2.]]))
    >>> _ = net[2 - 1].weight.data.copy_(torch.tensor([[3., -5.]]))
    >>> groups = analyze(net, torch.ones(1, 1))
    >>> unitwise("magnitude")(groups["0"], Evidence.of(net, groups)).tolist()
    [4.0, 7.0]
    """
    cache: dict[int, tuple[Evidence, dict[str, Tensor]]] = {}

    def criterion(group: Group, evidence: Evidence) -> Tensor:
        if id(evidence) not in cache:
            cache.clear()
            cache[id(evidence)] = (evidence, weigh(which, evidence))
        return evidence.by_unit(group, cache[id(evidence)][1])

    criterion.__name__ = which if isinstance(which, str) else getattr(which, "__name__", "saliency")
    said = getattr(saliency(which), "needs", None)
    if said is not None:
        criterion.needs = said  # type: ignore[attr-defined]
    return criterion
