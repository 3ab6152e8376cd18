"""Remove weights of one layer, each row by the exact greedy rule of the optimal brain surgeon.

What a change Δ of a matrix W (rows, columns) costs the layer's outputs on its inputs x is
tr(Δ H Δᵀ) / 2 with H = (2 / n) Σ x xᵀ, the same for all rows. Removing weight c of a row w costs

    w_c² / (2 [H⁻¹]_cc)   and changes the row by   -(w_c / [H⁻¹]_cc) H⁻¹_{:c}

after which c leaves H⁻¹: H⁻¹ -= H⁻¹_{:c} H⁻¹_{c:} / [H⁻¹]_cc. Everything is in float64.

Sources: Hassibi and Stork 1992 (optimal brain surgeon); Dong, Chen and Pan 2017 (L-OBS),
arXiv:1705.07565; Frantar, Singh and Alistarh 2022 (OBC, ExactOBS), arXiv:2208.11580.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sentei.graph.errors import PruneError

__all__ = ["Trace", "cheapest", "damped_inverse", "greedy", "least_squares", "one_pass"]

# Float64 values that the inverses of rows under way may take: 2^17 are 1 MiB, which stays in a
# cache; each step goes over all of them, so that more at once is slower.
_AT_ONCE = 2**17


@dataclass(frozen=True)
class Trace:
    """In which order each row loses its blocks of columns, and what each costs.

    order: (rows, steps) block numbers; loss: (rows, steps), the increase of tr(Δ H Δᵀ) / 2 at each.
    width: columns a block.
    """

    order: Tensor
    loss: Tensor
    width: int = 1

    def mask(self, counts: Tensor, columns: int) -> Tensor:
        """(rows, columns): True where a row still has its weight after so many steps."""
        steps = torch.arange(self.order.shape[1], device=self.order.device)
        gone = steps < counts[:, None]
        blocks = torch.ones(len(self.order), columns // self.width, dtype=torch.bool)
        blocks = blocks.to(self.order.device).scatter_(1, self.order, ~gone)
        return blocks.repeat_interleave(self.width, 1)


def damped_inverse(hessian: Tensor, damping: float = 0.0) -> tuple[Tensor, Tensor]:
    """(H⁻¹, dead): inputs that are always zero count as uncorrelated ones of size 1.

    Args:
        damping: added to the diagonal, as a share of its mean.
    Raises:
        PruneError: the inputs are not finite, or depend on one another and damping is zero.

    >>> inverse, dead = damped_inverse(torch.tensor([[4., 0.], [0., 0.]]))
    >>> inverse.diagonal().tolist(), dead.tolist()
    ([0.25, 1.0], [False, True])
    """
    hessian = hessian.double().clone()
    dead = hessian.diagonal() == 0
    hessian.diagonal().add_(damping * hessian.diagonal().mean())
    hessian.diagonal()[dead] = 1.0
    lower, trouble = torch.linalg.cholesky_ex(hessian)
    if trouble or not lower.isfinite().all():
        raise PruneError(
            "the inputs' second moments have no inverse: there are fewer inputs than columns, they "
            "depend on one another, or are not finite. Give more calibration examples, or damping"
        )
    return torch.cholesky_inverse(lower), dead


def greedy(
    weight: Tensor,
    inverse: Tensor,
    *,
    width: int = 1,
    pattern: tuple[int, int] | None = None,
) -> Trace:
    """The order in which every row by itself would lose all its weights, cheapest first.

    Rows are worked on together, as many as fit, each with an inverse of its own.

    Args:
        weight: (rows, columns); inverse: (columns, columns).
        width: columns that leave together: a block costs w_B ([H⁻¹]_BB)⁻¹ w_B / 2.
        pattern: (n, m): of every m columns n stay; a group that has lost m - n is closed.
    Raises:
        PruneError: the columns are no multiple of width or m.
    """
    columns = weight.shape[1]
    unit = width if pattern is None else pattern[1]
    if columns % unit:
        raise PruneError(f"rows of {columns} weights cannot be cut into parts of {unit}")
    at_once = max(1, _AT_ONCE // columns**2)
    parts = [
        _greedy(part.double(), inverse.double(), width, pattern) for part in weight.split(at_once)
    ]
    return Trace(
        torch.cat([order for order, _ in parts]), torch.cat([loss for _, loss in parts]), width
    )


def _greedy(
    w: Tensor, inverse: Tensor, width: int, pattern: tuple[int, int] | None
) -> tuple[Tensor, Tensor]:
    rows, columns = w.shape
    w, blocks = w.clone(), columns // width
    own = inverse.expand(rows, -1, -1).clone()
    each = torch.arange(rows, device=w.device)
    inside = torch.arange(width, device=w.device)
    # What is left of each row: its blocks' numbers, and where a pattern allows no more, closed.
    ids = torch.arange(blocks, device=w.device).repeat(rows, 1)
    open_ = torch.ones(rows, blocks, dtype=torch.bool, device=w.device)
    gone = torch.zeros_like(open_)
    steps = blocks if pattern is None else columns // pattern[1] * (pattern[1] - pattern[0])
    order, losses, eye = [], [], torch.eye(width, dtype=w.dtype, device=w.device)
    for _ in range(steps):
        left = ids.shape[1]
        if 4 * int(gone[0].sum()) > left:  # as many in every row: leave them out from here on
            stay = (~gone).nonzero()[:, 1].view(rows, -1)
            ids, open_ = ids.gather(1, stay), open_.gather(1, stay)
            places = (stay[:, :, None] * width + inside).flatten(1)
            w = w.gather(1, places)
            own = own.gather(2, places[:, None, :].expand(-1, own.shape[1], -1))
            own = own.gather(1, places[:, :, None].expand(-1, -1, places.shape[1]))
            gone, left = torch.zeros_like(open_), ids.shape[1]
        part = w.view(rows, left, width)
        if width == 1:
            pivots = own.diagonal(dim1=1, dim2=2).masked_fill(gone, 1.0)
            solved = part / pivots[..., None]
        else:
            inner = own.view(rows, left, width, left, width).diagonal(dim1=1, dim2=3)
            inner = inner.permute(0, 3, 1, 2)  # each block with itself
            inner = torch.where(gone[:, :, None, None], eye, inner)
            solved = torch.linalg.solve(inner, part)
        cost = 0.5 * (part * solved).sum(-1)
        chosen = cost.masked_fill(~open_, torch.inf).argmin(1)
        order.append(ids[each, chosen])
        losses.append(cost[each, chosen])
        index = chosen[:, None] * width + inside
        wide = index[:, None, :].expand(-1, own.shape[1], -1)
        columns_of = own.gather(2, wide)
        w -= (columns_of @ solved[each, chosen][..., None])[..., 0]
        if width == 1:
            scaled = columns_of.mT / pivots[each, chosen][:, None, None]
        else:
            scaled = torch.linalg.solve(inner[each, chosen], columns_of.mT)
        own.baddbmm_(columns_of, scaled, alpha=-1)
        # Exact zeros, where rounding would leave something to be chosen again.
        w.scatter_(1, index, 0.0)
        own.scatter_(2, wide, 0.0)
        own.scatter_(1, index[:, :, None].expand(-1, -1, own.shape[2]), 0.0)
        gone[each, chosen] = True
        open_[each, chosen] = False
        if pattern is not None:
            # A group is closed once it has lost m - n; counted on the original numbers.
            n, m = pattern
            taken = torch.stack(order, 1) // m
            lost = torch.zeros(rows, columns // m, dtype=torch.int64, device=w.device)
            lost.scatter_add_(1, taken, torch.ones_like(taken))
            open_ &= lost.gather(1, ids // m) < m - n
    return torch.stack(order, 1), torch.stack(losses, 1)


def cheapest(trace: Trace, drop: int) -> Tensor:
    """How many blocks each row loses when the `drop` cheapest steps of all rows are taken.

    >>> trace = Trace(torch.tensor([[0, 1], [1, 0]]), torch.tensor([[1., 5.], [2., 3.]]))
    >>> cheapest(trace, 3).tolist()
    [1, 2]
    """
    rows, steps = trace.loss.shape
    taken = trace.loss.flatten().argsort(stable=True)[:drop] // steps
    return torch.bincount(taken, minlength=rows)


def least_squares(weight: Tensor, inverse: Tensor, mask: Tensor) -> Tensor:
    """The best rows with zeros where `mask` is False: w - H⁻¹_{:Q} ([H⁻¹]_QQ)⁻¹ w_Q.

    It is where the greedy steps lead that remove Q, whatever their order, since each is exact; so
    no row's way has to be stored.
    """
    out = torch.empty(weight.shape, dtype=torch.float64, device=weight.device)
    inverse = inverse.double()
    for row, (w, keep) in enumerate(zip(weight.double(), mask, strict=True)):
        gone = (~keep).nonzero().flatten()
        change = torch.linalg.solve(inverse[gone][:, gone], w[gone])
        out[row] = w - inverse[:, gone] @ change
        out[row, gone] = 0.0
    return out


def one_pass(weight: Tensor, inverse: Tensor, drop: int, fixed: int = 0) -> tuple[Tensor, Tensor]:
    """(weight, mask) by L-OBS: scores once, updates one by one with an inverse that never changes.

    score = w_rc² / [H⁻¹]_cc; the `drop` lowest go in order, each adding
    -(w_rc / [H⁻¹]_cc) H⁻¹_{c:} to its row, w_rc as the updates before have left it; what they
    brought back to removed places is cut off at the end. Cheap, and not exact: see `greedy`.

    Args:
        fixed: so many last columns are updated and never removed (a bias).
    """
    w, inverse = weight.double().clone(), inverse.double()
    rows, columns = w.shape
    free = columns - fixed
    score = (w.square() / inverse.diagonal())[:, :free]
    order = score.flatten().argsort(stable=True)[:drop]
    mask = torch.ones(rows, columns, dtype=torch.bool, device=w.device)
    for row, column in zip((order // free).tolist(), (order % free).tolist(), strict=True):
        w[row] -= w[row, column] / inverse[column, column] * inverse[column]
        mask[row, column] = False
    return w.masked_fill(~mask, 0.0), mask
