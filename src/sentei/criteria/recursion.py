"""Diagonal second derivatives by one sweep back through a chain of layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, hessian
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.pooling import _AdaptiveAvgPoolNd, _AvgPoolNd, _MaxPoolNd

from sentei.batches import forward
from sentei.criteria.derivatives import _separable
from sentei.criteria.evidence import Evidence
from sentei.graph.errors import PruneError

__all__ = ["recursive_diagonal"]

_WEIGHTED = (nn.Linear, _ConvNd)
# The Jacobian picks values: its entries are 0 and 1, and so their own squares.
_PICKS = (nn.Flatten, nn.Unflatten, nn.Identity, _DropoutNd, _MaxPoolNd)
_POINTWISE = (
    nn.CELU, nn.ELU, nn.GELU, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.LeakyReLU,
    nn.LogSigmoid, nn.Mish, nn.PReLU, nn.ReLU, nn.SELU, nn.SiLU, nn.Sigmoid, nn.Softplus,
    nn.Softsign, nn.Tanh, nn.Tanhshrink,
)  # fmt: skip


@dataclass(frozen=True)
class _Step:
    """One call of a layer: its name, the layer, what it was given."""

    name: str
    layer: nn.Module
    given: Tensor


def recursive_diagonal(evidence: Evidence, *, second: bool = True) -> dict[str, Tensor]:
    """The diagonal of the Hessian by the recursion of Optimal Brain Damage, float64.

    For each example, with pre-activations a, activations x = f(a) and E its loss:

    ∂²E/∂w_ij² = ∂²E/∂a_i² x_j²
    ∂²E/∂x_j² = Σ_i w_ij² ∂²E/∂a_i²          ∂²E/∂a_i² = f'(a_i)² ∂²E/∂x_i² + f''(a_i) ∂E/∂x_i

    starting from the loss's own ∂²E/∂x² at the outputs; a weight that is used in many places gets
    the sum over them; then the mean over examples. Every layer's second derivatives are taken as
    diagonal. That is exact for the last weighted layer, and for the one before it where the loss
    is a sum over outputs (squared error); further back it leaves out what outputs of a layer do
    together.

    Args:
        second: False leaves out f'' (Levenberg-Marquardt), and nothing is negative. Those values
            are the Gauss-Newton diagonal's where the recursion is exact.
    Raises:
        PruneError: the network is not a chain of layers that the recursion is written for (linear,
            convolution, pointwise activation, batch-norm, dropout, pooling, flatten), or there is
            no loss of (outputs, targets).
    Source: LeCun, Denker and Solla 1989, eq. 6 to 9.

    >>> net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Tanh(), nn.Linear(1, 1, bias=False))
    >>> for layer, value in ((net[0], 0.0), (net[2], 3.0)):
    ...     _ = layer.weight.data.fill_(value)
    >>> data = torch.tensor([[2.]]), torch.tensor([[1.]])
    >>> about = Evidence.of(net, data=data, loss=nn.functional.mse_loss)
    >>> {n: h.item() for n, h in recursive_diagonal(about).items()}  # 2·3²·2² and 2·tanh(0)²
    {'0.weight': 72.0, '2.weight': 0.0}
    """
    if evidence.loss is None:
        raise PruneError("the recursion needs loss=, a function of (outputs, targets)")
    names = {id(t): n for n, t in evidence.tensors.items()}
    total = {n: torch.zeros_like(t, dtype=torch.float64) for n, t in evidence.weights.items()}
    count = 0
    for batch in evidence.batches():
        if isinstance(batch, Mapping) or not _separable(batch):
            raise _refused("the batch", "it is no (inputs, targets) that fall into examples")
        with evidence.differentiable():
            steps, outputs = _walk(evidence, batch)
            curve, slope = _at_outputs(evidence.loss, outputs, batch[1])
            for step in reversed(steps):
                if isinstance(step.layer, _WEIGHTED):
                    weight = step.layer.weight
                    name = names.get(id(weight))
                    if name is None:
                        raise _refused(step.name, "its weight is made anew in every call")
                    if name in total:
                        total[name] += _of_weight(step, curve).double()
                curve, slope = _back(step, curve, slope, second)
        count += len(outputs)
    return {n: t / count for n, t in total.items()}


def _walk(evidence: Evidence, batch: Any) -> tuple[list[_Step], Tensor]:
    """The calls of all layers in order, each on what the one before gave; and the outputs."""
    steps: list[_Step] = []
    last: list[Any] = [None]
    names = {m: n or type(m).__name__ for n, m in evidence.model.named_modules()}

    def before(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if len(args) != 1 or kwargs or not isinstance(args[0], Tensor):
            raise _refused(names[layer], "it takes more than one tensor")
        if steps and args[0] is not last[0]:
            raise _refused(names[layer], f"it is not given what {steps[-1].name!r} gave")
        # A copy, since an activation in place changes what it was given.
        steps.append(_Step(names[layer], layer, args[0].detach().clone()))

    def after(layer: nn.Module, args: Any, output: Any) -> None:
        last[0] = output

    leaves = [m for m in evidence.model.modules() if not any(True for _ in m.children())]
    handles = [m.register_forward_pre_hook(before, with_kwargs=True) for m in leaves]
    handles += [m.register_forward_hook(after) for m in leaves]
    try:
        with torch.no_grad():
            outputs = forward(evidence.model, batch)
    finally:
        for handle in handles:
            handle.remove()
    if not steps or outputs is not last[0]:
        raise _refused(names[evidence.model], "its outputs are not what its last layer gave")
    given = batch[0] if isinstance(batch[0], Tensor) else batch[0][0]
    if steps[0].given.shape != given.shape or not torch.equal(steps[0].given, given):
        raise _refused(steps[0].name, "the inputs are changed before the first layer")
    return steps, outputs


def _at_outputs(loss: Any, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """∂²E/∂x² (its diagonal) and ∂E/∂x of each example's loss at its outputs."""
    curves, slopes = [], []
    for output, target in zip(outputs.split(1), targets.split(1), strict=True):

        def own(x: Tensor, y: Tensor = target) -> Tensor:
            return loss(x, y)

        matrix = hessian(own)(output).reshape(output.numel(), output.numel())
        curves.append(matrix.diagonal().reshape(output.shape))
        slopes.append(grad(own)(output))
    return torch.cat(curves).detach(), torch.cat(slopes).detach()


def _of_weight(step: _Step, curve: Tensor) -> Tensor:
    """Σ over examples and places of ∂²E/∂a² x²: what a gradient would be, with squares."""
    weight = step.layer.weight.detach().requires_grad_()
    out = functional_call(step.layer, {"weight": weight}, (step.given.square(),))
    return torch.autograd.grad(out, weight, curve)[0]


def _back(step: _Step, curve: Tensor, slope: Tensor, second: bool) -> tuple[Tensor, Tensor]:
    """∂²E/∂x² and ∂E/∂x of what the layer was given, from those of what it gave."""
    layer = step.layer
    if not type(layer).__module__.startswith("torch.nn.modules."):
        pass  # what another class does with a weight may not be linear in it
    elif isinstance(layer, _WEIGHTED):
        squared = {"weight": layer.weight.detach().square()}
        return (
            _pulled(lambda x: functional_call(layer, squared, (x,)), step.given, curve),
            _pulled(layer, step.given, slope),
        )
    elif isinstance(layer, _POINTWISE):
        first, bend = _derivatives(layer, step.given)
        back = first.square() * curve
        return back + bend * slope if second else back, first * slope
    elif isinstance(layer, _PICKS):
        return _pulled(layer, step.given, curve), _pulled(layer, step.given, slope)
    elif isinstance(layer, _BatchNorm):
        scale = _pulled(layer, step.given, torch.ones_like(curve))
        return scale.square() * curve, scale * slope
    elif isinstance(layer, (_AvgPoolNd, _AdaptiveAvgPoolNd)):
        share = 1 / _window(step)
        return share * _pulled(layer, step.given, curve), _pulled(layer, step.given, slope)
    raise _refused(step.name, f"there is no rule for {type(layer).__name__}")


def _pulled(layer: Callable[[Tensor], Tensor], given: Tensor, above: Tensor) -> Tensor:
    """Jᵀ above, J the layer's Jacobian at what it was given."""
    x = given.detach().requires_grad_()
    return torch.autograd.grad(layer(x.clone()), x, above)[0]


def _derivatives(layer: nn.Module, given: Tensor) -> tuple[Tensor, Tensor]:
    """f' and f'' of a pointwise layer."""
    x = given.detach().requires_grad_()
    ones = torch.ones_like(x)
    (first,) = torch.autograd.grad(layer(x.clone()), x, ones, create_graph=True)
    bend = None
    if first.requires_grad:
        (bend,) = torch.autograd.grad(first, x, ones, allow_unused=True)
    return first.detach(), torch.zeros_like(x) if bend is None else bend


def _window(step: _Step) -> float:
    """How many values an average is over, where that is the same everywhere."""
    layer: Any = step.layer
    spatial = step.given.shape[2:]
    if isinstance(layer, _AdaptiveAvgPoolNd):
        sizes = layer.output_size
        sizes = [sizes] * len(spatial) if isinstance(sizes, int) else list(sizes)
        sizes = [n if size is None else size for n, size in zip(spatial, sizes, strict=True)]
        if all(n % size == 0 for n, size in zip(spatial, sizes, strict=True)):
            return prod(n // size for n, size in zip(spatial, sizes, strict=True))
    else:
        kernel = layer.kernel_size
        kernel = [kernel] * len(spatial) if isinstance(kernel, int) else list(kernel)
        padding = layer.padding if isinstance(layer.padding, int) else max(layer.padding)
        if getattr(layer, "divisor_override", None):
            return layer.divisor_override
        if not layer.ceil_mode and (padding == 0 or layer.count_include_pad):
            return prod(kernel)
    raise _refused(step.name, "it averages over windows of several sizes")


def _refused(where: str, why: str) -> PruneError:
    return PruneError(
        f"the recursion of curvature goes back through a chain of layers, and {where!r} is not a "
        f"link of one: {why}. Use curvature='gauss-newton' or 'hutchinson'"
    )
