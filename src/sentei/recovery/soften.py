"""Logits of a healed classifier made less sure, so that training has something to go on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sentei.batches import Data, batches
from sentei.graph.capture import unwrap
from sentei.graph.errors import PruneError
from sentei.recovery.pairs import passing, watching
from sentei.recovery.train import check_data

__all__ = ["soften"]


@torch.no_grad()
def soften(model: nn.Module, data: Data, *, confidence: float = 0.5, batch_size: int = 64) -> float:
    """Scale the layer that makes the logits until the model is no surer than that, in place.

    k = the largest factor in (0, 1] with   mean over x of max softmax(k · z(x)) <= confidence

    Weights and bias of the layer are multiplied by k. The largest logit stays the largest, so that
    no answer changes; only how sure the model is. To be called where training comes next, after
    `reconstruct(..., keep_norms=True)`: weights fitted to the logits of a network that knows its
    training data by heart give a loss near zero there, hence no gradient, and stay where the fit
    left them. Softened, they move on (`benchmarks/recovery.py`: mostly to more accuracy). A model
    that is less sure than that, as most language models are, is left as it is.

    Args:
        model: `model(x)` gives logits `(N, classes, ...)`, or they are its output's `.logits`, as
            a linear layer or convolution gave them (dimensions may be in another order).
        data: inputs are enough; labels are not looked at.
        confidence: between 1 / classes and 1. Chance would be the lower end.
    Returns:
        k; 1 where nothing was changed.
    Raises:
        PruneError: the output is not as it came from a linear layer or convolution, that layer's
            weights are used elsewhere, too, or `confidence` is out of range.
        ValueError: no data.
    Source: the factor is the inverse of a temperature; Guo et al. 2017, arXiv:1706.04599, sec. 4.2,
        fit one to the labels, to be as sure as is right. Here it is for training.

    >>> model = nn.Linear(2, 3, bias=False)
    >>> _ = nn.init.constant_(model.weight, 0.)
    >>> _ = model.weight[0].data.fill_(10.)
    >>> k = soften(model, (torch.ones(4, 2), torch.zeros(4)))
    >>> round(model(torch.ones(1, 2)).softmax(1).max().item(), 3)
    0.5
    """
    check_data(data)
    layer, logits = None, []
    for batch in batches(data, batch_size):
        layer, found = _logits(model, batch, layer)
        logits.append(found)
    z = torch.cat(logits).double()
    if not 1 / z.shape[1] < confidence <= 1:
        raise PruneError(
            f"soften: confidence must be above 1/{z.shape[1]} (as sure as chance) and at most 1; "
            f"got {confidence!r}"
        )
    if _confidence(z) <= confidence:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        if _confidence(middle * z) <= confidence:
            low = middle
        else:
            high = middle
    layer.weight.mul_(low)
    if layer.bias is not None:
        layer.bias.mul_(low)
    return low


def _confidence(z: Tensor) -> float:
    return float(z.softmax(1).amax(1).mean())


def _logits(model: nn.Module, batch: Any, last: nn.Module | None) -> tuple[nn.Module, Tensor]:
    """The layer whose output the model hands out, and that output as (positions, classes)."""
    made: list[tuple[nn.Module, Tensor]] = []
    layers = {
        m: m
        for m in unwrap(model).modules()
        if isinstance(m, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d))
    }
    with watching(layers, lambda layer, _x, y: made.append((layer, y))):
        out = passing(model, batch)
    out = getattr(out, "logits", out)
    if isinstance(out, (tuple, list)) and out:
        out = out[0]
    ours = [(layer, y) for layer, y in made if _same(y, out)]
    if not ours or (last is not None and ours[-1][0] is not last):
        raise PruneError(
            "soften: the model's output is not that of a linear layer or convolution as it is; "
            f"it is a {type(out).__name__}"
        )
    layer, logits = ours[-1]
    own = {id(p) for p in layer.parameters()}
    for name, module in unwrap(model).named_modules():
        if module is not layer and any(id(p) in own for p in module.parameters(recurse=False)):
            raise PruneError(
                f"soften: {name!r} uses the weights of the layer that makes the logits"
            )
    ran = sum(made_by is layer for made_by, _y in made)
    if ran > 1:
        raise PruneError("soften: the layer that makes the logits runs several times")
    features = 1 if not isinstance(layer, nn.Linear) else -1
    return layer, logits.movedim(features, -1).reshape(-1, logits.shape[features])


def _same(one: Tensor, two: Any) -> bool:
    """Whether both are the same numbers, `two` perhaps with its dimensions in another order."""
    return one is two or (
        isinstance(two, Tensor)
        and one.numel() == two.numel() > 0
        and one.untyped_storage().data_ptr() == two.untyped_storage().data_ptr()
    )
