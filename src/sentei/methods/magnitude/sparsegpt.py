from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from sentei.allocation.weights import DENSITIES, counts
from sentei.criteria.inputs import Use
from sentei.graph.errors import PruneError, closest
from sentei.methods.base import method
from sentei.methods.blockwise import by_blocks
from sentei.methods.setting import Setting
from sentei.recovery.sparse_obs import solve
from sentei.structures import Masks, nm

__all__ = ["Moments", "sparsegpt"]


class Moments:
    """H = (2 / n) Σ x xᵀ of every weight's inputs; call it with each `Use`."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.tokens: dict[str, int] = {}
        self.uses: dict[str, Use] = {}

    def __call__(self, use: Use) -> None:
        x = use.inputs
        x = x if x.dtype == torch.float64 else x.float()
        self.sums[use.name] = self.sums.get(use.name, 0) + x.mT @ x
        self.tokens[use.name] = self.tokens.get(use.name, 0) + x.shape[1]
        self.uses.setdefault(use.name, use)

    def hessian(self, name: str) -> Tensor:
        """(groups, columns, columns)"""
        return 2 / self.tokens[name] * self.sums[name]


@method(
    "sparsegpt",
    title="SparseGPT: massive language models can be accurately pruned in one-shot",
    authors="Frantar, Alistarh",
    venue="ICML",
    year=2023,
    arxiv="2301.00774",
    family="magnitude",
    structure="weight",
    timing="after",
    starts="trained",
    needs=("data",),
    card="A14",
    lineage=("han-magnitude",),
)
def sparsegpt(
    setting: Setting,
    *,
    scope: str = "uniform",
    damping: float = 0.01,
    block: int = 128,
    bits: int | None = None,
    propagate: str = "layer",
    recover: bool = False,
) -> Masks:
    """Prune each matrix column by column, and let the columns to the right make up for it.

    H = (2/n) Σ x xᵀ + λ I;  U = chol(H⁻¹);  of each block of columns those of least w² / U_ii² go;
    after column i: W[:, i:] -= (w_i - q_i) / U_ii · U[i, i:] (algorithm 1). No training. The
    network is walked through in order, and each part sees what the pruned ones before it give.

    Args:
        scope: how the density is spread over layers, by shapes (a name in `DENSITIES`), or "n:m".
        damping: λ as a share of the mean of H's diagonal; block: columns whose mask is chosen at
            once. propagate: as in `wanda`.
        bits: round what stays to so many bits a weight in the same pass (section 3.5).
        recover: train on afterwards, which the paper does not.
    """
    pattern = nm.parse(scope)
    kept: dict[str, int] = {}
    if pattern is None:
        if scope not in DENSITIES:
            raise PruneError(f"unknown scope {scope!r}; {closest(scope, ['2:4', *DENSITIES])}")
        shapes = {n: tuple(w.shape) for n, w in setting.weights.items()}
        total = sum(prod(s) for s in shapes.values())
        kept = counts(shapes, DENSITIES[scope](shapes, setting.keep), round(setting.keep * total))
    elif abs(setting.keep - pattern[0] / pattern[1]) > 1e-9:
        raise PruneError(
            f"{scope} keeps {pattern[0] / pattern[1]:g} of the weights; the density asked for is "
            f"{setting.keep:g}. Give that density, or another scope"
        )

    def prune(name: str, weight: Tensor, moments: Moments) -> Tensor:
        use, hessian = moments.uses[name], moments.hessian(name)
        matrices = use.matrix(weight.detach())
        parts, masks = [], []
        drop = weight.numel() - kept[name] if pattern is None else 0
        for g, (matrix, own) in enumerate(zip(matrices, hessian, strict=True)):
            share = drop * (g + 1) // use.groups - drop * g // use.groups
            done = solve(
                matrix,
                own,
                drop=share if pattern is None else None,
                pattern=pattern,
                damping=damping,
                block=block,
                bits=bits,
            )
            parts.append(done.weight)
            masks.append(done.mask)
        weight.data.copy_(use.weight(torch.stack(parts), weight.shape))
        return use.weight(torch.stack(masks), weight.shape)

    masks = Masks(by_blocks(setting, Moments, prune, propagate))
    if recover:
        setting.recover(masks)
    return masks
