"""What the loss would lose with a weight at a minimum, by its curvature."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from sentei.criteria.derivatives import gauss_newton_diagonal, hessian_diagonal, second_moment
from sentei.criteria.evidence import Evidence, needs
from sentei.criteria.recursion import recursive_diagonal
from sentei.graph.errors import PruneError, closest

__all__ = ["CURVATURES", "fisher_diagonal", "obd"]

CURVATURES: dict[str, Callable[[Evidence], dict[str, Tensor]]] = {
    "exact": lambda evidence: hessian_diagonal(evidence, None),
    "fisher": second_moment,
    "gauss-newton": gauss_newton_diagonal,
    "hutchinson": hessian_diagonal,
    "levenberg-marquardt": lambda evidence: recursive_diagonal(evidence, second=False),
    "recursion": recursive_diagonal,
}
"""Ways to a diagonal of the curvature."""


@needs("data", "gradients")
def obd(evidence: Evidence, *, curvature: str = "hutchinson") -> dict[str, Tensor]:
    """score = h w² / 2, with h the diagonal of the Hessian, negative values taken as zero.

    Assumes a minimum (no first-order term), a diagonal Hessian and a quadratic loss; exact where
    these hold. A negative h would make a weight better than free to remove.

    Args:
        curvature: one of `CURVATURES`. The paper's own is "recursion", one sweep back that takes
            each layer's curvature as diagonal, for networks that are a chain of layers;
            "levenberg-marquardt" leaves out its terms of second derivatives of the activations, and
            "gauss-newton" leaves out the same terms and keeps all else, for any network.
    Source: LeCun, Denker and Solla 1989, eq. 5.

    >>> import torch
    >>> net = torch.nn.Linear(2, 1, bias=False)
    >>> _ = net.weight.data.copy_(torch.tensor([[3., 1.]]))
    >>> data = torch.tensor([[1., 0.], [0., 2.]]), torch.tensor([[3.], [2.]])
    >>> loss = torch.nn.functional.mse_loss
    >>> obd(Evidence.of(net, data=data, loss=loss))["weight"].tolist()  # h = (1, 4)
    [[4.5, 2.0]]
    """
    if curvature not in CURVATURES:
        raise PruneError(f"unknown curvature {curvature!r}; {closest(curvature, CURVATURES)}")
    return _costs(evidence.weights, CURVATURES[curvature](evidence))


@needs("data", "gradients")
def fisher_diagonal(evidence: Evidence) -> dict[str, Tensor]:
    """score = F w² / 2, with F the mean over single examples of the squared gradient.

    >>> import torch
    >>> net = torch.nn.Linear(1, 1, bias=False)
    >>> _ = net.weight.data.fill_(2.)
    >>> data = torch.tensor([[1.], [-1.]]), torch.zeros(2)
    >>> evidence = Evidence.of(net, data=data, loss=lambda out, y: out.mean())
    >>> fisher_diagonal(evidence)["weight"].item()
    2.0
    """
    return _costs(evidence.weights, second_moment(evidence))


def _costs(weights: Mapping[str, Tensor], curvature: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        n: 0.5 * curvature[n].double().clamp(min=0) * w.detach().double().square()
        for n, w in weights.items()
    }
