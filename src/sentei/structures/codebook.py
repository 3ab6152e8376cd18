"""Clip small weights to zero and round the others to a few shared values.

Source: Tung and Mori 2018 (CLIP-Q), CVPR, section 3.
"""

from __future__ import annotations

from math import ceil, floor

import torch
from torch import Tensor

from sentei.graph.errors import PruneError

__all__ = ["cells", "clip_and_quantise", "stored_bits"]


def cells(weight: Tensor, drop: int, bits: int) -> Tensor:
    """Cell of each weight: 0 for what is clipped, 1 … 2^bits - 1 for the intervals.

    Of the positive and of the negative weights the same share goes, the smallest first, `drop` in
    all with the zeros, which are the first. What is left of either side is divided into intervals
    of equal width between the clipping point and the extreme weight; the side that reaches further
    has one more.

    Raises:
        PruneError: `drop` is out of range, or less than 2 bits.

    >>> cells(torch.tensor([-4., -1., 1., 2., 3., 6.]), drop=2, bits=2).tolist()
    [3, 0, 0, 1, 1, 2]
    """
    flat = weight.detach().flatten()
    if bits < 2:
        raise PruneError(f"a codebook with zero and a value of each sign takes 2 bits; got {bits}")
    if not 0 <= drop <= flat.numel():
        raise PruneError(f"cannot clip {drop} of {flat.numel()} weights")
    positive, negative = flat > 0, flat < 0
    count, other = int(positive.sum()), int(negative.sum())
    drop = max(drop - (flat.numel() - count - other), 0)  # zeros are clipped already
    # The same share of either sign; whatever rounding leaves goes to the negative side.
    above = min(max(round(drop * count / max(count + other, 1)), drop - other), count)
    intervals = 2**bits - 1
    reach = [flat[side].abs().max().item() if side.any() else 0.0 for side in (positive, negative)]
    more = ceil if reach[0] >= reach[1] else floor
    wide = [more(intervals / 2), intervals - more(intervals / 2)]
    out = torch.zeros_like(flat, dtype=torch.long)
    for side, gone, number, first in (
        (positive, above, wide[0], 1),
        (negative, drop - above, wide[1], 1 + wide[0]),
    ):
        where = side.nonzero().flatten()
        size = flat[where].abs()
        kept = where[size.argsort(stable=True)[gone:]]
        if len(kept):
            left = flat[kept].abs()
            low, high = left.min(), left.max()
            width = (high - low).clamp(min=torch.finfo(left.dtype).tiny) / number
            out[kept] = first + ((left - low) / width).long().clamp(max=number - 1)
    return out.view(weight.shape)


def clip_and_quantise(weight: Tensor, drop: int, bits: int) -> Tensor:
    """Every weight becomes the mean of its cell, and clipped ones zero: at most 2^bits values.

    >>> clip_and_quantise(torch.tensor([-4., -1., 1., 2., 3., 6.]), drop=2, bits=2).tolist()
    [-4.0, 0.0, 0.0, 2.5, 2.5, 6.0]
    """
    cell = cells(weight, drop, bits).flatten()
    values = weight.detach().flatten().double()
    sums = torch.zeros(2**bits, dtype=torch.float64, device=weight.device)
    sums = sums.index_add(0, cell, values)
    means = sums / torch.bincount(cell, minlength=2**bits).clamp(min=1)
    means[0] = 0
    return means[cell].to(weight.dtype).view(weight.shape)


def stored_bits(count: int, drop: int, bits: int, index_bits: int = 5) -> int:
    """Bits of a layer on disk: a code and a relative index for each weight kept, and the codebook.

    >>> stored_bits(1000, drop=900, bits=2)
    828
    """
    return (count - drop) * (bits + index_bits) + 32 * 2**bits
