"""The optimal brain surgeon on a vector of weights and the inverse of its Hessian.

Source: Hassibi and Stork 1992, eq. 5; the set version follows from the same Lagrangian.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

__all__ = ["costs", "inverse_of_products", "remove", "remove_", "remove_cheapest", "remove_set"]


def costs(theta: Tensor, inverse: Tensor) -> Tensor:
    """θ_q² / (2 [H⁻¹]_qq): the loss when q is zero and all others have made up for it.

    Infinite where [H⁻¹]_qq is zero: what was removed.

    >>> costs(torch.tensor([2., 1.]), torch.tensor([[.5, 0.], [0., 0.]])).tolist()
    [4.0, inf]
    """
    diagonal = inverse.diagonal()
    return torch.where(diagonal > 0, theta.square() / (2 * diagonal), torch.inf)


def remove(theta: Tensor, inverse: Tensor, q: int) -> tuple[Tensor, Tensor]:
    """(weights, inverse) without weight q.

    θ' = θ - (θ_q / [H⁻¹]_qq) H⁻¹ e_q,   H⁻¹' = H⁻¹ - H⁻¹_{:q} H⁻¹_{q:} / [H⁻¹]_qq

    which is the inverse of H without row and column q, with zeros in their place.

    >>> theta, inverse = remove(torch.tensor([2., 1.]), torch.tensor([[2., 1.], [1., 2.]]), 0)
    >>> theta.tolist(), inverse.tolist()
    ([0.0, 0.0], [[0.0, 0.0], [0.0, 1.5]])
    """
    theta, inverse = theta.clone(), inverse.clone()
    remove_(theta, inverse, q)
    return theta, inverse


def remove_(theta: Tensor, inverse: Tensor, q: int) -> None:
    """`remove` in place."""
    column, pivot = inverse[:, q].clone(), float(inverse[q, q])
    theta.sub_(column, alpha=float(theta[q]) / pivot)
    inverse.addr_(column, column, alpha=-1 / pivot)
    # Exact zeros, where rounding would leave something.
    theta[q] = 0.0
    inverse[:, q] = 0.0
    inverse[q] = 0.0


def remove_cheapest(
    theta: Tensor, inverse: Tensor, removable: Tensor, count: int, block: int = 64
) -> tuple[Tensor, Tensor]:
    """The weights after `count` removals, each the cheapest then, and which were removed.

    The same steps as `remove`. Of H⁻¹ a step needs the diagonal and one column, so its updates are
    put together, `block` at a time, as one product of matrices; what is gone is left out then.

    Args:
        removable: bool, what may be removed.

    >>> theta, inverse = torch.tensor([2., 1., 3.]), torch.eye(3)
    >>> remove_cheapest(theta, inverse, torch.tensor([True, False, True]), 1)
    (tensor([0., 1., 3.]), tensor([ True, False, False]))
    """
    new, removed = torch.zeros_like(theta), torch.ones_like(removable)
    ids, theta, inverse = torch.arange(len(theta)), theta.clone(), inverse.clone()
    diagonal, gone = inverse.diagonal().clone(), torch.zeros_like(removable)
    late: list[Tensor] = []  # H⁻¹ is `inverse` without the sum of u uᵀ over these
    for _ in range(count):
        cost = theta.square() / (2 * diagonal)
        q = int(cost.masked_fill(~removable | gone | (diagonal <= 0), torch.inf).argmin())
        column, pivot = inverse[:, q].clone(), float(diagonal[q])
        if late:
            rows = torch.stack(late)
            column -= rows[:, q] @ rows
        gone[q] = True
        theta.sub_(column, alpha=float(theta[q]) / pivot)
        # Exact zeros, where rounding would leave something.
        theta[gone] = 0.0
        scaled = column / pivot**0.5
        diagonal.sub_(scaled.square())
        late.append(scaled)
        if len(late) == block:
            rows = torch.stack(late)
            inverse.addmm_(rows.T, rows, alpha=-1)
            late.clear()
            if 8 * int(gone.sum()) > len(gone):
                stay = (~gone).nonzero().flatten()
                theta, inverse, diagonal = theta[stay], inverse[stay][:, stay], diagonal[stay]
                ids, removable, gone = ids[stay], removable[stay], gone[stay]
    new[ids], removed[ids] = theta, gone
    return new, removed


def remove_set(theta: Tensor, inverse: Tensor, drop: Tensor) -> tuple[Tensor, float]:
    """(weights, cost) without all of `drop` at once.

    δ = -H⁻¹_{:Q} ([H⁻¹]_QQ)⁻¹ θ_Q,  cost θ_Q' ([H⁻¹]_QQ)⁻¹ θ_Q / 2. Not the sum of single removals.

    Args:
        drop: indices.
    >>> theta, cost = remove_set(torch.tensor([2., 1.]), torch.eye(2), torch.tensor([0, 1]))
    >>> theta.tolist(), cost
    ([0.0, 0.0], 2.5)
    """
    change = torch.linalg.solve(inverse[drop][:, drop], theta[drop])
    new = theta - inverse[:, drop] @ change
    new[drop] = 0.0
    return new, 0.5 * float(theta[drop] @ change)


def inverse_of_products(rows: Iterable[Tensor], count: int, damping: float) -> Tensor:
    """(damping I + (1 / count) Σ g gᵀ)⁻¹, by one rank-one update a row, without any other inverse.

    H⁻¹ starts at I / damping;  H⁻¹ -= H⁻¹ g gᵀ H⁻¹ / (count + gᵀ H⁻¹ g)

    For gradients g of examples it is the inverse of the empirical Fisher, for gradients of outputs
    of the Gauss-Newton matrix.

    Source: Hassibi and Stork 1992, section 3 (there count is P); Singh and Alistarh 2020, eq. 7.

    >>> inverse_of_products([torch.tensor([1., 0.])], 1, 1.0).tolist()
    [[0.5, 0.0], [0.0, 1.0]]
    """
    inverse: Tensor | None = None
    for row in rows:
        if inverse is None:
            inverse = torch.eye(len(row), dtype=row.dtype, device=row.device) / damping
        along = inverse @ row
        inverse = inverse - torch.outer(along, along) / (count + row @ along)
    if inverse is None:
        raise ValueError("no rows to take products of")
    return inverse
