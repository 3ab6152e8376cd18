"""What the loss would lose with a weight, by its first derivatives."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from sentei.criteria.derivatives import hessian_diagonal, sample_gradients, second_moment
from sentei.criteria.evidence import Evidence, needs

__all__ = ["taylor_abs", "taylor_second", "taylor_sq"]


@needs("data", "gradients")
def taylor_abs(evidence: Evidence, *, examples: bool = False) -> dict[str, Tensor]:
    """score = mean over batches of |w * dL/dw|; over single examples if asked.

    The absolute value is inside the mean: at a trained network the mean gradient is close to zero,
    and |w * mean gradient| ranks noise. Summed over a unit it bounds the first-order change.

    Source: Molchanov et al. 2019, arXiv:1906.10771.

    >>> net = torch.nn.Linear(1, 1, bias=False)
    >>> _ = net.weight.data.fill_(2.)
    >>> data = torch.tensor([[1.], [-1.]]), torch.zeros(2)
    >>> evidence = Evidence.of(net, data=data, loss=lambda out, y: out.mean())
    >>> taylor_abs(evidence)["weight"].item(), taylor_abs(evidence, examples=True)["weight"].item()
    (0.0, 2.0)
    """
    return _mean(evidence, Tensor.abs, examples)


@needs("data", "gradients")
def taylor_sq(evidence: Evidence, *, examples: bool = False) -> dict[str, Tensor]:
    """score = mean over batches of (w * dL/dw)²: weights of a unit taken as independent.

    Over single examples it is w² times the diagonal of the empirical Fisher, and so twice the
    score of `fisher_diagonal`.

    Source: Molchanov et al. 2019, arXiv:1906.10771, eq. 4 with first-order terms.
    """
    return _mean(evidence, Tensor.square, examples)


@needs("data", "gradients")
def taylor_second(
    evidence: Evidence, *, examples: bool = False, curvature: str = "fisher"
) -> dict[str, Tensor]:
    """score = mean over batches of (w dL/dw - w² h / 2)², h the diagonal of the curvature.

    Args:
        curvature: "fisher" (mean of squared gradients of single examples) or "hessian"
            (Hutchinson's estimate of the diagonal).
    Source: Molchanov et al. 2019, arXiv:1906.10771, eq. 4.
    """
    second = second_moment(evidence) if curvature == "fisher" else hessian_diagonal(evidence)
    halves = {n: 0.5 * w.detach().double().square() * second[n]
              for n, w in evidence.weights.items()}  # fmt: skip
    return _mean(evidence, Tensor.square, examples, halves)


def _mean(
    evidence: Evidence,
    shape: Callable[[Tensor], Tensor],
    examples: bool,
    minus: dict[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    total = {n: torch.zeros_like(w, dtype=torch.float64) for n, w in evidence.weights.items()}
    count = 0
    for rows in _gradients(evidence, examples):
        for name, weight in evidence.weights.items():
            if name in rows:
                change = rows[name].double() * weight.detach().double()
                total[name] += shape(change - minus[name] if minus else change).sum(0)
            elif minus:
                total[name] += shape(-minus[name])
        count += len(next(iter(rows.values())))
    return {n: t / count for n, t in total.items()}


def _gradients(evidence: Evidence, examples: bool) -> Iterator[dict[str, Tensor]]:
    if examples:
        yield from sample_gradients(evidence)
    else:
        for grads in evidence.gradients():
            yield {n: g.unsqueeze(0) for n, g in grads.items()}
