"""Batch-norm statistics of the network as it is now."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from sentei.batches import Data, batches, forward, to_device
from sentei.recovery.train import check_data

__all__ = ["recalibrate"]


@torch.no_grad()
def recalibrate(model: nn.Module, data: Data, batch_size: int = 64) -> nn.Module:
    """Estimate running means and variances of all batch norms anew, in place. Needs no labels.

    Removed units shift what later layers see, and the statistics stored in batch norms are still
    those of the unpruned network. One pass over `data` sets them to the plain average over batches
    (momentum = None), with everything but batch norms in eval mode.

    Raises:
        ValueError: no data.
    Source: Li et al. 2020, EagleEye, arXiv:2007.02491 (adaptive batch normalisation).

    >>> norm = nn.BatchNorm1d(1)
    >>> _ = recalibrate(norm, (torch.tensor([[1.], [3.]]), torch.zeros(2)))
    >>> norm.running_mean.item()
    2.0
    """
    check_data(data)
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not norms:
        return model
    flags = {module: module.training for module in model.modules()}
    momenta = {norm: norm.momentum for norm in norms}
    device = next(model.parameters()).device
    try:
        model.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
            norm.training = True
        for batch in batches(data, batch_size):
            forward(model, to_device(batch, device))
    finally:
        for norm, momentum in momenta.items():
            norm.momentum = momentum
        for module, flag in flags.items():
            module.training = flag
    return model
