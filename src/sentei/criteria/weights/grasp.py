"""What removing a weight does to the flow of gradients, before training."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from sentei.criteria.derivatives import gradient, hessian_times
from sentei.criteria.evidence import Evidence, needs
from sentei.graph.errors import PruneError

__all__ = ["grasp"]


@needs("data", "gradients")
def grasp(evidence: Evidence, temperature: float = 200.0) -> dict[str, Tensor]:
    """score = w * (H g), with g the gradient and H the Hessian of L(outputs / temperature).

    Removing weight q changes |g|² by about -2 w_q (H g)_q. What would reduce it most has the
    largest score and stays, as the paper's code does (it removes the largest -w * Hg). Scores have
    both signs. The gradient is that of the prunable weights; batch-norms use the statistics of the
    batch.

    Source: Wang, Zhang and Grosse 2020, arXiv:2002.07376, eq. 8 and algorithm 1. Their code splits
        the sample in two to save memory; the sums are the same for any number of batches.

    Raises:
        PruneError: no loss that the temperature could be put into, or outputs that are no tensor.

    >>> import torch
    >>> net = torch.nn.Linear(2, 1, bias=False)
    >>> _ = net.weight.data.copy_(torch.tensor([[1., 2.]]))
    >>> data = torch.tensor([[1., 0.], [0., 1.]]), torch.zeros(2)  # L = (w1² + w2²) / 2, H = I
    >>> evidence = Evidence.of(net, data=data, loss=lambda out, y: out.square().mean())
    >>> grasp(evidence, temperature=1)["weight"].tolist()
    [[1.0, 4.0]]
    """
    loss = evidence.loss
    if loss is None and temperature != 1:
        raise PruneError(
            "grasp divides outputs by a temperature before the loss: give loss=, a function of "
            "(outputs, targets), or temperature=1 for a model that gives its own loss"
        )

    def cooled(outputs: Tensor, targets: Tensor) -> Tensor:
        if not isinstance(outputs, Tensor):
            raise PruneError(
                f"grasp divides outputs by a temperature and needs a model that gives one tensor; "
                f"got {type(outputs).__name__}. Try temperature=1, which takes any"
            )
        return loss(outputs / temperature, targets)

    if temperature != 1:
        evidence = replace(evidence, loss=cooled)
    grads = gradient(evidence, batch_statistics=True)
    product = hessian_times(evidence, grads, batch_statistics=True)
    return {n: w.detach() * product[n] for n, w in evidence.weights.items()}
