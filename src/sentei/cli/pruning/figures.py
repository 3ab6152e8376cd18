"""All figures of a run, from its journal: what `OUT/result.json` holds."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from typing import Any

import torch

import sentei
from sentei.allocation.table import machine
from sentei.cli.config import Config
from sentei.cli.folder import Facts, Run
from sentei.cli.opened import Opened
from sentei.cli.pruning.names import original, originals

__all__ = ["groups_of", "keeps_zeros", "layers_gone", "numbered", "removals", "result_of"]


def result_of(run: Run, opened: Opened) -> Facts:
    """All figures of a run whose stages are done."""
    stages, config, data = run.stages, run.config, opened.data
    removed, timed = removals(run), stages["time"]
    return {
        "format": "sentei-result",
        "version": 1,
        "model": str(opened.source),
        "data": None if data is None else data.name,
        "notes": list(opened.notes),
        "metric": None if data is None else {
            "name": data.metric.name,
            "higher_is_better": data.metric.higher_is_better,
            "percent": data.metric.percent,
        },
        "config": config.model_dump(),
        "asked": removed[-1]["asked"] if removed else {},
        "reached": removed[-1]["reached"] if removed else {},
        "baseline": stages.get("baseline"),
        "pruned": [stages[s] for s in numbered(stages, "pruned")],
        "final": stages.get("final"),
        "cost": _cost(removed, opened),
        "masks": {k: stages["method"][k] for k in ("weights", "kept", "params", "nonzeros")}
        if keeps_zeros(run) else None,
        "zeros": timed.get("zeros"),
        "latency": {k: timed[k] for k in ("before", "after", "threads")},
        "layer_seconds": timed["layers"],
        "network": timed["network"],
        "stored": stages["save"]["stored"],
        "groups": groups_of(run),
        "timing": [step["timing"] for step in removed],
        "pinned": removed[0]["pinned"] if removed else [],
        "held": {k: v for step in removed for k, v in step["held"].items()},
        "unrounded": [*{n: 0 for step in removed for n in step.get("unrounded", [])}],
        "layers": [step["layers"] for step in removed],
        "gone": layers_gone(run),
        "units": [step["units"] for step in removed],
        "verification": [step["verification"] for step in removed],
        "training": _trainings(stages),
        "seconds": time.time() - stages["start"]["began"],
        "machine": _machine(config),
    }  # fmt: skip


def keeps_zeros(run: Run) -> bool:
    """Whether a method set weights to zero and left every shape as it was."""
    return "removed" not in run.stages.get("method", {"removed": None})


def removals(run: Run) -> list[Facts]:
    """What each removal of units did, in order; see `facts_of`."""
    method = run.stages.get("method", {})
    if "removed" in method:
        return [method["removed"]]
    return [run.stages[s] for s in numbered(run.stages, "prune")]


def groups_of(run: Run) -> Facts:
    """group, as the unpruned model calls it -> its kind, and its width before the first removal and
    after the last."""
    groups: Facts = {}
    gone: list[str] = []
    for step in removals(run):
        gone += step.get("renumbering", ())
        for name, width in step["groups"].items():
            first = groups.setdefault(original(name, gone), dict(width))
            first["after"] = width["after"]
    return groups


def layers_gone(run: Run) -> list[str]:
    """The layers that were taken out, as the unpruned model calls them."""
    found: list[str] = []
    gone: list[str] = []
    for step in removals(run):
        more = step.get("renumbering", [])
        found += originals(step["layers"], more, gone)
        gone += more
    return found


def numbered(stages: Mapping[str, Any], head: str) -> list[str]:
    """The stages `head-1`, `head-2`, …, in order.

    >>> numbered({"prune-10": {}, "prune-9": {}, "pruned-9": {}}, "prune")
    ['prune-9', 'prune-10']
    """
    found = [s for s in stages if s.rpartition("-")[0] == head]
    return sorted(found, key=lambda s: int(s.rpartition("-")[2]))


def _cost(removed: list[Facts], opened: Opened) -> Facts:
    if removed:
        return {"before": removed[0]["before"], "after": removed[-1]["after"]}
    count = sum(p.numel() for p in opened.model.parameters())
    return {"before": {"params": count}, "after": {"params": count}}


def _trainings(stages: Mapping[str, Facts]) -> list[Facts]:
    """Each training with the losses of its epochs, in order."""
    own = [
        {"stage": name, "losses": stages[name]["losses"]}
        for name in ("train", *numbered(stages, "recover"))
        if name in stages
    ]
    by_method = stages.get("method", {}).get("losses", [])
    return own + [
        {"stage": f"training-{i}", "losses": losses} for i, losses in enumerate(by_method, 1)
    ]


def _machine(config: Config) -> Facts:
    return {
        "device": config.device,
        "threads": config.threads,
        "processes": config.processes,
        "precision": config.precision,
        "processor": machine(torch.device(config.device))["processor"],
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "sentei": sentei.__version__,
    }
