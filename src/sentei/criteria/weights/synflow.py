"""How much a weight carries of what flows through the whole network; no data."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils import _pytree as pytree

from sentei.criteria.evidence import Evidence, needs
from sentei.graph.errors import PruneError

__all__ = ["flow", "synflow"]


@needs()
def synflow(evidence: Evidence) -> dict[str, Tensor]:
    """score = w * dR/dw of the network with every parameter replaced by its absolute value.

    R is the sum of all outputs for inputs of ones: the sum over all paths of the product of |w|
    along the path. In networks of linear layers, convolutions, ReLU and pooling without biases the
    scores of each layer that every path crosses add up to R, masked or not. With layer-norm,
    softmax or GELU it is a rule of thumb.

    Everything runs in float64 and eval mode on copies: R grows with every layer. Batch-norms take
    part with mean 0 and variance 1, since |running mean| would add a flow of its own and batch
    statistics cancel the flow.

    Needs no data: example inputs give the shapes. Integer inputs (tokens) are used as they are.

    Returns:
        parameter name -> float64 scores >= 0; zero where the weight is.
    Raises:
        PruneError: no example inputs, or R is not finite.
    Source: Tanaka, Kunin, Yamins and Ganguli 2020, arXiv:2006.05467, eq. 2.

    >>> net = torch.nn.Sequential(torch.nn.Linear(1, 2, bias=False), torch.nn.Linear(2, 1))
    >>> _ = net[0].weight.data.copy_(torch.tensor([[1.], [-2.]]))
    >>> _ = net[1].weight.data.copy_(torch.tensor([[3., 5.]]))
    >>> scores = synflow(Evidence.of(net, example=torch.zeros(1, 1)))
    >>> scores["0.weight"].tolist(), scores["1.weight"].tolist()
    ([[3.0], [10.0]], [[3.0, 10.0]])
    """
    scores, _ = flow(evidence)
    return {n: scores[n] for n in evidence.weights}


def flow(evidence: Evidence) -> tuple[dict[str, Tensor], float]:
    """The scores of all parameters by `synflow`'s formula, biases too, and R."""
    try:
        return _flow(evidence, torch.float64)
    except RuntimeError as error:
        # A model that makes tensors of a fixed type on its way cannot be run in another.
        if "dtype" not in str(error).lower() and "type" not in str(error).lower():
            raise
    return _flow(evidence, None)


def _flow(evidence: Evidence, dtype: torch.dtype | None) -> tuple[dict[str, Tensor], float]:
    model = evidence.model

    def cast(tensor: Tensor) -> Tensor:
        tensor = tensor.detach()
        return tensor.to(dtype or tensor.dtype) if tensor.is_floating_point() else tensor

    def ones(leaf: Any) -> Any:
        if isinstance(leaf, Tensor) and leaf.is_floating_point():
            return torch.ones_like(cast(leaf))
        return leaf

    args, kwargs = pytree.tree_map(ones, evidence.inputs())
    values: dict[str, Tensor] = {}
    for name, tensor in evidence.tensors.items():
        values[name] = cast(tensor).abs().requires_grad_(tensor.is_floating_point())
    buffers = {n: cast(b) for n, b in model.named_buffers()}
    for path, module in model.named_modules():
        if isinstance(module, _BatchNorm) and module.running_mean is not None:
            prefix = f"{path}." if path else ""
            buffers[f"{prefix}running_mean"] = torch.zeros_like(buffers[f"{prefix}running_mean"])
            buffers[f"{prefix}running_var"] = torch.ones_like(buffers[f"{prefix}running_var"])
    with evidence.differentiable():
        outputs = functional_call(model, {**values, **buffers}, args, kwargs)
        total = sum(
            (t.double().sum() for t in evidence.outputs_of(outputs)),
            torch.zeros((), dtype=torch.float64),
        )
        if not isinstance(total, Tensor) or not total.requires_grad:
            raise PruneError("synflow: no floating-point output depends on the parameters")
        if not total.isfinite():
            raise PruneError(
                f"synflow: the flow through the network is {total.item()}, even in "
                f"{dtype or 'its own type'}; its weights are too large, or it is too deep for this "
                f"score"
            )
        moving = {n: v for n, v in values.items() if v.requires_grad}
        found = torch.autograd.grad(total, list(moving.values()), allow_unused=True)
    scores = {
        n: torch.zeros_like(v) if g is None else (v.detach() * g)
        for (n, v), g in zip(moving.items(), found, strict=True)
    }
    return scores, total.item()
