"""Noise on every weight, as much as the data bear."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sentei.graph.capture import unwrap
from sentei.graph.errors import PruneError
from sentei.hooks.base import Hook

__all__ = ["VariationalDropout", "divergence", "log_alpha"]

_K1, _K2, _K3 = 0.63576, 1.87320, 1.48695
_LIMIT = 8.0
_CONVOLUTIONS = {nn.Conv1d: F.conv1d, nn.Conv2d: F.conv2d, nn.Conv3d: F.conv3d}


def log_alpha(weight: Tensor, log_variance: Tensor) -> Tensor:
    """log α = log σ² - log θ², in [-8, 8]: how much noise there is beside the weight.

    >>> log_alpha(torch.tensor([1.0, 0.0]), torch.tensor([-2.0, -2.0]))
    tensor([-2.,  8.])
    """
    return (log_variance - weight.square().clamp(min=1e-30).log()).clamp(-_LIMIT, _LIMIT)


def divergence(log_alpha: Tensor) -> Tensor:
    """KL from the log-uniform prior, approximated: k₁ - k₁ sigmoid(k₂ + k₃ log α) + log(1 + 1/α)/2.

    About 0 for α → ∞ (a weight that is all noise costs nothing), growing as α falls.

    Source: Molchanov et al. 2017, arXiv:1701.05369, eq. 14.

    >>> [round(x, 2) for x in divergence(torch.tensor([-8.0, 0.0, 8.0])).tolist()]
    [4.64, 0.43, 0.0]
    """
    gate = torch.sigmoid(_K2 + _K3 * log_alpha)
    return _K1 - _K1 * gate + 0.5 * F.softplus(-log_alpha)


class VariationalDropout(Hook):
    """Weights N(θ, σ²) with σ² learned; loss + λ(step) Σ KL / examples.

    Sampled where it varies least, at the outputs (local reparametrisation): mean x·θ, variance
    x²·σ². In eval mode weights are θ.

    Args:
        weights: parameters of `nn.Linear` and `nn.Conv*` layers.
        strength: λ by step, from 0 up to 1 for the whole bound.
        examples: how many training examples there are.
        lr: Adam's, for log σ².
        start: log σ² at the start.
    Raises:
        PruneError: a weight is not one of such a layer.
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        strength: Callable[[int], float],
        examples: int,
        *,
        lr: float = 1e-2,
        start: float = -8.0,
    ) -> None:
        self.names, self.strength, self.examples = list(weights), strength, examples
        self.log_variance = {
            n: torch.full_like(w.detach(), start).requires_grad_() for n, w in weights.items()
        }
        self.learner = torch.optim.Adam(self.log_variance.values(), lr=lr)
        self.handles: list[Any] = []

    def start(self, model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
        super().start(model, optimizer, steps)
        model = unwrap(model)
        self.weights = {n: model.get_parameter(n) for n in self.names}
        for name in self.names:
            layer = model.get_submodule(name.rpartition(".")[0])
            if type(layer) is not nn.Linear and type(layer) not in _CONVOLUTIONS:
                self.close()
                raise PruneError(
                    f"variational dropout adds noise to linear and convolution layers; {name!r} "
                    f"belongs to a {type(layer).__name__}: protect it"
                )
            self.handles.append(layer.register_forward_hook(self._noisy(name)))

    def _noisy(self, name: str) -> Callable[..., Tensor | None]:
        def hook(layer: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor | None:
            if not layer.training:
                return None
            square, variance = args[0].square(), self.log_variance[name].exp()
            if isinstance(layer, nn.Linear):
                spread = F.linear(square, variance)
            else:
                sides = layer.padding
                if layer.padding_mode != "zeros":
                    square = F.pad(
                        square, layer._reversed_padding_repeated_twice, mode=layer.padding_mode
                    )
                    sides = 0
                spread = _CONVOLUTIONS[type(layer)](
                    square, variance, None, layer.stride, sides, layer.dilation, layer.groups
                )
            # The root's slope at zero is infinite.
            return out + spread.clamp(min=1e-12).sqrt() * torch.randn_like(out)

        return hook

    def penalty(self) -> Tensor | float:
        strength = self.strength(self.step)
        if not strength:
            return 0.0
        total = sum(divergence(self.log_alpha(n)).sum() for n in self.names)
        return strength / self.examples * total

    def log_alpha(self, name: str) -> Tensor:
        return log_alpha(self.weights[name], self.log_variance[name])

    def before_step(self) -> bool:
        self.learner.step()
        self.learner.zero_grad()
        return True

    def finish(self) -> None:
        self.close()

    def close(self) -> None:
        """Take the noise off the layers; also to be called after an error."""
        for handle in self.handles:
            handle.remove()
        self.handles = []

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {
            "log_variance": {n: v.detach() for n, v in self.log_variance.items()},
            "learner": self.learner.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        for name, value in state["log_variance"].items():
            self.log_variance[name].data.copy_(value)
        self.learner.load_state_dict(state["learner"])
