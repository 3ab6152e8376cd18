"""The empirical neural tangent kernel of small networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.func import jacrev, vmap

__all__ = ["contract", "jacobian", "tangent_kernel"]

Parameters = Mapping[str, Tensor]
Network = Callable[[Parameters, Tensor], Tensor]


def jacobian(network: Network, parameters: Parameters, x: Tensor) -> dict[str, Tensor]:
    """d outputs / d parameters of each example: name -> (examples, outputs, *shape).

    Args:
        network: (parameters, batch) -> outputs (batch, ...), pure.
    """

    def one(values: Parameters, example: Tensor) -> Tensor:
        return network(values, example.unsqueeze(0)).flatten()

    return vmap(jacrev(one), in_dims=(None, 0))(dict(parameters), x)


def contract(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> Tensor:
    """Θ = J(x1) J(x2)ᵀ: (n1, n2, outputs, outputs), summed over all parameters."""
    terms = [torch.einsum("akp,blp->abkl", one[n].flatten(2), two[n].flatten(2)) for n in one]
    return torch.stack(terms).sum(0)


def tangent_kernel(network: Network, parameters: Parameters, x1: Tensor, x2: Tensor) -> Tensor:
    """Θ(x1, x2)[a, b, k, l] = sum over parameters p of df_k(x1_a)/dp · df_l(x2_b)/dp.

    Source: Jacot, Gabriel and Hongler 2018, arXiv:1806.07572; the tensor form of Liu and Zenke
        2020, arXiv:2006.08228, section 3.

    >>> def linear(parameters, x):
    ...     return x @ parameters["w"].T
    >>> x = torch.tensor([[1., 2.], [3., 0.]])
    >>> tangent_kernel(linear, {"w": torch.ones(1, 2)}, x, x).squeeze().tolist()  # x xᵀ
    [[5.0, 3.0], [3.0, 9.0]]
    """
    return contract(jacobian(network, parameters, x1), jacobian(network, parameters, x2))
