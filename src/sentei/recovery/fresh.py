"""Start again: new initial weights for a network as it now stands."""

from __future__ import annotations

import torch
from torch import nn

from sentei.graph.capture import unwrap

__all__ = ["reinitialise"]


def reinitialise(model: nn.Module, seed: int = 0) -> None:
    """Draw all parameters anew, in place, as their modules do when they are built.

    Every module that can reset itself (`reset_parameters`) does so, at its present widths; buffers
    such as running statistics start afresh with it. Parameters of modules that cannot are
    permuted among themselves, which for independent draws is another draw. The caller's random
    state is left alone.

    >>> net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    >>> _ = net[1].running_mean.fill_(7.0)
    >>> before = net[0].weight.clone()
    >>> reinitialise(net, seed=1)
    >>> net[1].running_mean.tolist(), torch.equal(net[0].weight, before)
    ([0.0, 0.0, 0.0], False)
    """
    model = unwrap(model)
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(devices=list(devices)), torch.no_grad():
        torch.manual_seed(seed)
        done: set[int] = set()
        for module in model.modules():
            reset = getattr(module, "reset_parameters", None)
            reset = reset or getattr(module, "_reset_parameters", None)
            if callable(reset):
                reset()
                done |= {id(p) for p in module.parameters(recurse=False)}
        for parameter in model.parameters():
            if id(parameter) not in done:
                flat = parameter.flatten()
                order = torch.randperm(flat.numel()).to(flat.device)
                parameter.copy_(flat[order].view_as(parameter))
