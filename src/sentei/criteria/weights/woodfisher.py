"""What the loss loses with a weight when its block makes up for it, by the empirical Fisher."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sentei.criteria.derivatives import sample_gradients
from sentei.criteria.evidence import Evidence, needs
from sentei.graph.errors import PruneError

__all__ = ["BlockFisher", "block_fisher", "woodfisher"]


@dataclass(frozen=True)
class BlockFisher:
    """Inverses of diagonal blocks of the damped empirical Fisher, by parameter.

    inverses[name]: (c, c) for every c weights of the flattened parameter; the last may be smaller.
    damping: λ, and ratio: λ over the mean of the Fisher's diagonal. Around 1e-3 to 1e-2 the Fisher
        has a say; well above 1 this is magnitude, far below it noise.
    """

    inverses: Mapping[str, list[Tensor]] = field(repr=False)
    damping: float
    ratio: float

    def scores(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """w_q² / (2 [F⁻¹]_qq), float64."""
        return {
            n: (
                weights[n].detach().double().flatten().square()
                / (2 * torch.cat([b.diagonal() for b in blocks]))
            ).view(weights[n].shape)
            for n, blocks in self.inverses.items()
        }

    def updated(self, name: str, weight: Tensor, mask: Tensor) -> Tensor:
        """The weight without what the mask drops, and the rest of each block moved to make up.

        δ = F⁻¹ v, with v_q = -w_q / [F⁻¹]_qq for the q dropped: the sum of the changes for each
        alone, as the paper has it, then masked.
        """
        flat, gone = weight.detach().double().flatten(), ~mask.flatten()
        out, start = [], 0
        for inverse in self.inverses[name]:
            part = slice(start, start + len(inverse))
            v = torch.where(gone[part], -flat[part] / inverse.diagonal(), 0.0)
            out.append(flat[part] + inverse @ v)
            start += len(inverse)
        return torch.cat(out).masked_fill(gone, 0.0).view(weight.shape).to(weight.dtype)


def block_fisher(
    evidence: Evidence,
    *,
    block: int = 100,
    damping: float = 1e-2,
    examples: bool = True,
    masks: Mapping[str, Tensor] | None = None,
) -> BlockFisher:
    """(λ I + (1/N) Σ g gᵀ)⁻¹ of every `block` consecutive weights, in eval mode and float64.

    The paper's N rank-one updates give the same inverse; the sum is factorised here instead, which
    needs no gradient to be kept.

    Args:
        damping: λ as a share of the mean of the Fisher's diagonal over all weights.
        examples: gradients of single examples; without, of the data's batches (their mean shrinks
            the Fisher by the batch's size).
        masks: gradients of what is masked count as zero.
    Raises:
        PruneError: a block of less than one weight; all gradients are zero; damping not positive.
    Source: Singh and Alistarh 2020, arXiv:2004.14340, eq. 5-7.
    """
    if block < 1 or damping <= 0:
        raise PruneError(
            f"woodfisher wants blocks of at least one weight and damping above zero; "
            f"got block={block}, damping={damping}"
        )
    sums: dict[str, list[Tensor]] = {}
    for name, weight in evidence.weights.items():
        sums[name] = [
            torch.zeros(len(p), len(p), dtype=torch.float64, device=weight.device)
            for p in torch.empty(weight.numel(), device="meta").split(block)
        ]
    count = 0
    for rows in _rows(evidence, examples):
        for name, blocks in sums.items():
            if name not in rows:
                continue
            values = rows[name].flatten(1)
            if masks is not None:
                values = values * masks[name].flatten().to(values)
            for total, part in zip(blocks, values.double().split(block, dim=1), strict=True):
                total += part.T @ part
        count += len(next(iter(rows.values())))
    n = sum(w.numel() for w in evidence.weights.values())
    mean = sum(float(b.diagonal().sum()) for bs in sums.values() for b in bs) / count / n
    if mean == 0 or not math.isfinite(mean):
        what = "all gradients are zero" if mean == 0 else "the gradients hold NaN or infinity"
        raise PruneError(f"woodfisher: {what}, so there is no Fisher to invert")
    inverses = {
        name: [_inverse(total / count, damping * mean) for total in blocks]
        for name, blocks in sums.items()
    }
    return BlockFisher(inverses, damping * mean, damping)


def _inverse(matrix: Tensor, damping: float) -> Tensor:
    matrix.diagonal().add_(damping)
    return torch.cholesky_inverse(torch.linalg.cholesky(matrix))


@needs("data", "gradients")
def woodfisher(evidence: Evidence, *, block: int = 100, damping: float = 1e-2) -> dict[str, Tensor]:
    """score = w_q² / (2 [F⁻¹]_qq) with F the damped empirical Fisher in blocks of `block` weights.

    See `block_fisher`. Blocks of one are the diagonal, w² (λ + F_qq) / 2; λ → ∞ is magnitude.

    Source: Singh and Alistarh 2020, arXiv:2004.14340, eq. 8.

    >>> import torch
    >>> net = torch.nn.Linear(1, 1, bias=False)
    >>> _ = net.weight.data.fill_(2.)
    >>> data = torch.tensor([[1.], [-1.]]), torch.zeros(2)
    >>> evidence = Evidence.of(net, data=data, loss=lambda out, y: out.mean())
    >>> round(woodfisher(evidence, damping=1.0)["weight"].item(), 6)  # 2² · (1 + 1) / 2
    4.0
    """
    return block_fisher(evidence, block=block, damping=damping).scores(evidence.weights)


def _rows(evidence: Evidence, examples: bool) -> Iterator[dict[str, Tensor]]:
    if examples:
        yield from sample_gradients(evidence)
    else:
        for grads in evidence.gradients():
            yield {n: g.unsqueeze(0) for n, g in grads.items()}
