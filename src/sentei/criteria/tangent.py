"""The empirical neural tangent kernel of small networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

__all__ = ["contract", "jacobian", "kernel_by_layers", "linear_layers", "tangent_kernel"]

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


def linear_layers(model: nn.Module) -> dict[str, nn.Linear] | None:
    """The linear layers of a model by name, if they hold all of its parameters; else None.

    >>> list(linear_layers(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))))
    ['0', '2']
    >>> linear_layers(nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))) is None
    True
    """
    found = {n: m for n, m in model.named_modules() if type(m) is nn.Linear}
    theirs = [f"{n}.{own}" if n else own for n, m in found.items() for own in m._parameters]
    names = [n for n, _ in model.named_parameters(remove_duplicate=False)]
    return found if found and set(names) <= set(theirs) else None


def kernel_by_layers(
    model: nn.Module,
    parameters: Parameters,
    x1: Tensor,
    x2: Tensor,
    masks: Mapping[str, Tensor] | None = None,
) -> Tensor | None:
    """Θ(x1, x2) of a network of linear layers without any Jacobian of its weights.

    A layer gives W a + b; with δ_k = d f_k / d (W a + b) the Jacobian of f_k is δ_k aᵀ, so that

    Θ[a, b, k, l] = Σ over layers and their rows i of δ_ki(x1_a) δ_li(x2_b) (1 + Σ_j m_ij a_j a'_j)

    with 1 for the bias and m the mask by which W = m θ, all ones without: the kernel of θ. What is
    computed is as wide as the layers, not as many as the weights.

    Args:
        parameters: of the network as it computes, masked already.
    Returns:
        (n1, n2, outputs, outputs); None for a network that this is not written for: one with
        other parameters, or a layer that is used twice or at several places of an example.
    Source: Novak, Sohl-Dickstein and Schoenholz 2022, arXiv:2206.08720, "structured derivatives".
    """
    layers = linear_layers(model)
    if layers is None:
        return None
    one, two = (_taps(model, layers, parameters, x) for x in (x1, x2))
    if one is None or two is None:
        return None
    total: Tensor | None = None
    for name, layer in layers.items():
        (slopes1, given1), (slopes2, given2) = one[name], two[name]
        mask = (masks or {}).get(f"{name}.weight".lstrip("."))
        if mask is None or mask.all():
            inner = (given1 @ given2.T)[..., None]
        else:
            products = given1[:, None] * given2[None]
            inner = products @ mask.to(products).T
        if layer.bias is not None:
            inner = inner + 1
        # (n1, n2, outputs, rows) times (n2, rows, outputs)
        part = (slopes1[:, None] * inner[:, :, None]) @ slopes2.mT
        total = part if total is None else total + part
    return total


def _taps(
    model: nn.Module, layers: Mapping[str, nn.Linear], parameters: Parameters, x: Tensor
) -> dict[str, tuple[Tensor, Tensor]] | None:
    """layer -> (d outputs / d what it gives (n, outputs, rows), what it was given (n, columns))."""
    seen: dict[str, Tensor] = {}
    shifts: dict[str, Tensor] = {}
    strange = []

    def tap(name: str) -> Callable[..., Tensor]:
        def hook(layer: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
            if name in seen or output.dim() != 2 or len(output) != 1:
                strange.append(name)
                return output
            seen[name] = args[0][0]
            return output + shifts[name]

        return hook

    def one(values: dict[str, Tensor], example: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        seen.clear()
        shifts.update(values)
        out = functional_call(model, dict(parameters), (example.unsqueeze(0),)).flatten()
        # A layer that was not reached moves nothing.
        return out, {n: seen.get(n, x.new_zeros(m.in_features)) for n, m in layers.items()}

    zeros = {n: x.new_zeros(m.out_features) for n, m in layers.items()}
    handles = [m.register_forward_hook(tap(n)) for n, m in layers.items()]
    try:
        slopes, given = vmap(jacrev(one, has_aux=True), in_dims=(None, 0))(zeros, x)
    finally:
        for handle in handles:
            handle.remove()
    return None if strange else {n: (slopes[n], given[n]) for n in layers}
