"""Layers of a pruned network beside those of the original: what both computed, and from what."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sentei.batches import Batch, forward, to_device
from sentei.graph.capture import unwrap
from sentei.graph.errors import PruneError
from sentei.graph.surgery import Surgery

__all__ = ["Pair", "in_order", "inputs", "pairs", "passing", "watching"]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True, eq=False)
class Pair:
    """A linear layer or a convolution, before and after.

    rows: kept outputs; columns: kept inputs; both positions in the original.
    factor: what surgery multiplied each kept output with (exact compensation), mostly ones.
    """

    name: str
    before: nn.Module = field(repr=False)
    after: nn.Module = field(repr=False)
    rows: Tensor = field(repr=False)
    columns: Tensor = field(repr=False)
    factor: Tensor = field(repr=False)

    @property
    def gone(self) -> Tensor:
        """Inputs that were removed, positions in the original."""
        left = torch.ones(self.before.weight.shape[1], dtype=torch.bool)
        left[self.columns] = False
        return left.nonzero().flatten()

    @property
    def convolution(self) -> bool:
        return isinstance(self.before, _CONVOLUTIONS)

    @property
    def features(self) -> int:
        """The dimension of inputs and outputs that holds features."""
        return 1 if self.convolution else -1


def pairs(original: nn.Module, pruned: nn.Module, surgery: Surgery) -> list[Pair]:
    """All linear layers and ungrouped convolutions of both, in the order of the modules.

    Raises:
        PruneError: `original` is not the network that was pruned.
    """
    original, pruned = unwrap(original), unwrap(pruned)
    after = dict(pruned.named_modules())
    found = []
    for name, module in original.named_modules():
        if not isinstance(module, (nn.Linear, *_CONVOLUTIONS)) or getattr(module, "groups", 1) != 1:
            continue
        weight = f"{name}.weight" if name else "weight"
        kept = surgery.kept.get(weight, {})
        if any(positions.dim() == 2 for positions in kept.values()):
            continue  # another use than a layer's own: its rows have other inputs
        rows, columns = (kept.get(d, torch.arange(module.weight.shape[d])).cpu() for d in (0, 1))
        other = after.get(name)
        if other is None or tuple(other.weight.shape[:2]) != (len(rows), len(columns)):
            raise PruneError(
                f"{name}: the original and the pruned network do not belong together; give the "
                f"network as it was before pruning (prune(..., inplace=False), or a copy)"
            )
        factor = torch.ones(len(rows), dtype=torch.float64)
        for dim, factors in surgery.scaled.get(weight, ()):
            if dim == 0:
                factor = factor * factors.double().cpu()[rows]
        found.append(Pair(name, module, other, rows, columns, factor))
    return found


def in_order(chosen: list[Pair], pruned: nn.Module, batch: Batch) -> list[Pair]:
    """The pairs in the order in which the pruned network first runs them; unused ones left out."""
    seen: dict[int, int] = {}
    with watching(
        {id(p.after): p.after for p in chosen}, lambda k, x, y: seen.setdefault(k, len(seen))
    ):
        passing(pruned, batch)
    ran = [p for p in chosen if id(p.after) in seen]
    return sorted(ran, key=lambda p: seen[id(p.after)])


@contextmanager
def watching(
    modules: dict[Any, nn.Module], see: Callable[[Any, Tensor, Tensor], Any]
) -> Iterator[None]:
    """Call `see(key, input, output)` whenever one of the modules runs."""
    handles = [
        module.register_forward_hook(
            lambda _m, args, out, key=key: (see(key, args[0], out), None)[1]
        )
        for key, module in modules.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def passing(model: nn.Module, batch: Batch) -> Any:
    """One forward pass in eval mode, training flags as before."""
    flags = {module: module.training for module in model.modules()}
    device = next(model.parameters()).device
    model.eval()
    try:
        return forward(model, to_device(batch, device))
    finally:
        for module, flag in flags.items():
            module.training = flag


def inputs(pair: Pair, x: Tensor) -> Tensor:
    """The rows that the layer's weight, as a matrix, is multiplied with: (positions, features)."""
    layer = pair.after
    if not pair.convolution:
        return x.reshape(-1, x.shape[-1])
    if (
        isinstance(layer, nn.Conv2d)
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    ):
        columns = F.unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride)
        return columns.transpose(1, 2).reshape(-1, columns.shape[1])
    # Any convolution: one with an identity as kernel gives the patches in the weight's order.
    patch = layer.weight[0].numel()
    look = copy.copy(layer)
    look._parameters = dict(layer._parameters)
    eye = torch.eye(patch, dtype=x.dtype, device=x.device)
    look._parameters["weight"] = nn.Parameter(
        eye.view(patch, *layer.weight.shape[1:]), requires_grad=False
    )
    look._parameters["bias"] = None
    look._forward_hooks = type(layer._forward_hooks)()
    return look(x).movedim(1, -1).reshape(-1, patch)


def outputs(pair: Pair, y: Tensor) -> Tensor:
    """What the original computed for the kept outputs: (positions, outputs)."""
    flat = y.movedim(pair.features, -1).reshape(-1, y.shape[pair.features])
    return flat[:, pair.rows.to(flat.device)] * pair.factor.to(flat)
