"""What weights may be set to where a mask keeps them, and where it does not.

The actions of Zhou et al. 2019, arXiv:1905.01067, section 3 and 4: everything about a ticket but
one thing is changed, to see what matters.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from sentei.graph.errors import PruneError, closest
from sentei.methods.setting import State
from sentei.structures import Masks

__all__ = ["DROPPED", "KEPT", "dropped_values", "kept_values", "signed_constant"]


def signed_constant(weight: Tensor, density: float = 1.0) -> Tensor:
    """sign(w) · sqrt(2 / (density · fan in)): only the signs of an initialisation are kept.

    >>> signed_constant(torch.tensor([[0.3, -0.1]])).tolist()
    [[1.0, -1.0]]
    """
    return _signs(weight) * (2 / (density * weight[0].numel())) ** 0.5


def _signs(weight: Tensor) -> Tensor:
    return torch.where(weight < 0, -1.0, 1.0).to(weight)


def _rewind(start: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
    return start.clone()


def _reinit(start: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
    # Permuted independent draws are independent draws of the same distribution.
    order = torch.randperm(start.numel(), generator=generator).to(start.device)
    return start.flatten()[order].view_as(start)


def _reshuffle(start: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
    out = start.clone()
    order = torch.randperm(int(mask.sum()), generator=generator).to(start.device)
    out[mask] = start[mask][order]
    return out


def _constant(start: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
    return _signs(start) * start.std()


def _random_sign(start: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
    draws = torch.rand(start.shape, generator=generator).to(start.device)
    return torch.where(draws < 0.5, -1.0, 1.0) * start.std()


def _same_sign(action: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def kept(start: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
        return action(start, mask, generator).abs() * _signs(start)

    return kept


KEPT: dict[str, Callable[[Tensor, Tensor, torch.Generator], Tensor]] = {
    "rewind": _rewind,
    "reinit": _reinit,
    "reinit-same-sign": _same_sign(_reinit),
    "reshuffle": _reshuffle,
    "reshuffle-same-sign": _same_sign(_reshuffle),
    "constant": _constant,
    "constant-random-sign": _random_sign,
}
"""Action -> (initial weight, mask, generator) -> the values of what is kept ("mask-1 actions").

rewind: the initial values. reinit: others of the same distribution. reshuffle: those of the kept
weights in another order. constant: ± the layer's standard deviation, with the initial signs."""

DROPPED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "zero": lambda start, final: torch.zeros_like(start),
    "freeze": lambda start, final: start.clone(),
    "zero-if-shrunk": lambda start, final: start.masked_fill(final.abs() < start.abs(), 0.0),
}
"""Action -> (initial weight, trained weight) -> the values of what is dropped ("mask-0 actions").

zero, freeze at the initial value, or zero only where training moved the weight toward zero."""


def kept_values(action: str, start: Mapping[str, Tensor], masks: Masks, seed: int = 0) -> State:
    """A copy of `start` with this action's values in the weights that have a mask.

    Raises:
        PruneError: an unknown action.

    >>> start = {"w": torch.tensor([1., -2., 3.])}
    >>> kept_values("constant", start, Masks.full(start))["w"].sign().tolist()
    [1.0, -1.0, 1.0]
    """
    change = _chosen(action, KEPT)
    out = {n: t.clone() for n, t in start.items()}
    for name, mask in masks.items():
        generator = torch.Generator().manual_seed(zlib.crc32(f"{action}:{seed}:{name}".encode()))
        out[name] = change(start[name], mask, generator)
    return out


def dropped_values(
    action: str, start: Mapping[str, Tensor], final: Mapping[str, Tensor], masks: Masks
) -> State:
    """The values at which this action holds the weights that `masks` drop; zero elsewhere.

    Raises:
        PruneError: an unknown action.

    >>> start, final = {"w": torch.tensor([1., 1.])}, {"w": torch.tensor([2., .5])}
    >>> masks = Masks({"w": torch.tensor([False, False])})
    >>> dropped_values("zero-if-shrunk", start, final, masks)["w"].tolist()
    [1.0, 0.0]
    """
    change = _chosen(action, DROPPED)
    return {n: change(start[n], final[n]).masked_fill(m, 0.0) for n, m in masks.items()}


def _chosen(action: str, known: dict):
    if action not in known:
        raise PruneError(f"unknown action {action!r}; {closest(action, known)}")
    return known[action]
