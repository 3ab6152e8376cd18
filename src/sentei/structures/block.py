"""Blocks of a matrix: h × w neighbours stay or go together.

A kernel (C_out, C_in, k, k) is the matrix (C_out, C_in · k · k).
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

from sentei.graph.errors import PruneError

__all__ = ["parse", "pooled", "spread"]

Shape = tuple[int, int]


def parse(pattern: str) -> Shape | None:
    """(h, w) of "hxw"; None for anything that does not look like it.

    Raises:
        PruneError: a side of zero.

    >>> parse("4x8"), parse("uniform")
    ((4, 8), None)
    """
    found = re.fullmatch(r"(\d+)x(\d+)", pattern)
    if not found:
        return None
    h, w = int(found[1]), int(found[2])
    if not h or not w:
        raise PruneError(f"a block of {pattern} holds no weight")
    return h, w


def pooled(scores: Tensor, block: Shape, name: str = "the weight") -> Tensor:
    """Sum of the scores in each block: (rows / h, columns / w).

    Raises:
        PruneError: the sides of the matrix are no multiples of the block's.

    >>> pooled(torch.tensor([[1., 2., 3., 4.]]), (1, 2)).tolist()
    [[3.0, 7.0]]
    """
    h, w = block
    matrix = scores.flatten(1)
    rows, columns = matrix.shape
    if rows % h or columns % w:
        raise PruneError(
            f"blocks of {h}x{w} do not tile {name!r}, which is {rows} x {columns}; protect that "
            f"weight, or choose sides that divide it"
        )
    return matrix.view(rows // h, h, columns // w, w).sum((1, 3))


def spread(mask: Tensor, block: Shape, shape: torch.Size | tuple[int, ...]) -> Tensor:
    """A mask over blocks as a mask over weights of `shape`; the counterpart of `pooled`.

    >>> spread(torch.tensor([[True, False]]), (1, 2), (1, 4)).int().tolist()
    [[1, 1, 0, 0]]
    """
    h, w = block
    return mask.repeat_interleave(h, 0).repeat_interleave(w, 1).view(shape)
