"""Remove weights of a matrix one column at a time and let the others make up for it.

The matrix (rows, columns) maps inputs x to W x. What a change Δ of it costs is tr(Δ H Δᵀ) with
H = (2 / n) Σ x xᵀ. Removing the weight of column i, the best change of the columns after it is a
multiple of row i of U, where U is the upper Cholesky factor of H⁻¹; U_ii² is the inverse-diagonal
entry that the optimal brain surgeon needs, with the columns before i gone.

Source: Frantar and Alistarh 2023 (SparseGPT), arXiv:2301.00774, algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sentei.graph.errors import PruneError
from sentei.structures import nm

__all__ = ["Solution", "inverse_factor", "solve"]

_RETRIES = 6


@dataclass(frozen=True)
class Solution:
    """weight: the new matrix, zero where mask is False; loss: predicted increase, Σ e² / 2."""

    weight: Tensor
    mask: Tensor
    loss: float


def inverse_factor(hessian: Tensor, damping: float = 0.01) -> Tensor:
    """U, upper triangular, with UᵀU = (H + λ I)⁻¹ and λ = damping · mean(diag H).

    Where the factorisation fails λ is raised tenfold and it is tried again.

    Raises:
        PruneError: it fails whatever λ (the inputs hold NaN or infinity).

    >>> inverse_factor(torch.tensor([[4., 0.], [0., 1.]]), damping=0.0).diagonal().tolist()
    [0.5, 1.0]
    """
    eye = torch.eye(len(hessian), dtype=hessian.dtype, device=hessian.device)
    scale = hessian.diagonal().mean()
    for attempt in range(_RETRIES):
        strength = damping * 10**attempt if damping else (attempt and 10.0 ** (attempt - 8))
        lower, trouble = torch.linalg.cholesky_ex(hessian + strength * scale * eye)
        if not trouble:
            inverse = torch.cholesky_inverse(lower)
            upper, trouble = torch.linalg.cholesky_ex(inverse, upper=True)
            if not trouble:
                return upper
    raise PruneError(
        f"the inputs' second moments have no Cholesky factor, even damped by {strength:g} times "
        f"their mean: do the calibration inputs hold NaN or infinity?"
    )


def solve(
    weight: Tensor,
    hessian: Tensor,
    *,
    drop: int | None = None,
    pattern: tuple[int, int] | None = None,
    mask: Tensor | None = None,
    damping: float = 0.01,
    block: int = 128,
    bits: int | None = None,
) -> Solution:
    """Prune one matrix and correct what stays.

    One of `drop`, `pattern` and `mask` says what goes:

    Args:
        weight: (rows, columns); hessian: (columns, columns).
        drop: how many weights; each block of columns gives its share, those of least w² / U_ii²,
            chosen over all rows before the block is worked on.
        pattern: (n, m): of every m columns n stay in each row, chosen when they are reached, with
            the corrections made so far.
        mask: True stays.
        damping: see `inverse_factor`.
        block: columns at a time; corrections beyond it are made all at once.
        bits: also round what stays to multiples of (row's largest weight) / (2^(bits - 1) - 1), and
            correct for that, too.
    Raises:
        PruneError: columns are no multiple of m, or the inputs are not finite.
    """
    if sum(x is not None for x in (drop, pattern, mask)) != 1:
        raise ValueError("give one of drop=, pattern= and mask=")
    rows, columns = weight.shape
    work = weight.detach().clone()
    work = work if work.dtype == torch.float64 else work.float()
    hessian = hessian.to(work.dtype).clone()
    dead = hessian.diagonal() == 0  # an input that is always zero: its weights do nothing
    hessian.diagonal()[dead] = 1
    work[:, dead] = 0
    upper = inverse_factor(hessian, damping)
    kept = torch.ones(rows, columns, dtype=torch.bool, device=work.device)
    if mask is not None:
        kept = mask.clone()
    if pattern is not None:
        n, m = pattern
        if columns % m:
            nm.best_of(work, n, m)  # raises, with the words for it
        block = max(block // m, 1) * m
    step = None if bits is None else _step(work, bits)
    gone, loss = 0, 0.0
    for begin in range(0, columns, block):
        end = min(begin + block, columns)
        part, factor = work[:, begin:end].clone(), upper[begin:end, begin:end]
        errors = torch.zeros_like(part)
        diagonal = factor.diagonal()
        if drop is not None:
            # Rounded on the running total, so that the whole drops exactly what was asked for.
            share = drop * end // columns - gone
            gone += share
            cost = part.square() / diagonal.square()
            lowest = cost.flatten().argsort(stable=True)[:share]
            kept[:, begin:end] = torch.ones_like(cost, dtype=torch.bool).flatten().scatter_(
                0, lowest, False
            ).view_as(cost)  # fmt: skip
        for i in range(end - begin):
            if pattern is not None and i % m == 0:
                cost = part[:, i : i + m].square() / diagonal[i : i + m].square()
                kept[:, begin + i : begin + i + m] = nm.best_of(cost, n, m)
            column = part[:, i]
            rounded = column if step is None else _rounded(column, step, bits)
            new = torch.where(kept[:, begin + i], rounded, 0.0)
            error = (column - new) / diagonal[i]
            part[:, i:] -= error[:, None] * factor[i, i:]
            part[:, i] = new
            errors[:, i] = error
        work[:, begin:end] = part
        work[:, end:] -= errors @ upper[begin:end, end:]
        loss += errors.square().sum().item() / 2
    return Solution(work.to(weight.dtype), kept, loss)


def _step(weight: Tensor, bits: int) -> Tensor:
    if bits < 2:
        raise PruneError(f"rounding takes 2 bits at least, one is the sign; got {bits}")
    return weight.abs().amax(1).clamp(min=torch.finfo(weight.dtype).tiny) / (2 ** (bits - 1) - 1)


def _rounded(column: Tensor, step: Tensor, bits: int | None) -> Tensor:
    assert bits is not None
    most = 2 ** (bits - 1) - 1
    return (column / step).round().clamp(-most, most) * step
