from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from sentei.allocation.pqi import keep_at_least, pq_index
from sentei.allocation.weights import top
from sentei.graph.errors import PruneError, closest
from sentei.methods.base import method
from sentei.methods.parts import ranked
from sentei.methods.setting import Setting
from sentei.structures import Masks

__all__ = ["adapted", "pqi_sap"]

SCOPES = ("global", "layer", "neuron")


@method(
    "pqi-sap",
    title="Pruning Deep Neural Networks from a Sparsity Perspective",
    authors="Diao, Wang, Zhang, Yang, Ding, Tarokh",
    venue="ICLR",
    year=2023,
    arxiv="2302.05601",
    family="magnitude",
    structure="weight",
    timing="after",
    starts="initial",
    needs=("data", "labels", "training", "initial weights"),
    card="A10",
    lineage=("han-magnitude", "lth-imp"),
)
def pqi_sap(
    setting: Setting,
    *,
    rounds: int = 15,
    scope: str = "global",
    p: float = 0.5,
    q: float = 1.0,
    eta: float = 0.0,
    gamma: float = 1.0,
    beta: float = 0.9,
    exact: bool = True,
) -> Masks:
    """Let the sparsity of the weights themselves say how much of them goes each round.

    Each round trains from the initial weights under the mask, takes the PQ index I of the d
    survivors, and removes the floor(d · clip(γ (1 - r / d), 0, β)) smallest, with
    r = ceil(d (1 + η)^{-q/(q-p)} (1 - I)^{pq/(q-p)}) (algorithm 1). The last mask is trained.

    Args:
        rounds: T, at most; it ends where the setting's density is reached.
        scope: what I is taken of and pruned: "global", each "layer", or each "neuron" (row).
        p, q, eta: of the index and the bound; gamma, beta: γ and β. The bound is a lower bound on
            what to keep, so that high sparsity takes γ > 1 or many rounds.
        exact: end at exactly the setting's density, by one more ranking (globally) where T rounds
            do not reach it; otherwise where the index leads.
    """
    if scope not in SCOPES:
        raise PruneError(f"unknown scope {scope!r}; {closest(scope, SCOPES)}")
    if rounds < 1:
        raise PruneError(f"rounds must be at least 1; got {rounds}")
    masks = Masks.full(setting.weights)
    initial = setting.initial if setting.initial is not None else setting.state()
    target = round(setting.keep * masks.total) if exact else 0
    for _ in range(rounds):
        setting.rewind(initial, masks)
        setting.train(masks=masks)
        found = adapted(setting.weights, masks, scope, p, q, eta, gamma, beta)
        if found.kept <= target:
            break
        if found.equal(masks):
            break  # nothing more to remove: another round would say the same
        masks = found
    if exact:
        masks = ranked(setting, "magnitude", setting.keep, "global", masks)
    setting.rewind(initial, masks)
    setting.train(masks=masks)
    return masks


def adapted(
    weights: Mapping[str, Tensor],
    masks: Masks,
    scope: str = "layer",
    p: float = 0.5,
    q: float = 1.0,
    eta: float = 0.0,
    gamma: float = 1.0,
    beta: float = 0.9,
) -> Masks:
    """The masks of the next round.

    >>> w = torch.tensor([[4., 1., 1., 0.]])  # I = 1 - 4^-1 (2 + 1 + 1)^2 / 6 = 1/3
    >>> adapted({"w": w}, Masks.full({"w": w}))["w"].tolist()
    [[True, True, True, False]]
    """
    names = list(masks)
    size = {n: weights[n].detach().abs().double() for n in names}
    if scope == "global":
        flat = torch.cat([size[n].flatten() for n in names])
        kept = _fewer(flat, torch.cat([masks[n].flatten() for n in names]), p, q, eta, gamma, beta)
        parts = kept.split([size[n].numel() for n in names])
        return Masks({n: m.view(size[n].shape) for n, m in zip(names, parts, strict=True)})
    out = {}
    for name in names:
        rows = [slice(None)] if scope == "layer" else list(_rows(size[name]))
        mask = masks[name].clone()
        for row in rows:
            mask[row] = _fewer(size[name][row], masks[name][row], p, q, eta, gamma, beta)
        out[name] = mask
    return Masks(out)


def _rows(values: Tensor) -> Iterator[int]:
    return iter(range(len(values)))


def _fewer(
    size: Tensor, mask: Tensor, p: float, q: float, eta: float, gamma: float, beta: float
) -> Tensor:
    survivors = int(mask.sum())
    if not survivors:
        return mask
    keep = keep_at_least(survivors, pq_index(size[mask], p, q), p, q, eta)
    share = min(max(gamma * (1 - keep / survivors), 0.0), beta)
    left = survivors - math.floor(survivors * share + 1e-9)
    return top(size.masked_fill(~mask, -1.0), left)
