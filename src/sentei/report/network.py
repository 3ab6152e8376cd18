"""A network as plain data: its layers in the order of execution, and which groups cut them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from sentei.graph.analysis import Analysis
from sentei.graph.axis import Dim, dims, resolve, width
from sentei.graph.capture import unwrap
from sentei.graph.cost import node_macs
from sentei.graph.groups import Groups
from sentei.graph.tape import Value, flatten

__all__ = ["describe", "layer_seconds"]


def describe(groups: Groups, widths: Mapping[str, int] | None = None) -> dict[str, Any]:
    """What a page needs to draw a network before and after.

    Args:
        widths: group name -> units kept; all of the others.
    Returns:
        {"layers": [{"name", "kind", "parameters": [{"name", "shape", "after", "groups": [[…], …]}],
        "params": [before, after], "macs": [before, after]}], "other_macs": [before, after]}
        in the order of execution; `groups` has a list of group names for each dimension, pinned
        ones among them.
        `other_macs` are products of activations that belong to no layer with parameters.

    >>> from sentei.graph.groups import analyze
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> made = describe(analyze(net, torch.zeros(1, 4)), {"0": 6})
    >>> [(layer["name"], layer["params"], layer["macs"]) for layer in made["layers"]]
    [('0', [40, 30], [32, 24]), ('2', [18, 14], [16, 12])]
    >>> made["layers"][1]["parameters"][0]["groups"]
    [['2'], ['0']]
    """
    analysis = groups.analysis
    by_dim = {groups[name].dim: n for name, n in (widths or {}).items()}

    def kept(dim: Dim) -> int:
        return by_dim.get(dim, dim.size)

    layers: dict[str, dict[str, Any]] = {}
    for name in _executed(analysis):
        module, _, own = name.rpartition(".")
        layer = layers.setdefault(
            module, {"name": module, "parameters": [], "params": [0, 0], "macs": [0, 0]}
        )
        axes = [resolve(axis) for axis in analysis.parameters[name]]
        before, after = ([width(a, count) for a in axes] for count in (_whole, kept))
        names = [
            [groups.by_dim[d].name for d in dict.fromkeys(dims(a)) if d in groups.by_dim]
            for a in axes
        ]
        layer["parameters"].append({"name": own, "shape": before, "after": after, "groups": names})
        layer["params"][0] += _product(before)
        layer["params"][1] += _product(after)
    other = [0, 0]
    for node in analysis.tapes[0].nodes:
        terms = node_macs(node, analysis.axes)
        if not terms:
            continue
        named = [
            v.name
            for v in flatten((node.args, node.kwargs))
            if isinstance(v, Value) and v.origin == "parameter"
        ]
        owner = named[0].rpartition(".")[0] if named else node.module
        target = layers[owner]["macs"] if owner in layers else other
        for coefficient, axes in terms:
            for i, count in enumerate((_whole, kept)):
                target[i] += coefficient * _product([width(a, count) for a in axes])
    return {"layers": list(layers.values()), "other_macs": other}


def _whole(dim: Dim) -> int:
    return dim.size


def _product(sizes: list[int]) -> int:
    out = 1
    for size in sizes:
        out *= size
    return out


def _executed(analysis: Analysis) -> list[str]:
    """Parameters in the order in which the forward pass first uses them, unused ones last."""
    known = [n for n, origin in analysis.origins.items() if origin == "parameter"]
    seen: dict[str, None] = {}
    for node in analysis.tapes[0].nodes:
        for value in flatten((node.args, node.kwargs)):
            if isinstance(value, Value) and value.origin == "parameter" and value.name in known:
                seen.setdefault(value.name)
    return [*seen, *(n for n in known if n not in seen)]


def layer_seconds(
    models: list[nn.Module], call: tuple[tuple[Any, ...], Mapping[str, Any]], turns: int = 10
) -> list[dict[str, float]]:
    """Median seconds of one forward pass spent in each leaf module, models timed in turns.

    The clock around each module costs a little itself, so the sum is above the time of the whole.
    """
    spent: list[dict[str, list[float]]] = [{} for _ in models]
    args, kwargs = call
    handles, flags = [], []
    try:
        for model, record in zip(models, spent, strict=True):
            flags.append({m: m.training for m in model.modules()})
            model.eval()
            for name, module in unwrap(model).named_modules():
                if not list(module.children()):
                    handles += _clock(module, record.setdefault(name, []))
        with torch.inference_mode():
            for turn in range(turns + 2):
                for model, record in zip(models, spent, strict=True):
                    if turn == 2:  # the first passes warm up
                        for times in record.values():
                            times.clear()
                    marks = {n: len(t) for n, t in record.items()}
                    model(*args, **kwargs)
                    for name, times in record.items():  # a module that ran twice counts once
                        times[marks[name] :] = [sum(times[marks[name] :])]
    finally:
        for handle in handles:
            handle.remove()
        for kept in flags:
            for module, flag in kept.items():
                module.training = flag
    return [{n: statistics.median(t) for n, t in record.items() if t} for record in spent]


def _clock(module: nn.Module, times: list[float]) -> list[Any]:
    began: list[float] = []

    def before(*_: Any) -> None:
        began.append(time.perf_counter())

    def after(*_: Any) -> None:
        times.append(time.perf_counter() - began.pop())

    return [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
