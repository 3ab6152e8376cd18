"""How sparse a vector already is, and how much of it that says may go."""

from __future__ import annotations

import math

from torch import Tensor

from sentei.graph.errors import PruneError

__all__ = ["keep_at_least", "pq_index"]


def pq_index(values: Tensor, p: float = 0.5, q: float = 1.0) -> float:
    """I_{p,q}(w) = 1 - d^{1/q - 1/p} ‖w‖_p / ‖w‖_q, of a vector with d entries.

    0 for a constant vector, 1 - d^{1/q - 1/p} for one with a single non-zero; larger is sparser.
    Scaling and repeating the vector change nothing. Hand over surviving weights only: zeros that a
    mask put there would make any vector look sparse.

    Returns:
        0 for an empty or an all-zero vector.
    Raises:
        PruneError: not 0 < p < q.
    Source: Diao et al. 2023, arXiv:2302.05601, definition 3.1.

    >>> import torch
    >>> pq_index(torch.tensor([2., -2., 2.])), round(pq_index(torch.tensor([0., 0., 0., 5.])), 6)
    (0.0, 0.75)
    """
    if not 0 < p < q:
        raise PruneError(f"the PQ index wants 0 < p < q; got p={p:g} and q={q:g}")
    size = values.detach().flatten().double().abs()
    top = size.max().item() if len(size) else 0.0
    if top == 0:
        return 0.0
    size = size / top  # powers of tiny weights would vanish

    def norm(r: float) -> float:
        # With zeros left out 0^r is never asked for; they add nothing to either sum.
        return size[size > 0].pow(r).sum().item() ** (1 / r)

    return max(1 - len(size) ** (1 / q - 1 / p) * norm(p) / norm(q), 0.0)


def keep_at_least(count: int, index: float, p: float = 0.5, q: float = 1.0, eta: float = 0) -> int:
    """r = ceil(d (1 + η)^{-q / (q - p)} (1 - I)^{pq / (q - p)}), at least one of d weights.

    If the r largest hold all but a share η of Σ |w|^p, there are at least so many of them (theorem
    3.2): a lower bound on what to keep.

    >>> keep_at_least(100, 0.25)
    75
    """
    bound = count * (1 + eta) ** (-q / (q - p)) * (1 - index) ** (p * q / (q - p))
    return min(max(math.ceil(bound - 1e-9), 1), count) if count else 0
