"""Removed units merged into the kept ones that are most like them. No data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sentei.graph.capture import unwrap
from sentei.graph.groups import Group
from sentei.graph.surgery import Surgery

__all__ = ["Merged", "merge"]


@dataclass(frozen=True)
class Merged:
    """A removed unit of a group, the kept one it went into, by which factor, and how alike."""

    group: str
    unit: int
    into: int
    factor: float
    cosine: float


@torch.no_grad()
def merge(
    original: nn.Module, pruned: nn.Module, result: Any, *, threshold: float = 0.45
) -> list[Merged]:
    """Give a removed unit's consumers to the kept unit with the most similar weights, in place.

    For unit u with incoming weights w_u (bias and batch norm folded in), the kept v of largest
    cosine c, and s = ||w_u|| / ||w_v||:   W_next[:, v] += s · W_next[:, u]   if c >= threshold.

    Exact where w_u = s · w_v and what lies between is positively homogeneous (ReLU and its kin);
    elsewhere an approximation. Groups that several layers write to (residual streams) are left.

    Args:
        result: of the pruning that led from `original` to `pruned`.
    Returns:
        what went where.
    Source: Kim et al. 2020, Neuron Merging, arXiv:2010.13160 (their eq. 8: cosine and scale;
        threshold 0.45 for their VGG); Srinivas and Babu 2015, arXiv:1507.06149.
    """
    before, after = unwrap(original), unwrap(pruned)
    surgery: Surgery = result.surgery
    old = {**dict(before.named_parameters()), **dict(before.named_buffers())}
    new = dict(after.named_parameters())
    out: list[Merged] = []
    for name, kept in surgery.units.items():
        group = result.groups[name]
        if kept.dim() != 1 or group.outer is not None:
            continue
        described = _incoming(group, before, old)
        if described is None:
            continue
        stays = kept.tolist()
        gone = sorted(set(range(group.size)) - set(stays))
        moves = _partners(described, stays, gone, threshold)
        for u, v, factor, cosine in moves:
            out.append(Merged(name, u, v, factor, cosine))
        for parameter, dim, positions in _outgoing(group, old):
            _move(old[parameter], new[parameter], dim, positions, surgery, parameter, moves)
    return out


def _incoming(group: Group, model: nn.Module, tensors: dict[str, Tensor]) -> Tensor | None:
    """(units, features): the weights and bias that make each unit; None if several layers do."""
    makers = [
        s for s in group.slices
        if s.dim == 0 and s.parameter.endswith("weight") and tensors[s.parameter].dim() >= 2
        and s.positions.shape[1] == 1
    ]  # fmt: skip
    if len(makers) != 1:
        return None
    maker = makers[0]
    weight = tensors[maker.parameter].double().flatten(1)
    bias = tensors.get(maker.parameter.removesuffix("weight") + "bias")
    shift = torch.zeros(len(weight), dtype=torch.float64) if bias is None else bias.double()
    units = maker.positions[:, 0]
    weight, shift = weight[units], shift[units]
    for norm in _norms(group, model):
        scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        weight = weight * scale[:, None]
        shift = (shift - norm.running_mean.double()) * scale + norm.bias.double()
    return torch.cat([weight, shift[:, None]], 1)


def _norms(group: Group, model: nn.Module) -> list[_BatchNorm]:
    modules = dict(model.named_modules())
    found = {}
    for s in group.slices:
        module = modules.get(s.parameter.rpartition(".")[0])
        usable = isinstance(module, _BatchNorm) and module.affine and module.track_running_stats
        if usable and module.num_features == group.size:
            found[id(module)] = module
    return list(found.values())


def _outgoing(group: Group, tensors: dict[str, Tensor]) -> list[tuple[str, int, Tensor]]:
    """(parameter, dimension, positions of each unit) of what multiplies with the units."""
    return [
        (s.parameter, s.dim, s.positions)
        for s in group.slices
        if s.dim == 1 and tensors[s.parameter].dim() >= 2
    ]


def _partners(
    described: Tensor, stays: list[int], gone: list[int], threshold: float
) -> list[tuple[int, int, float, float]]:
    """(removed, kept, factor, cosine) where one is alike enough."""
    norms = described.norm(dim=1)
    unit = described / norms.clamp(min=1e-30)[:, None]
    cosines = unit[gone] @ unit[stays].T
    best = cosines.max(1)
    moves = []
    for u, cosine, index in zip(gone, best.values.tolist(), best.indices.tolist(), strict=True):
        v = stays[index]
        if cosine >= threshold and norms[v] > 0:
            moves.append((u, v, float(norms[u] / norms[v]), cosine))
    return moves


def _move(
    old: Tensor, new: Tensor, dim: int, positions: Tensor, surgery: Surgery, name: str,
    moves: list[tuple[int, int, float, float]],
) -> None:  # fmt: skip
    kept = surgery.kept[name]
    place = {int(p): i for i, p in enumerate(kept[dim].tolist())}
    rows = kept.get(0)
    for u, v, factor, _ in moves:
        for source, target in zip(positions[u].tolist(), positions[v].tolist(), strict=True):
            moved = old.select(dim, source)
            if rows is not None and dim != 0:
                moved = moved.index_select(0, rows.to(moved.device))
            new.select(dim, place[target]).add_(factor * moved)
