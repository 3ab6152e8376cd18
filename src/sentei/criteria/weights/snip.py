"""How much the loss feels a connection, before training."""

from __future__ import annotations

from torch import Tensor

from sentei.criteria.derivatives import gradient
from sentei.criteria.evidence import Evidence, needs

__all__ = ["connection_sensitivity", "shares", "snip"]


def connection_sensitivity(evidence: Evidence) -> dict[str, Tensor]:
    """w * dL/dw, signed: the derivative of the loss in a mask m on the weights, at m = 1.

    With W' = m * W the chain rule gives dL/dm = W * dL/dW', so no mask parameters are needed.
    Batch-norms use the statistics of the batch.
    """
    grads = gradient(evidence, batch_statistics=True)
    return {n: w.detach() * grads[n] for n, w in evidence.weights.items()}


def shares(scores: dict[str, Tensor]) -> dict[str, Tensor]:
    """|score| over the sum of all |score|; zeros stay zeros. Changes no ranking."""
    total = sum(float(s.detach().double().abs().sum()) for s in scores.values())
    return {n: s.abs() / (total or 1.0) for n, s in scores.items()}


@needs("data", "gradients")
def snip(evidence: Evidence) -> dict[str, Tensor]:
    """score_j = |w_j dL/dw_j| / sum over all weights k of |w_k dL/dw_k|.

    The loss is that of all of the data, batch-norms with the statistics of the batch.

    Source: Lee, Ajanthan and Torr 2019, arXiv:1810.02340, eq. 4-5. The paper's code also scores
        biases; here they stay, as everywhere in Sentei.

    >>> import torch
    >>> net = torch.nn.Linear(2, 1, bias=False)
    >>> _ = net.weight.data.copy_(torch.tensor([[1., -3.]]))
    >>> data = torch.tensor([[1., 1.]]), torch.zeros(1)
    >>> snip(Evidence.of(net, data=data, loss=lambda out, y: out.sum()))["weight"].tolist()
    [[0.25, 0.75]]
    """
    return shares(connection_sensitivity(evidence))
