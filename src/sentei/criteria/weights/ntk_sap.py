"""How much a weight does for the sum of the neural tangent kernel's eigenvalues; no data."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils import _pytree as pytree

from sentei.criteria.evidence import Evidence, needs
from sentei.graph.errors import PruneError

__all__ = ["fresh_weights", "kernel_change", "ntk_sap"]

Redraw = Callable[[nn.Module, Mapping[str, Tensor], torch.Generator], None]


@needs()
def ntk_sap(
    evidence: Evidence,
    masks: Mapping[str, Tensor] | None = None,
    *,
    draws: int = 5,
    batch_size: int = 64,
    epsilon: float = 0.01,
    redraw: Redraw | None = None,
) -> dict[str, Tensor]:
    """score = |dJ/dm|, J = sum over inputs z of |f(z; m θ) - f(z; m (θ + ε Δ))|², over all draws.

    Each draw takes new weights θ, new directions Δ ~ N(0, 1) and new inputs z ~ N(0, 1) of the
    example's shape, so neither the model's weights nor data have a say. The mean of J / ε² is the
    squared norm of df/dθ, which is the trace of the neural tangent kernel of the masked network.
    Batch-norms take their statistics from z first, and then hold them for both outputs.

    Args:
        masks: what is left, with True for weights that stay; all by default.
        draws: how many (θ, Δ, z) the derivative is summed over.
        batch_size: inputs a draw.
        redraw: puts new weights into (model, its prunable weights, generator);
            `fresh_weights` by default.
    Returns:
        parameter name -> float64 scores >= 0; zero for what is masked.
    Source: Wang, Li and Sun 2023, arXiv:2304.02840, eq. 11 and algorithm 1.
    """
    generator = evidence.generator("ntk-sap")
    model = copy.deepcopy(evidence.model)
    weights = {n: p for n, p in model.named_parameters() if n in evidence.weights}
    total = {n: torch.zeros_like(w, dtype=torch.float64) for n, w in weights.items()}
    for _ in range(draws):
        (redraw or fresh_weights)(model, weights, generator)
        call = inputs_like(evidence.inputs(), batch_size, generator)
        gates = {
            n: (torch.ones_like(w) if masks is None else masks[n].to(w)).requires_grad_()
            for n, w in weights.items()
        }
        with _settled(model, {n: w.detach() * gates[n].detach() for n, w in weights.items()}, call):
            change = kernel_change(model, weights, gates, call, epsilon, generator)
            found = torch.autograd.grad(change, list(gates.values()), allow_unused=True)
        for name, value in zip(weights, found, strict=True):
            if value is not None:
                total[name] += value.double()
    if masks is not None:
        total = {n: t * masks[n].to(t) for n, t in total.items()}
    return {n: t.abs() for n, t in total.items()}


def kernel_change(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    gates: Mapping[str, Tensor],
    call: tuple[tuple[Any, ...], dict[str, Any]],
    epsilon: float,
    generator: torch.Generator,
) -> Tensor:
    """J: the squared change of all outputs when every weight moves by ε times a normal number."""
    moved = {
        n: w.detach() + epsilon * torch.randn(w.shape, generator=generator).to(w)
        for n, w in weights.items()
    }
    one = functional_call(model, {n: gates[n] * w.detach() for n, w in weights.items()}, *call)
    two = functional_call(model, {n: gates[n] * w for n, w in moved.items()}, *call)
    pairs = zip(Evidence.outputs_of(one), Evidence.outputs_of(two), strict=True)
    terms = [(a - b).square().sum() for a, b in pairs]
    if not terms:
        raise PruneError("ntk-sap: the model gives no floating-point output")
    return torch.stack(terms).sum()


def fresh_weights(
    model: nn.Module, weights: Mapping[str, Tensor], generator: torch.Generator
) -> None:
    """New initial weights: N(0, 2 / fan_in) for `weights`; every other module resets itself.

    Biases of linear layers and convolutions become zero. Parameters of modules without
    `reset_parameters` stay as they are.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        for module in model.modules():
            if callable(getattr(module, "reset_parameters", None)):
                module.reset_parameters()
            if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)) and (
                module.bias is not None
            ):
                module.bias.zero_()
        for weight in weights.values():
            fan_in = weight[0].numel()
            noise = torch.randn(weight.shape, generator=generator)
            weight.copy_(noise.to(weight) * (2 / fan_in) ** 0.5)


def inputs_like(
    call: tuple[tuple[Any, ...], dict[str, Any]], batch_size: int, generator: torch.Generator
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The call with `batch_size` normal inputs for floating-point tensors, others repeated.

    Inputs without a common batch dimension (a graph's nodes and edges) keep their shapes.
    """
    sizes = {
        leaf.shape[0] if leaf.dim() else 0
        for leaf in pytree.tree_leaves(call)
        if isinstance(leaf, Tensor)
    }
    batched = len(sizes) == 1

    def drawn(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or leaf.dim() == 0:
            return leaf
        if leaf.is_floating_point():
            shape = (batch_size, *leaf.shape[1:]) if batched else leaf.shape
            return torch.randn(shape, generator=generator).to(leaf)
        return leaf[torch.arange(batch_size, device=leaf.device) % len(leaf)] if batched else leaf

    return pytree.tree_map(drawn, call)


@contextmanager
def _settled(
    model: nn.Module, values: Mapping[str, Tensor], call: tuple[tuple[Any, ...], dict[str, Any]]
) -> Iterator[None]:
    """Eval mode, with batch-norm statistics from one pass over the inputs."""
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
    model.eval()
    if norms:
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.train()
            norm.momentum = 1.0  # the statistics become those of this pass
        with torch.no_grad():
            functional_call(model, dict(values), *call)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.eval()
            norm.momentum = momentum
    with torch.enable_grad():
        yield
