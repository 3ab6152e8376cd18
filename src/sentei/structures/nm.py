"""N:M sparsity: of every M consecutive weights along the input of a row, N stay.

"2:4" reads: 2 of 4 stay, as NVIDIA's sparse tensor cores have it. (Wanda's and SparseGPT's
reference code counts those that *go*; 2:4 is the same either way, 1:4 is not.)
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

from sentei.graph.errors import PruneError

__all__ = ["best_of", "holds", "parse"]


def parse(pattern: str) -> tuple[int, int] | None:
    """(n, m) of "n:m"; None for anything that does not look like it.

    Raises:
        PruneError: n is not in [1, m].

    >>> parse("2:4"), parse("global")
    ((2, 4), None)
    """
    found = re.fullmatch(r"(\d+):(\d+)", pattern)
    if not found:
        return None
    n, m = int(found[1]), int(found[2])
    if not 1 <= n <= m:
        raise PruneError(f"{pattern}: of {m} weights {n} cannot stay; n:m wants 1 <= n <= m")
    return n, m


def best_of(scores: Tensor, n: int, m: int, name: str = "the weight") -> Tensor:
    """Mask of the n best in every m consecutive entries of each row; of equal ones the later stay.

    Kernels are rows of C_in · k · k entries, as a convolution multiplies them.

    Args:
        scores: (rows, ...); larger is worth more.
    Raises:
        PruneError: a row's length is no multiple of m.

    >>> best_of(torch.tensor([[4., 1., 2., 3.], [1., 1., 1., 1.]]), 2, 4).int().tolist()
    [[1, 0, 0, 1], [0, 0, 1, 1]]
    """
    length = scores[0].numel()
    if length % m:
        raise PruneError(
            f"{n}:{m} needs rows whose length is a multiple of {m}; those of {name!r} have {length}"
            f" (shape {tuple(scores.shape)}). Protect that weight, or choose another pattern"
        )
    groups = scores.reshape(-1, m)
    gone = groups.argsort(dim=1, stable=True)[:, : m - n]
    mask = torch.ones_like(groups, dtype=torch.bool).scatter_(1, gone, False)
    return mask.view(scores.shape)


def holds(weight: Tensor, n: int, m: int) -> bool:
    """Whether every m consecutive entries of each row hold at most n that are not zero.

    >>> holds(torch.tensor([[1., 0., 2., 0.]]), 2, 4), holds(torch.ones(1, 4), 2, 4)
    (True, False)
    """
    if weight[0].numel() % m:
        return False
    return bool(((weight.detach() != 0).reshape(-1, m).sum(1) <= n).all())
