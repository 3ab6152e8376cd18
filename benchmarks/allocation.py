"""Which allocation keeps most accuracy? Every one on the same networks, budgets and recovery.

    python benchmarks/allocation.py [--models resnet vit] [--seeds 0 1 2] [--targets 2 4 8]

For each network and seed: train on the digits, prune to 1/2, 1/4 and 1/8 of the MACs with every
allocation (criterion "l2", nothing else varied), measure test accuracy, fine-tune shortly, measure
again. Results are added to `--out` network by network, so an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

import sentei
from sentei.recovery.finetune import evaluate, finetune
from sentei.tasks.digits import digits
from sentei.tasks.models import digits_resnet, digits_vit

# How to build, learning rate and epochs.
MODELS: dict[str, tuple[Callable[[], nn.Module], float, int]] = {
    "resnet": (digits_resnet, 0.05, 20),
    "vit": (lambda: digits_vit(dim=32, depth=3), 0.05, 30),
    "tiny": (lambda: digits_resnet(8, (1,)), 0.05, 1),  # to try this file out
}
# What is compared: a name, and what `prune` is asked for. They differ in nothing else.
VARIANTS: dict[str, dict[str, Any]] = {
    "uniform": {"allocation": "uniform"},
    "local": {"allocation": "local"},
    "global": {"allocation": "global", "normalise": "none"},
    "global/mean": {"allocation": "global", "normalise": "mean"},
    "global/max": {"allocation": "global", "normalise": "max"},
    "global/norm": {"allocation": "global", "normalise": "norm"},
    "global/spread": {"allocation": "global", "normalise": "spread"},
    "global/lamp": {"allocation": "global", "normalise": "lamp"},
    "isomorphic": {"allocation": "isomorphic", "normalise": "none"},
    "isomorphic/mean": {"allocation": "isomorphic", "normalise": "mean"},
    "knapsack": {"allocation": "knapsack", "normalise": "none"},
    "knapsack/mean": {"allocation": "knapsack", "normalise": "mean"},
    "sensitivity": {"allocation": "sensitivity"},
}
TUNE_EPOCHS = 4


def run(model: str, seed: int, targets: list[int], variants: list[str]) -> list[dict[str, Any]]:
    """All rows of one network."""
    data = digits()
    build, lr, epochs = MODELS[model]
    torch.manual_seed(seed)
    net = finetune(build(), data.train, epochs, lr, seed=seed, progress=False)
    whole = evaluate(net, data.test)
    rows = []
    for times in targets:
        for name in variants:
            result = sentei.prune(
                net,
                data.example,
                target=sentei.Target(macs=1 / times),
                data=data.train,
                loss=F.cross_entropy,
                inplace=False,
                min_fraction=0.05,
                **VARIANTS[name],
            )
            before = evaluate(result.model, data.test)
            tuned = copy.deepcopy(result.model)
            finetune(tuned, data.train, TUNE_EPOCHS, lr / 2, seed=seed, progress=False)
            after = evaluate(tuned, data.test)
            rows.append(
                {
                    "model": model,
                    "seed": seed,
                    "macs": f"1/{times}",
                    "allocation": name,
                    "whole accuracy": whole.accuracy,
                    "pruned accuracy": before.accuracy,
                    "pruned loss": before.loss,
                    "tuned accuracy": after.accuracy,
                    "tuned loss": after.loss,
                    "params": result.after.params / result.before.params,
                    "reached": result.after.macs / result.before.macs,
                }
            )
            print(
                f"{model} {seed} 1/{times} {name:<16} pruned {before.accuracy:.4f} "
                f"tuned {after.accuracy:.4f} (loss {after.loss:.4f})",
                flush=True,
            )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Mean and spread over seeds, and the mean rank over all networks and budgets."""
    points = sorted({(r["model"], r["macs"]) for r in rows})
    names = list(dict.fromkeys(r["allocation"] for r in rows))
    lines = [f"{'allocation':<16}" + "".join(f"{m} {t:<13}" for m, t in points) + "mean rank"]
    ranks: dict[str, list[float]] = {name: [] for name in names}
    cells: dict[str, list[str]] = {name: [] for name in names}
    for model, macs in points:
        found = {
            name: [
                (r["pruned accuracy"], r["tuned accuracy"], r["tuned loss"])
                for r in rows
                if (r["model"], r["macs"], r["allocation"]) == (model, macs, name)
            ]
            for name in names
        }
        loss = {name: statistics.mean(f[2] for f in own) for name, own in found.items() if own}
        order = sorted(loss, key=lambda n: loss[n])
        for name, own in found.items():
            if not own:
                cells[name].append("-")
                continue
            before = statistics.mean(f[0] for f in own)
            after = [f[1] for f in own]
            spread = statistics.pstdev(after)
            cells[name].append(
                f"{100 * before:4.1f}>{100 * statistics.mean(after):4.1f}±{100 * spread:.1f}"
            )
            ranks[name].append(order.index(name) + 1)
    for name in names:
        lines.append(
            f"{name:<16}" + "".join(f"{c:<18}" for c in cells[name])
            + f"{statistics.mean(ranks[name]):.2f}"
        )  # fmt: skip
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description="compare allocations")
    parser.add_argument("--models", nargs="*", default=["resnet", "vit"])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--targets", nargs="*", type=int, default=[2, 4, 8])
    parser.add_argument("--variants", nargs="*", default=[*VARIANTS])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/allocation.json"))
    options = parser.parse_args(arguments)
    results: dict[str, Any] = {
        "protocol": {
            "task": "digits",
            "criterion": "l2",
            "epochs": {name: epochs for name, (_, _, epochs) in MODELS.items()},
            "fine-tuning epochs": TUNE_EPOCHS,
        },
        "torch": torch.__version__,
        "rows": [],
    }
    if options.out.exists():
        results = json.loads(options.out.read_text())
    done = {(r["model"], r["seed"], r["macs"], r["allocation"]) for r in results["rows"]}
    for model in options.models:
        for seed in options.seeds:
            todo = [
                name
                for name in options.variants
                if any((model, seed, f"1/{t}", name) not in done for t in options.targets)
            ]
            if todo:
                results["rows"] += run(model, seed, options.targets, todo)
                options.out.parent.mkdir(parents=True, exist_ok=True)
                options.out.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results["rows"]))
    return results


if __name__ == "__main__":
    main()
