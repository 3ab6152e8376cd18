"""The constant part of what was removed, folded into the biases of its consumers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sentei.batches import Data, batches
from sentei.graph.surgery import Surgery
from sentei.recovery.pairs import Pair, outputs, pairs, passing, watching
from sentei.recovery.train import check_data

__all__ = ["compensate"]


@torch.no_grad()
def compensate(
    original: nn.Module, pruned: nn.Module, surgery: Surgery, data: Data, batch_size: int = 64
) -> list[str]:
    """Add the mean contribution of removed inputs to the bias of every layer that lost some.

    b' = b + mean over positions of W[:, removed] x[removed]

    Exact where the removed units are constant. Means are those of the original network on `data`;
    no labels are needed. For convolutions the mean is taken over output positions, so that the
    border counts as it is.

    Args:
        surgery: `result.surgery` of the pruning that led from `original` to `pruned`.
    Returns:
        names of layers that lost inputs and have no bias to add to; a batch norm after them is
        better served by `recalibrate`.
    Raises:
        ValueError: no data. PruneError: the networks do not belong together.
    """
    check_data(data)
    lost = [p for p in pairs(original, pruned, surgery) if len(p.gone)]
    able = [p for p in lost if p.after.bias is not None]
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    by_name = {p.name: p for p in able}

    def see(name: str, x: Tensor, _: Tensor) -> None:
        found = outputs(by_name[name], _only_gone(by_name[name], x))
        sums[name] = sums.get(name, 0) + found.double().sum(0)
        counts[name] = counts.get(name, 0) + len(found)

    with watching({p.name: p.before for p in able}, see):
        for batch in batches(data, batch_size):
            passing(original, batch)
    for pair in able:
        if pair.name in sums:
            pair.after.bias += (sums[pair.name] / counts[pair.name]).to(pair.after.bias)
    return [p.name for p in lost if p.after.bias is None]


def _only_gone(pair: Pair, x: Tensor) -> Tensor:
    """What the original layer makes of its removed inputs alone, without the bias."""
    layer = pair.before
    keep = torch.zeros(layer.weight.shape[1], dtype=x.dtype, device=x.device)
    keep[pair.gone.to(x.device)] = 1
    shape = [1] * x.dim()
    shape[pair.features] = -1
    masked = x * keep.view(shape)
    if not pair.convolution:
        return nn.functional.linear(masked, layer.weight)
    return layer._conv_forward(masked, layer.weight, None)
