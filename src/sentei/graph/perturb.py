"""Other weights for a comparison that the model's own weights would let anything pass.

A branch whose last layer starts at zero, a layer scale of 1e-6, a last ReLU that is dead on the
example input: the outputs do not show what was removed before them. So the comparison is made once
more, of both networks, with weights that let it show, and then the weights are put back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["ATTEMPTS", "perturbed", "substituted"]

ATTEMPTS = 4


def perturbed(model: nn.Module, attempt: int) -> dict[str, Tensor]:
    """name -> other values for parameters, by name; equal ones for equal models.

    The first attempt replaces what hides units: parameters that hold one value only, or next to
    nothing. Later ones add noise to all others, too, as large as they are.

    >>> layer = nn.Linear(2, 2)
    >>> layer.bias.data.zero_()
    tensor([0., 0.])
    >>> list(perturbed(layer, 0)), list(perturbed(layer, 1))
    (['bias'], ['weight', 'bias'])
    """
    generator = torch.Generator().manual_seed(attempt)
    out: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        if parameter.is_meta or not parameter.is_floating_point() or not parameter.numel():
            continue
        values = parameter.detach().double().cpu()
        if not values.isfinite().all():
            continue
        level, spread = values.mean().item(), (values.max() - values.min()).item()
        noise = torch.randn(values.shape, generator=generator, dtype=torch.float64)
        fan_in = values[0].numel() if values.dim() > 1 else 16
        small = min(0.25, fan_in**-0.5)
        if values.abs().max() < 1e-3:
            new = noise * small
        elif spread <= 1e-6 * abs(level):
            new = values * (1 + 0.5 * noise.tanh())  # of one sign, as scales want to be
        elif attempt:
            size = values.abs().mean().item() if values.dim() < 2 else small
            new = values + noise * size
        else:
            continue
        out[name] = new.to(parameter)
    return out


@contextmanager
def substituted(parameters: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside, the parameters named have these values.

    >>> layer = nn.Linear(1, 1, bias=False)
    >>> with substituted(dict(layer.named_parameters()), {"weight": torch.full((1, 1), 3.0)}):
    ...     layer(torch.ones(1)).item()
    3.0
    """
    before = {name: parameters[name].data for name in weights}
    try:
        for name, values in weights.items():
            parameters[name].data = values
        yield
    finally:
        for name, values in before.items():
            parameters[name].data = values
