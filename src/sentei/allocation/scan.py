"""How far each weight matrix can be pruned alone, and densities that ask as much of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from torch import nn

from sentei.allocation.curves import Curve
from sentei.graph.errors import PruneError

__all__ = ["QUALITIES", "equally_missed", "largest_qualities", "scan"]

QUALITIES = tuple(0.25 * k for k in range(1, 13))
"""q from 0.25 to 3: of normally distributed weights 80 % down to 0.3 % are larger than q std."""


def scan(
    weights: Mapping[str, nn.Parameter],
    measure: Callable[[], float],
    qualities: Sequence[float] = QUALITIES,
) -> dict[str, Curve]:
    """Prune one matrix at a time, by |w| > q std(w), for every q, and see what the metric says.

    Args:
        weights: of the model that `measure` looks at; as before on leaving.
        measure: the metric of the model as it is; larger is better.
        qualities: ascending.
    Returns:
        parameter name -> curve: `shares` are the densities that the q's leave (q = 0 first), and
        end before a q that would leave nothing.
    Raises:
        PruneError: qualities are none, not positive or not ascending.
    Source: Han et al. 2015, arXiv:1506.02626, section 3.1 and figure 6.

    >>> import torch
    >>> layer = nn.Linear(4, 1, bias=False)
    >>> _ = layer.weight.data.copy_(torch.tensor([[1., 1., 2., 4.]]))
    >>> found = scan(dict(layer.named_parameters()), lambda: layer(torch.ones(4)).item(), [1, 2])
    >>> found["weight"].shares, found["weight"].values
    ((1.0, 0.5, 0.25), (8.0, 6.0, 4.0))
    """
    if not qualities or qualities[0] <= 0 or list(qualities) != sorted(set(qualities)):
        raise PruneError(
            f"qualities are positive and ascending, at least one; got {list(qualities)!r}"
        )
    whole = measure()
    curves = {}
    for name, weight in weights.items():
        dense = weight.detach().clone()
        spread = dense.std(correction=0)
        shares, values = [1.0], [whole]
        try:
            for q in qualities:
                kept = dense.abs() > q * spread
                if not kept.any():
                    break
                weight.data.copy_(dense * kept)
                shares.append(int(kept.sum()) / kept.numel())
                values.append(measure())
        finally:
            weight.data.copy_(dense)
        damage = tuple(max(0.0, whole - v) for v in values)
        curves[name] = Curve(name, (name,), tuple(shares), tuple(values), damage)
    return curves


def largest_qualities(
    curves: Mapping[str, Curve], tolerance: float, qualities: Sequence[float] = QUALITIES
) -> dict[str, float]:
    """For each matrix the largest q up to which the metric alone never falls by more; else 0.

    Args:
        curves: what `scan` gave for these `qualities`.

    >>> curve = Curve("w", ("w",), (1.0, 0.6, 0.3), (0.9, 0.9, 0.7), (0.0, 0.0, 0.2))
    >>> largest_qualities({"w": curve}, 0.01, [2, 3]), largest_qualities({"w": curve}, 1, [2, 3])
    ({'w': 2}, {'w': 3})
    """
    out = {}
    for name, curve in curves.items():
        fits = np.maximum.accumulate(curve.damage) <= tolerance
        steps = int(fits.cumprod().sum()) - 1
        out[name] = qualities[steps - 1] if steps > 0 else 0.0
    return out


def equally_missed(
    curves: Mapping[str, Curve], sizes: Mapping[str, int], density: float
) -> dict[str, float]:
    """Densities by matrix at which the metric falls alike, each pruned alone; `density` in all.

    d_l(τ) is the least density to which matrix l can go with a damage of τ at most (between
    measured ones linearly), and τ is such that Σ n_l d_l(τ) = density · Σ n_l. Where even no damage
    at all allows a lower density than asked for, all are as far on their way to it; beyond what was
    measured, all fall by the same factor.

    >>> flat = Curve("a", ("a",), (1.0, 0.2), (0.9, 0.9), (0.0, 0.0))
    >>> steep = Curve("b", ("b",), (1.0, 0.2), (0.9, 0.1), (0.0, 0.8))
    >>> found = equally_missed({"a": flat, "b": steep}, {"a": 10, "b": 10}, 0.4)
    >>> {n: round(d, 6) for n, d in found.items()}
    {'a': 0.2, 'b': 0.6}
    """
    total = sum(sizes.values())

    def least(curve: Curve, tolerance: float) -> float:
        damage = np.maximum.accumulate(curve.damage)
        inside = int((damage <= tolerance).sum()) - 1  # never below 0: the whole matrix costs 0
        here = curve.shares[inside]
        if inside + 1 == len(damage):
            return here
        part = (tolerance - damage[inside]) / (damage[inside + 1] - damage[inside])
        return float(here + part * (curve.shares[inside + 1] - here))

    def densities(tolerance: float) -> dict[str, float]:
        return {n: least(c, tolerance) for n, c in curves.items()}

    def share(found: Mapping[str, float]) -> float:
        return sum(found[n] * sizes[n] for n in sizes) / total

    free = densities(0.0)
    if share(free) <= density:
        missing = (1 - density) / max(1 - share(free), 1e-12)
        return {n: 1 - missing * (1 - d) for n, d in free.items()}
    high = max(max(c.damage) for c in curves.values())
    last = densities(high)
    if share(last) >= density:
        return {n: d * density / share(last) for n, d in last.items()}
    low = 0.0
    for _ in range(60):  # halving a float: more would change nothing
        middle = (low + high) / 2
        low, high = (middle, high) if share(densities(middle)) > density else (low, middle)
    found = densities(low)
    # Where a curve stays level for a while, densities jump: what is too much goes evenly.
    return {n: d * density / share(found) for n, d in found.items()}
