"""What the bench measures, by the definitions of Blalock et al. 2020 (arXiv:2003.03033), app. B.

- compression ratio = original size / new size; size counts the parameters that must be stored: all
  that are not zero by mask, biases and norms included. At least 1.
- theoretical speed-up = original MACs / new MACs; MACs as `sentei.graph.cost` counts them, and a
  masked weight's operator counts its MACs times its density.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from sentei.graph.axis import Axis, Fixed
from sentei.graph.capture import capture, unwrap
from sentei.graph.cost import node_macs
from sentei.graph.errors import PruneError
from sentei.graph.groups import call_arguments
from sentei.graph.tape import Tape, Value, flatten
from sentei.structures import Masks, prunable

__all__ = ["density_for", "latencies", "macs_by_weight", "size", "sparse_macs", "stored_bytes"]


def macs_by_weight(model: nn.Module, example: Any) -> dict[str, int]:
    """Multiply-adds of one forward pass on `example`, by the parameter they multiply with.

    Products of activations (attention scores) stand under the empty name. A parameter used
    through a view (a slice, a transpose) is recognised.

    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> macs_by_weight(net, torch.zeros(3, 4))
    {'0.weight': 96, '2.weight': 48}
    """
    args, kwargs = call_arguments(example, None, None)
    tape = capture(unwrap(model), args, kwargs)
    owners = _owners(tape)
    found: dict[str, int] = {}
    for node in tape.nodes:
        terms = node_macs(node, _sizes)
        names = [
            owners[id(v)]
            for v in flatten((node.args, node.kwargs))
            if isinstance(v, Value) and id(v) in owners and len(v.shape) >= 2
        ]
        for i, (coefficient, axes) in enumerate(terms):
            amount = coefficient
            for axis in axes:
                amount *= axis.size
            # One term a weight (recurrent layers), or one weight in all.
            name = names[i] if i < len(names) else ""
            found[name] = found.get(name, 0) + amount
    return found


def _sizes(value: Value) -> list[Axis]:
    return [Fixed(n) for n in value.shape]


def _owners(tape: Tape) -> dict[int, str]:
    owners = {id(v): name for name, v in tape.parameters.items() if v.origin == "parameter"}
    for node in tape.nodes:
        source = node.args[0] if node.args else None
        if node.op.is_view and isinstance(source, Value) and id(source) in owners:
            owners.update((id(v), owners[id(source)]) for v in node.outputs)
    return owners


def sparse_macs(macs: Mapping[str, int], masks: Masks | None) -> float:
    """Multiply-adds that are left when masked weights are not multiplied.

    >>> sparse_macs({"a": 10, "": 4}, Masks({"a": torch.tensor([True, False])}))
    9.0
    """
    densities = masks.densities() if masks is not None else {}
    return float(sum(n * densities.get(name, 1.0) for name, n in macs.items()))


def size(model: nn.Module, masks: Masks | None) -> int:
    """Parameters that must be stored: all but those that a mask holds at zero."""
    total = sum(p.numel() for p in model.parameters())
    return total if masks is None else total - (masks.total - masks.kept)


def density_for(model: nn.Module, compression: float, protect: tuple[str, ...] = ()) -> float:
    """Share of the prunable weights to keep, so that the whole network is `compression` smaller.

    f = (N_total / c - N_fixed) / N_prunable

    Raises:
        PruneError: what cannot be pruned is already larger than the budget.

    >>> density_for(nn.Linear(9, 10), 2.0)  # (100 / 2 - 10) / 90
    0.4444444444444444
    """
    if compression < 1:
        raise PruneError(
            f"a compression ratio is original / new size, at least 1; got {compression}"
        )
    total = sum(p.numel() for p in unwrap(model).parameters())
    weights = sum(p.numel() for p in prunable(model, protect).values())
    keep = (total / compression - (total - weights)) / weights
    if keep <= 0:
        raise PruneError(
            f"{compression:g}x is out of reach: {total - weights:,} of {total:,} parameters cannot "
            f"be pruned. Largest possible: {total / max(total - weights, 1):.1f}x"
        )
    return min(keep, 1.0)


def stored_bytes(model: nn.Module, masks: Masks | None) -> int:
    """Bytes of all parameters and buffers; a masked one as bitmap and values where that is less."""
    total = 0
    shown = masks or {}
    for name, tensor in unwrap(model).state_dict().items():
        dense = tensor.numel() * tensor.element_size()
        if name in shown:
            kept = int(shown[name].sum())
            dense = min(dense, (tensor.numel() + 7) // 8 + kept * tensor.element_size())
        total += dense
    return total


def latencies(models: list[nn.Module], example: Any, turns: int = 20) -> list[float]:
    """Median seconds of a forward pass of each, timed in turns so that all meet the same noise."""
    args, kwargs = call_arguments(example, None, None)
    seconds: list[list[float]] = [[] for _ in models]
    flags = [{m: m.training for m in model.modules()} for model in models]
    try:
        with torch.inference_mode():
            for turn in range(turns + 3):
                for model, times in zip(models, seconds, strict=True):
                    model.eval()
                    start = time.perf_counter()
                    model(*args, **kwargs)
                    if turn >= 3:  # the first passes warm up caches and the allocator
                        times.append(time.perf_counter() - start)
    finally:
        for kept in flags:
            for module, flag in kept.items():
                module.training = flag
    return [statistics.median(times) for times in seconds]
