"""Which single weights stay: exact counts from scores and a density.

Everything that chooses weights goes through `select`, so that counts are exact and equal scores
are resolved alike everywhere: of equal ones those that come first leave first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod

import torch
from torch import Tensor

from sentei.graph.errors import PruneError, closest
from sentei.structures.masks import Masks

__all__ = ["DENSITIES", "counts", "select", "top"]

Shapes = Mapping[str, Sequence[int]]


def top(scores: Tensor, k: int) -> Tensor:
    """Mask of the k highest scores; of equal ones the later stay.

    >>> top(torch.tensor([.5, .1, .5, .5]), 2)
    tensor([False, False,  True,  True])
    """
    if not 0 <= k <= scores.numel():
        raise PruneError(f"cannot keep {k} of {scores.numel()} weights")
    flat = scores.flatten()
    mask = torch.ones_like(flat, dtype=torch.bool)
    mask[flat.argsort(stable=True)[: flat.numel() - k]] = False
    return mask.view(scores.shape)


def uniform(shapes: Shapes, density: float) -> dict[str, float]:
    """The same density in every layer."""
    return dict.fromkeys(shapes, density)


def erk(shapes: Shapes, density: float) -> dict[str, float]:
    """Erdős–Rényi with kernel: d_l = min(1, ε · Σ_i shape_i / Π_i shape_i).

    ε is such that Σ_l d_l n_l = density · N; layers that would exceed 1 are dense, and the rest is
    solved again without them.

    Source: Evci et al. 2020, arXiv:1911.11134, section 3 (1).

    >>> {n: round(d, 3) for n, d in erk({"a": (2, 2), "b": (20, 20)}, 0.2).items()}
    {'a': 1.0, 'b': 0.192}
    """
    ratio = {n: sum(s) / prod(s) for n, s in shapes.items()}
    budget = density * sum(prod(s) for s in shapes.values())
    dense: set[str] = set()
    while len(dense) < len(shapes):
        rest = [n for n in shapes if n not in dense]
        left = budget - sum(prod(shapes[n]) for n in dense)
        epsilon = left / sum(ratio[n] * prod(shapes[n]) for n in rest)
        above = {n for n in rest if epsilon * ratio[n] > 1}
        if not above:
            return {n: 1.0 if n in dense else epsilon * ratio[n] for n in shapes}
        dense |= above
    return dict.fromkeys(shapes, 1.0)


DENSITIES: dict[str, Callable[[Shapes, float], dict[str, float]]] = {"uniform": uniform, "erk": erk}
"""How a density of the whole is spread over layers, by shapes alone."""


def counts(shapes: Shapes, densities: Mapping[str, float]) -> dict[str, int]:
    """Weights to keep in each layer: `round` of the sum in all, by largest remainders.

    >>> counts({"a": (3,), "b": (3,)}, {"a": 0.5, "b": 0.5})
    {'a': 2, 'b': 1}
    """
    exact = {n: densities[n] * prod(s) for n, s in shapes.items()}
    kept = {n: int(x + 1e-9) for n, x in exact.items()}
    missing = round(sum(exact.values())) - sum(kept.values())
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
            parameter, ranks inside each parameter.
    Raises:
        PruneError: a density out of range, an unknown scope, scores that are NaN.

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
    if isinstance(scope, str):
        if scope not in DENSITIES:
            raise PruneError(f"unknown scope {scope!r}; {closest(scope, ['global', *DENSITIES])}")
        densities = DENSITIES[scope](shapes, density)
    else:
        densities = dict(scope)
    kept = counts(shapes, densities)
    return Masks({n: top(s, kept[n]) for n, s in scores.items()})
