"""How a density of the whole is spread over layers, by shapes alone.

Each function maps (parameter name -> shape in order of the network, density of all weights) to
densities by parameter, whose mean weighted by sizes is the density asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from sentei.graph.errors import PruneError

__all__ = ["er", "erk", "first_dense", "uniform", "uniform_plus"]

Shapes = Mapping[str, Sequence[int]]

# The share that the last layer keeps at least. Gale et al. 2019, section 4.
_LAST = 0.2


def uniform(shapes: Shapes, density: float) -> dict[str, float]:
    """The same density in every layer."""
    return dict.fromkeys(shapes, density)


def first_dense(shapes: Shapes, density: float) -> dict[str, float]:
    """First layer dense, last layer at most 80 % sparse, one sparsity for all between.

    s_last = min(s, 0.8);  s_mid = (s N - s_last n_last) / (N - n_first - n_last)

    Raises:
        PruneError: the layers between would have to lose more than they have.
    Source: Gale, Elsen, Hooker 2019, arXiv:1902.09574, the improved recipe for ResNet-50.

    >>> first_dense({"a": (2, 5), "b": (8, 10), "c": (10, 1)}, 0.5)
    {'a': 1.0, 'b': 0.4375, 'c': 0.5}
    """
    return _shielded(shapes, density, first=True)


def uniform_plus(shapes: Shapes, density: float) -> dict[str, float]:
    """Uniform, but a first convolution stays dense and the last layer keeps at least 20 %.

    Raises:
        PruneError: the other layers would have to lose more than they have.
    Source: Lee et al. 2021, arXiv:2010.07611, section 4, after Gale et al. 2019.

    >>> uniform_plus({"a": (20, 5), "b": (10, 1)}, 0.1)["b"]
    0.2
    """
    # "First convolution dense" says nothing of networks that begin with a matrix.
    begins = bool(shapes) and len(next(iter(shapes.values()))) > 2
    return _shielded(shapes, density, first=begins)


def _shielded(shapes: Shapes, density: float, first: bool) -> dict[str, float]:
    sizes = {n: prod(s) for n, s in shapes.items()}
    names = list(shapes)
    if len(names) < 2:
        return uniform(shapes, density)
    head, last = names[0], names[-1]
    last_density = max(density, _LAST)
    between = names[1:-1] if first else names[:-1]
    room = sum(sizes[n] for n in between)
    loss = (1 - density) * sum(sizes.values()) - (1 - last_density) * sizes[last]
    if loss > room * (1 + 1e-12):
        raise PruneError(
            f"density {density:g} cannot be met with "
            f"{f'{head!r} dense and ' if first else ''}at least "
            f"{100 * last_density:g} % of {last!r} kept: the other layers hold {room:,} "
            f"weights and would have to lose {loss:,.0f}. "
            f"Try a density of at least {1 - _most(sizes, room, last):.3g}, or another scope"
        )
    out = dict.fromkeys(names, max(1 - loss / room, 0.0) if room else 1.0)
    if first:
        out[head] = 1.0
    out[last] = last_density
    return out


def _most(sizes: Mapping[str, int], room: int, last: str) -> float:
    """The largest sparsity of the whole that can be met."""
    return (room + (1 - _LAST) * sizes[last]) / sum(sizes.values())


def er(shapes: Shapes, density: float) -> dict[str, float]:
    """d_l ~ (n_in + n_out) / (n_in n_out), kernel sizes left out; at most 1.

    Source: Mocanu et al. 2018, arXiv:1707.04780.
    """
    return _solve(shapes, density, {n: _ratio(s[:2]) for n, s in shapes.items()})


def erk(shapes: Shapes, density: float) -> dict[str, float]:
    """d_l = min(1, ε Σ shape / Π shape), with ε such that Σ d_l n_l = d N.

    Small layers stay denser. Layers that would exceed 1 stay whole, and the rest share what is
    left of the budget; repeated until none exceeds 1.

    Source: Evci et al. 2020 (RigL), arXiv:1911.11134, section 3.

    >>> shapes = {"a": (300, 64), "b": (100, 300), "c": (10, 100)}
    >>> kept = erk(shapes, 0.05)
    >>> [round(kept[n] * prod(s)) for n, s in shapes.items()]
    [1045, 1149, 316]
    """
    return _solve(shapes, density, {n: _ratio(s) for n, s in shapes.items()})


def _ratio(shape: Sequence[int]) -> float:
    return sum(shape) / prod(shape)


def _solve(shapes: Shapes, density: float, ratios: dict[str, float]) -> dict[str, float]:
    sizes = {n: prod(s) for n, s in shapes.items()}
    budget = density * sum(sizes.values())
    dense: set[str] = set()
    while len(dense) < len(shapes):
        free = [n for n in shapes if n not in dense]
        left = budget - sum(sizes[n] for n in dense)
        epsilon = left / sum(ratios[n] * sizes[n] for n in free)
        over = [n for n in free if epsilon * ratios[n] > 1]
        if not over:
            return {n: 1.0 if n in dense else epsilon * ratios[n] for n in shapes}
        # Only the worst (and its equals): with those dense, others may fit.
        worst = max(ratios[n] for n in over)
        dense |= {n for n in over if ratios[n] == worst}
    return dict.fromkeys(shapes, 1.0)
