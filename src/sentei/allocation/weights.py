"""Which single weights stay: exact counts from scores and a density.

Everything that chooses weights goes through `select`, so that counts are exact and equal scores
are resolved alike everywhere: of equal ones those that come first leave first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod

import torch
from torch import Tensor

from sentei.allocation.layers import er, erk, first_dense, uniform, uniform_plus
from sentei.graph.errors import PruneError, closest
from sentei.structures import block, nm
from sentei.structures.masks import Masks

__all__ = ["DENSITIES", "counts", "er", "erk", "select", "top", "top_of_rows"]

Shapes = Mapping[str, Sequence[int]]


def top(scores: Tensor, k: int) -> Tensor:
    """Mask of the k highest scores; of equal ones the later stay.

    >>> top(torch.tensor([.5, .1, .5, .5]), 2)
    tensor([False, False,  True,  True])
    """
    if not 0 <= k <= scores.numel():
        raise PruneError(f"cannot keep {k} of {scores.numel()} weights")
    flat = scores.flatten()
    if k in (0, flat.numel()):
        return torch.full_like(scores, k > 0, dtype=torch.bool)
    # Some trainings choose masks at every step: selection is many times quicker than sorting.
    least = flat.kthvalue(flat.numel() - k + 1).values
    mask = flat > least
    equal = (flat == least).nonzero().flatten()
    missing = k - int(mask.sum())
    if missing > len(equal):  # NaN is neither more nor less than anything
        raise PruneError("the scores hold NaN")
    mask[equal[len(equal) - missing :]] = True
    return mask.view(scores.shape)


DENSITIES: dict[str, Callable[[Shapes, float], dict[str, float]]] = {
    "uniform": uniform,
    "uniform+": uniform_plus,
    "first-dense": first_dense,
    "er": er,
    "erk": erk,
}
"""How a density of the whole is spread over layers, by shapes alone."""


def counts(
    shapes: Shapes, densities: Mapping[str, float], total: int | None = None
) -> dict[str, int]:
    """Weights to keep in each layer: `total` in all, by largest remainders.

    total: the rounded sum of the layers' shares by default.

    >>> counts({"a": (3,), "b": (3,)}, {"a": 0.5, "b": 0.5})
    {'a': 2, 'b': 1}
    """
    exact = {n: densities[n] * prod(s) for n, s in shapes.items()}
    kept = {n: int(x + 1e-9) for n, x in exact.items()}
    missing = (round(sum(exact.values())) if total is None else total) - sum(kept.values())
    largest = sorted(exact, key=lambda n: kept[n] - exact[n])  # stable: earlier layers first
    for name in largest[:missing]:
        kept[name] += 1
    return kept


def select(
    scores: Mapping[str, Tensor],
    density: float,
    scope: str | Mapping[str, float] = "global",
) -> Masks:
    """Keep the best weights: `round(density * N)` of N, exactly.

    Args:
        scores: parameter name -> scores of its shape; larger is worth more.
        density: share to keep, in [0, 1].
        scope: "global" ranks all weights together; a name in `DENSITIES`, or densities by
            parameter, ranks inside each parameter; "rows" ranks inside each row (an output) and
            drops `floor((1 - density) * length)` of it; "n:m" keeps the n best of every m
            consecutive ones and wants density n/m; "hxw" ranks blocks of h rows and w columns
            inside each parameter and keeps `round(density * blocks)` of them.
    Raises:
        PruneError: a density out of range, an unknown scope, scores that are NaN, a pattern that
            does not fit a weight's shape or the density.

    >>> scores = {"a": torch.tensor([1., 2.]), "b": torch.tensor([3., 4.])}
    >>> {n: m.tolist() for n, m in select(scores, 0.5).items()}
    {'a': [False, False], 'b': [True, True]}
    >>> {n: m.tolist() for n, m in select(scores, 0.5, "uniform").items()}
    {'a': [False, True], 'b': [False, True]}
    """
    if not 0 <= density <= 1:
        raise PruneError(f"density is the share of weights to keep, in [0, 1]; got {density!r}")
    for name, score in scores.items():
        if score.isnan().any():
            raise PruneError(f"the scores of {name!r} hold NaN")
    shapes = {n: tuple(s.shape) for n, s in scores.items()}
    if scope == "global":
        flat = torch.cat([s.flatten().double() for s in scores.values()])
        mask = top(flat, round(density * flat.numel()))
        parts = mask.split([s.numel() for s in scores.values()])
        return Masks({n: m.view(shapes[n]) for n, m in zip(scores, parts, strict=True)})
    if not isinstance(scope, str):
        kept = counts(shapes, scope)
    elif scope in DENSITIES:
        total = sum(s.numel() for s in scores.values())
        kept = counts(shapes, DENSITIES[scope](shapes, density), round(density * total))
    elif scope == "rows":
        return Masks({n: top_of_rows(s, density) for n, s in scores.items()})
    elif (pattern := nm.parse(scope)) is not None:
        if abs(density - pattern[0] / pattern[1]) > 1e-9:
            raise PruneError(
                f"{scope} keeps {pattern[0] / pattern[1]:g} of the weights; the density asked for "
                f"is {density:g}. Give that density, or another scope"
            )
        return Masks({n: nm.best_of(s, *pattern, n) for n, s in scores.items()})
    elif (sides := block.parse(scope)) is not None:
        pools = {n: block.pooled(s, sides, n) for n, s in scores.items()}
        chosen = select(pools, density, "uniform")
        return Masks({n: block.spread(m, sides, shapes[n]) for n, m in chosen.items()})
    else:
        known = ["global", "rows", "2:4", "4x4", *DENSITIES]
        raise PruneError(f"unknown scope {scope!r}; {closest(scope, known)}")
    return Masks({n: top(s, kept[n]) for n, s in scores.items()})


def top_of_rows(scores: Tensor, density: float) -> Tensor:
    """Mask without the `floor((1 - density) * length)` lowest of each row; the later stay.

    >>> top_of_rows(torch.tensor([[1., 2., 3.], [9., 8., 7.]]), 0.5).int().tolist()
    [[0, 1, 1], [1, 1, 0]]
    """
    rows = scores.flatten(1)
    drop = int((1 - density) * rows.shape[1] + 1e-9)
    gone = rows.argsort(dim=1, stable=True)[:, :drop]
    return torch.ones_like(rows, dtype=torch.bool).scatter_(1, gone, False).view(scores.shape)
