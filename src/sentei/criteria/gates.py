"""What the loss feels of a factor on a unit's output."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvTransposeNd

from sentei.criteria.evidence import Evidence, needs
from sentei.graph.errors import PruneError
from sentei.graph.groups import Group, Slice

__all__ = ["gate_gradients", "taylor_act", "taylor_gate"]


@needs("data", "gradients")
def taylor_gate(group: Group, evidence: Evidence) -> Tensor:
    """score[u] = mean over batches of (dL/dz_u)², z_u = 1 a factor on the output of unit u.

    See `gate_gradients` for where the factor stands.

    Returns:
        (units,), in loss ** 2, >= 0.
    Raises:
        PruneError: no data or no loss; or no layer of the model makes the group.
    Source: Molchanov et al. 2019, arXiv:1906.10771, section 3.2.

    >>> from sentei.graph.groups import analyze
    >>> net = nn.Sequential(nn.Linear(1, 2, bias=False), nn.Linear(2, 1))
    >>> _ = net[0].weight.data.copy_(torch.tensor([[1.], [2.]]))
    >>> _ = net[1].weight.data.copy_(torch.tensor([[3., 5.]]))
    >>> groups = analyze(net, torch.ones(1, 1))
    >>> batch = torch.ones(1, 1), torch.zeros(1)
    >>> evidence = Evidence.of(net, groups, data=batch, loss=lambda out, target: out.sum())
    >>> taylor_gate(groups["0"], evidence).tolist()  # (1·3)² and (2·5)²
    [9.0, 100.0]
    """
    return gate_gradients(group, evidence).square().mean(0)


@needs("data", "gradients")
def taylor_act(group: Group, evidence: Evidence) -> Tensor:
    """score[u] = mean over batches of |mean over examples and positions of a dL/da|, over its norm.

    The activations of a unit times their gradients, summed, are the gradient of a factor on them,
    and a ReLU behind changes nothing about it. The number of positions is the same for all units
    of a layer and goes with the division by the scores' L2 norm, which makes layers comparable.

    Returns:
        (units,), >= 0, of norm 1 (or all 0).
    Raises:
        PruneError: as `taylor_gate`.
    Source: Molchanov et al. 2017, arXiv:1611.06440, eq. 8-9.
    """
    scores = gate_gradients(group, evidence).abs().mean(0)
    return scores / (scores.norm() + 1e-300)  # all zeros stay zeros


def gate_gradients(group: Group, evidence: Evidence) -> Tensor:
    """dL/dz at z = 1 for a factor z_u on the output of each unit u: (batches, units) float64.

    A factor on the output of a layer y = W x + b is one on the row of W and on b, so its gradient
    is the sum of w * dL/dw over both: nothing has to be run for it. The factor stands behind the
    batch-norm, if the group has one (before it, its gradient is that of a scale that the norm
    takes away), else behind each linear layer or convolution that makes the units.
    """
    places = _outputs(group, evidence)
    if not places:
        raise PruneError(
            f"group {group.name!r} is made by no layer that a gate could stand behind; "
            f"use the criterion 'taylor'"
        )
    rows = []
    for sums in evidence.once("gates", lambda: list(_products(evidence))):
        total = torch.zeros(len(group), dtype=torch.float64)
        for place in places:
            if (place.parameter, place.dim) in sums:
                total += sums[place.parameter, place.dim][place.positions].sum(1)
        rows.append(total)
    return torch.stack(rows)


def _products(evidence: Evidence) -> Iterator[dict[tuple[str, int], Tensor]]:
    """For each batch: (parameter, dimension) -> sums of w * dL/dw along the dimension."""
    for grads in evidence.gradients():
        sums = {}
        for name, grad in grads.items():
            product = (evidence.tensors[name].detach() * grad).double().cpu()
            if not product.isfinite().all():
                raise PruneError(f"the gradient of parameter {name!r} holds NaN or infinity")
            for dim in range(min(product.dim(), 2)):  # outputs are in one of the first two
                sums[name, dim] = product.movedim(dim, 0).reshape(product.shape[dim], -1).sum(1)
        yield sums


def _outputs(group: Group, evidence: Evidence) -> list[Slice]:
    """The slices of the group that make its units' outputs: rows of weights, and biases."""
    norms, layers = [], []
    for place in group.slices:
        path, _, name = place.parameter.rpartition(".")
        if place.parameter not in evidence.tensors:
            continue
        module = evidence.model.get_submodule(path)
        if isinstance(module, _BatchNorm):
            norms.append(place)
        elif isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)):
            makes = 1 if isinstance(module, _ConvTransposeNd) else 0
            if name == "bias" or (name == "weight" and place.dim == makes):
                layers.append(place)
    return norms or layers
