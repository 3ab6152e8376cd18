"""Outputs of two runtimes, compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

from sentei.graph.errors import PruneError

__all__ = ["agree", "difference", "outputs"]


def outputs(result: Any) -> list[Tensor]:
    """The tensors in a result, in order."""
    return [leaf.detach() for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]


def difference(got: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """max over outputs of max |got - wanted| / max |wanted|; inf where shapes or counts differ.

    NaN and infinities agree with themselves.

    >>> import torch
    >>> difference([torch.tensor([1.0, 2.2])], [torch.tensor([1.0, 2.0])]) < 0.11
    True
    """
    if len(got) != len(wanted):
        return float("inf")
    worst = 0.0
    for a, b in zip(got, wanted, strict=True):
        if a.shape != b.shape:
            return float("inf")
        a, b = a.cpu().double(), b.cpu().double()
        same = (a == b) | (a.isnan() & b.isnan())
        if same.all():
            continue
        scale = b[b.isfinite()].abs().max().item() if b.isfinite().any() else 0.0
        off = (a - b)[~same].abs().max().item()
        worst = max(worst, off / scale if scale and off == off else float("inf"))
    return worst


def agree(got: Sequence[Tensor], wanted: Sequence[Tensor], tolerance: float, who: str) -> float:
    """The difference, if it is within the tolerance.

    Raises:
        PruneError: it is not.
    """
    error = difference(got, wanted)
    if error > tolerance:
        raise PruneError(
            f"{who} computes something else than the model: it differs by {error:.1e} (relative; "
            f"allowed {tolerance:.0e}), so nothing was written"
        )
    return error
