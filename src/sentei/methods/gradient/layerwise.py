"""The optimal brain surgeon inside each layer, on the layer's own inputs."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor

from sentei.allocation.weights import DENSITIES, counts
from sentei.criteria.inputs import Use
from sentei.graph.capture import unwrap
from sentei.graph.errors import PruneError, closest
from sentei.methods.base import method
from sentei.methods.blockwise import by_blocks
from sentei.methods.setting import Setting
from sentei.recovery.layer_obs import cheapest, damped_inverse, greedy, least_squares, one_pass
from sentei.structures import Masks, block, nm

__all__ = ["l_obs", "obc"]

_FACTS: dict[str, Any] = {
    "family": "gradient",
    "structure": "weight",
    "timing": "after",
    "starts": "trained",
    "needs": ("data",),
    "card": "B3",
}


class _Moments:
    """Σ x xᵀ of every weight's inputs with a last input of ones, float64; called with each use."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.uses: dict[str, Use] = {}

    def __call__(self, use: Use) -> None:
        x = use.inputs.double()
        x = torch.cat([x, torch.ones_like(x[..., :1])], dim=-1)
        self.sums[use.name] = self.sums.get(use.name, 0) + x.mT @ x
        self.uses.setdefault(use.name, use)

    def hessians(self, name: str, bias: bool) -> Tensor:
        """(groups, columns, columns) of (2 / n) Σ x xᵀ, with the row of ones if asked."""
        sums = self.sums[name]
        hessian = 2 / sums[0, -1, -1] * sums
        return hessian if bias else hessian[:, :-1, :-1]


@method(
    "obc",
    title="Optimal Brain Compression: A Framework for Accurate Post-Training Quantization and "
    "Pruning",
    authors="Frantar, Singh, Alistarh",
    venue="NeurIPS",
    year=2022,
    arxiv="2208.11580",
    lineage=("obs", "l-obs"),
    **_FACTS,
)
def obc(
    setting: Setting,
    *,
    scope: str = "uniform",
    damping: float = 1e-4,
    propagate: str = "layer",
    recover: bool = False,
) -> Masks:
    """Prune each layer by the exact greedy surgeon of every row, rows joined by their costs.

    Each row removes the weight of least w² / [H⁻¹]_cc, corrects all others and goes on, down to
    nothing; of all rows' steps the cheapest are taken (algorithms 1 and 2), and each row gets the
    least-squares weights on what it keeps, which is where its steps lead. No training.

    Args:
        scope: how the density is spread over layers, by shapes (a name in `DENSITIES`), "n:m", or
            "1xw" for blocks of w consecutive weights of a row.
        damping: λ as a share of the mean of H's diagonal.
        propagate: as in `wanda`. recover: train on afterwards, which the paper does not.
    """
    pattern, sides = nm.parse(scope), block.parse(scope)
    if sides is not None and sides[0] != 1:
        raise PruneError(f"obc removes blocks inside a row: 1x{sides[1]}, not {scope}")
    width = sides[1] if sides is not None else 1
    if pattern is not None and abs(setting.keep - pattern[0] / pattern[1]) > 1e-9:
        raise PruneError(
            f"{scope} keeps {pattern[0] / pattern[1]:g} of the weights; the density asked for is "
            f"{setting.keep:g}. Give that density, or another scope"
        )
    kept = {} if pattern is not None else _kept(setting, "uniform" if sides else scope)

    def matrix(w: Tensor, hessian: Tensor, drop: int, fixed: int) -> tuple[Tensor, Tensor]:
        inverse, dead = damped_inverse(hessian, damping)
        w = w.double().masked_fill(dead, 0.0)
        trace = greedy(w, inverse, width=width, pattern=pattern)
        taken = trace.loss.numel() if pattern is not None else round(drop / width)
        mask = trace.mask(cheapest(trace, taken), w.shape[1])
        return least_squares(w, inverse, mask), mask

    return _layers(setting, kept, matrix, propagate, recover, bias=False)


@method(
    "l-obs",
    title="Learning to Prune Deep Neural Networks via Layer-wise Optimal Brain Surgeon",
    authors="Dong, Chen, Pan",
    venue="NIPS",
    year=2017,
    arxiv="1705.07565",
    lineage=("obs",),
    **_FACTS,
)
def l_obs(
    setting: Setting,
    *,
    scope: str = "uniform",
    damping: float = 1e-5,
    bias: bool = True,
    propagate: str = "layer",
    recover: bool = True,
) -> Masks:
    """Prune each layer by the surgeon's scores, taken once, and its updates, one after another.

    score = w_rc² / [H⁻¹]_cc of the layer's own least-squares error; in their order each removal
    changes its row by -(w_rc / [H⁻¹]_cc) H⁻¹_{c:}, always with the first inverse (algorithm 1, the
    paper's code). Then a light training. Here damping is a share of the mean of H's diagonal, 1e-5
    by itself in that code.

    Args:
        bias: a bias takes part in the updates, as a weight of an input of ones.
        scope, propagate: as in `obc`, without patterns. recover: train on.
    """

    def matrix(w: Tensor, hessian: Tensor, drop: int, fixed: int) -> tuple[Tensor, Tensor]:
        inverse, dead = damped_inverse(hessian, damping)
        return one_pass(w.double().masked_fill(dead, 0.0), inverse, drop, fixed)

    return _layers(setting, _kept(setting, scope), matrix, propagate, recover, bias)


def _kept(setting: Setting, scope: str) -> dict[str, int]:
    if scope not in DENSITIES:
        raise PruneError(f"unknown scope {scope!r}; {closest(scope, DENSITIES)}")
    shapes = {n: tuple(w.shape) for n, w in setting.weights.items()}
    total = sum(prod(s) for s in shapes.values())
    return counts(shapes, DENSITIES[scope](shapes, setting.keep), round(setting.keep * total))


def _layers(
    setting: Setting,
    kept: dict[str, int],
    matrix: Callable[[Tensor, Tensor, int, int], tuple[Tensor, Tensor]],
    propagate: str,
    recover: bool,
    bias: bool,
) -> Masks:
    """Masks of all layers, each weight changed by `matrix`: (weight, H, drop, fixed).

    With `bias`, a layer's bias is a last column that is changed and not removed (fixed = 1).
    """
    parameters = dict(unwrap(setting.model).named_parameters())

    def prune(name: str, weight: Tensor, moments: _Moments) -> Tensor:
        use = moments.uses[name]
        matrices = use.matrix(weight.detach())
        groups, rows, columns = matrices.shape
        own = parameters.get(f"{name.rpartition('.')[0]}.bias".lstrip(".")) if bias else None
        if own is not None and own.numel() != groups * rows:
            own = None
        if own is not None:
            last = own.detach().view(groups, rows, 1)
            matrices = torch.cat([matrices, last], dim=2)
        drop = weight.numel() - kept.get(name, 0)
        parts, masks = [], []
        hessians = moments.hessians(name, own is not None)
        for g, (part, hessian) in enumerate(zip(matrices, hessians, strict=True)):
            # Groups of a convolution share the layer's count, rounded on the running total.
            share = drop * (g + 1) // groups - drop * g // groups
            new, mask = matrix(part, hessian, share, int(own is not None))
            parts.append(new)
            masks.append(mask)
        new, mask = torch.stack(parts), torch.stack(masks)
        with torch.no_grad():
            if own is not None:
                own.copy_(new[..., -1].flatten())
            weight.copy_(use.weight(new[..., :columns], weight.shape))
        return use.weight(mask[..., :columns], weight.shape)

    masks = Masks(by_blocks(setting, _Moments, prune, propagate))
    if recover:
        setting.recover(masks)
    return masks
