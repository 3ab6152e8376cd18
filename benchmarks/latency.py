"""Is a network at half the MACs twice as fast? Measured, beside torch-pruning at the same MACs.

    python benchmarks/latency.py [--models resnet18 resnet50 mobilenet_v2 vit_tiny] [--threads 2]

For each network and share of the MACs, four pruned networks and the whole one run in turns, in an
order that changes every turn:

- ours: `sentei.prune(target=Target(macs=share), round_to="auto")`;
- ours/1: the same with widths as they come;
- peer, peer/8: torch-pruning's magnitude pruner, without and with `round_to=8`, its ratio found by
  bisection so that the MACs are the same or just below;
- ours=peer/8: ours once more, for the MACs that peer/8 came down to, which may be far below.

Two times are kept for every run: by the clock on the wall, and the processor time of all threads,
which does not count what other programs on the machine took. Of both, the fastest of all turns is
compared (`best`), and the ratios turn by turn are given with their spread. Waiting threads sleep
rather than spin, or processor time would count waiting. Weights are random: only shapes matter.
Results are added to `--out` network by network.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import random
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

ENVIRONMENT = {"GOMP_SPINCOUNT": "0", "OMP_WAIT_POLICY": "PASSIVE"}
if __name__ == "__main__" and any(os.environ.get(k) != v for k, v in ENVIRONMENT.items()):
    os.environ.update(ENVIRONMENT)  # read once, when OpenMP is loaded
    os.execv(sys.executable, [sys.executable, *sys.argv])

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

import sentei  # noqa: E402
from sentei.allocation.stopwatch import WallClock  # noqa: E402
from sentei.allocation.table import LatencyTable, machine  # noqa: E402

MODELS = ["resnet18", "resnet50", "mobilenet_v2", "vit_tiny"]
IMAGE = 224


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name == "vit_tiny":
        import timm

        return timm.create_model("vit_tiny_patch16_224").eval()
    import torchvision

    return torchvision.models.get_model(name).eval()


def macs(model: nn.Module, x: Tensor) -> int:
    return sentei.analyze(model, x, train=False).cost().macs


# -- the peer -------------------------------------------------------------------------------------
def peer(model: nn.Module, x: Tensor, limit: int, round_to: int | None) -> nn.Module:
    """torch-pruning at the largest ratio of widths that stays within `limit` MACs."""
    guess = 1 - (limit / macs(model, x)) ** 0.5
    low, high, best = max(0.0, guess - 0.15), min(0.95, guess + 0.25), None
    for _ in range(8):
        middle = (low + high) / 2
        pruned = _peer_at(copy.deepcopy(model), x, middle, round_to)
        if macs(pruned, x) <= limit:
            best, high = pruned, middle
        else:
            low = middle
    if best is None:
        raise RuntimeError(f"no ratio found for {limit} MACs")
    return best


def _peer_at(model: nn.Module, x: Tensor, ratio: float, round_to: int | None) -> nn.Module:
    import torch_pruning as tp

    heads, attention = {}, []
    for module in model.modules():
        if type(module).__name__ == "Attention" and hasattr(module, "qkv"):
            module.forward = _attend.__get__(module)
            heads[module.qkv] = module.num_heads
            attention.append(module)
    head = getattr(model, "fc", None) or getattr(model, "head", None) or model.classifier
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    pruner = tp.pruner.MagnitudePruner(
        model, x, importance=tp.importance.GroupMagnitudeImportance(p=2), pruning_ratio=ratio,
        ignored_layers=[*head.modules()], num_heads=heads, round_to=round_to,
    )  # fmt: skip
    pruner.step()
    for module in attention:
        module.num_heads = pruner.num_heads[module.qkv]
        module.head_dim = module.qkv.out_features // (3 * module.num_heads)
        module.scale = module.head_dim**-0.5
    return model.eval()


def _attend(self: Any, x: Tensor, *_: Any, **__: Any) -> Tensor:
    """timm's attention with the width of its values in place of the residual width."""
    batch, tokens, _ = x.shape
    qkv = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, self.head_dim)
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    x = torch.nn.functional.scaled_dot_product_attention(self.q_norm(q), self.k_norm(k), v)
    return self.proj_drop(self.proj(x.transpose(1, 2).reshape(batch, tokens, -1)))


# -- timing ---------------------------------------------------------------------------------------
def turns(
    models: dict[str, nn.Module], x: Tensor, seconds: float
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Wall and processor seconds of each model, by turn."""
    wall: dict[str, list[float]] = {name: [] for name in models}
    work: dict[str, list[float]] = {name: [] for name in models}
    order, draw = [*models], random.Random(0)
    with torch.inference_mode():
        for name in models:
            models[name](x)
        until = time.perf_counter() + seconds
        while time.perf_counter() < until or len(wall[order[0]]) < 10:
            draw.shuffle(order)
            for name in order:
                start, used = time.perf_counter(), time.process_time()
                models[name](x)
                work[name].append(time.process_time() - used)
                wall[name].append(time.perf_counter() - start)
    return wall, work


def spread(values: list[float]) -> dict[str, float]:
    q = statistics.quantiles(values, n=4)
    return {"quartile": q[0], "median": q[1], "upper quartile": q[2]}


def measure(name: str, share: float, batch: int, seconds: float, table: LatencyTable) -> Any:
    model, x = build(name), torch.randn(batch, 3, IMAGE, IMAGE)
    before = macs(model, x)
    target = sentei.Target(macs=share)
    # Weights are random: an even spread, as the peer's, is the fair one to compare.
    options = {"inplace": False, "allocation": "global", "normalise": "mean"}
    result = sentei.prune(model, x, target=target, round_to="auto", latency_table=table, **options)
    limit = result.after.macs  # the peer gets the same MACs, not the same target
    models: dict[str, nn.Module] = {"whole": model, "ours": result.model}
    models["ours/1"] = sentei.prune(model, x, target=sentei.Target(macs=limit), **options).model
    trouble = {}
    for arm, multiple in (("peer", None), ("peer/8", 8)):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                models[arm] = peer(model, x, limit, multiple)
        except Exception as error:
            trouble[arm] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    if "peer/8" in models:
        target = sentei.Target(macs=macs(models["peer/8"], x))
        models["ours=peer/8"] = sentei.prune(
            model, x, target=target, round_to="auto", latency_table=table, **options
        ).model
    load = os.getloadavg()[0]
    wall, work = turns(models, x, seconds)
    row: dict[str, Any] = {
        "model": name,
        "macs asked": share,
        "batch": batch,
        "threads": torch.get_num_threads(),
        "turns": len(wall["whole"]),
        "load of the machine": load,
        "predicted ms": 1e3 * result.timing.predicted,
        "whole": {
            "macs": before,
            "best ms": 1e3 * min(wall["whole"]),
            "best processor ms": 1e3 * min(work["whole"]),
        },
        "arms": {},
        "trouble": trouble,
    }
    for arm in models:
        if arm == "whole":
            continue
        left = macs(models[arm], x) / before
        row["arms"][arm] = {
            "macs": left,
            "best ms": 1e3 * min(wall[arm]),
            "best processor ms": 1e3 * min(work[arm]),
            "speed-up": min(wall["whole"]) / min(wall[arm]),
            "speed-up of work": min(work["whole"]) / min(work[arm]),
            "speed-up by turn": spread(_ratio(wall["whole"], wall[arm])),
            "speed-up of work by turn": spread(_ratio(work["whole"], work[arm])),
        }
    for arm, rival in (("ours", "peer"), ("ours=peer/8", "peer/8")):
        if arm in models and rival in models:
            row[f"{rival} over {arm}"] = {
                "best": min(work[rival]) / min(work[arm]),
                "by turn": spread(_ratio(work[rival], work[arm])),
            }
    return row


def _ratio(above: list[float], below: list[float]) -> list[float]:
    return [a / b for a, b in zip(above, below, strict=True)]


def show(rows: list[dict[str, Any]]) -> str:
    lines = [
        f"{'model':<14}{'threads':>8} {'arm':<12}{'MACs':>7}{'speed-up: wall, best':>22}"
        f"{'processor, best':>17}{'by turn (quartiles)':>26}{'x MAC ratio':>13}"
    ]
    for row in rows:
        for arm, r in row["arms"].items():
            turn = r["speed-up of work by turn"]
            lines.append(
                f"{row['model']:<14}{row['threads']:>8} {arm:<12}{r['macs']:>7.3f}"
                f"{r['speed-up']:>22.2f}{r['speed-up of work']:>17.2f}{turn['median']:>12.2f} "
                f"({turn['quartile']:.2f} to {turn['upper quartile']:.2f})"
                f"{r['speed-up of work'] * r['macs']:>13.2f}"
            )
    for threads in sorted({r["threads"] for r in rows}):
        own = [r["arms"] for r in rows if r["threads"] == threads]
        for arm in ("ours", "ours/1", "peer", "peer/8", "ours=peer/8"):
            arms = [a[arm] for a in own if arm in a]
            if arms:
                wall = statistics.median(a["speed-up"] * a["macs"] for a in arms)
                work = statistics.median(a["speed-up of work"] * a["macs"] for a in arms)
                lines.append(
                    f"{threads} threads, {arm}: speed-up over MAC ratio, median of {len(arms)}: "
                    f"wall {wall:.2f}, processor {work:.2f}; slowest speed-up "
                    f"{min(a['speed-up of work'] for a in arms):.2f}"
                )
        for rival in ("peer over ours", "peer/8 over ours=peer/8"):
            best = [r[rival]["best"] for r in rows if r["threads"] == threads and rival in r]
            turn = [
                r[rival]["by turn"]["median"]
                for r in rows
                if r["threads"] == threads and rival in r
            ]
            if best:
                lines.append(
                    f"{threads} threads, processor time of {rival}: best {min(best):.2f} to "
                    f"{max(best):.2f}, by turn {min(turn):.2f} to {max(turn):.2f}"
                )
    return "\n".join(lines)


def main(
    arguments: list[str] | None = None, stopwatch: Callable[..., Any] = WallClock
) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description="time pruned networks")
    parser.add_argument("--models", nargs="*", default=MODELS)
    parser.add_argument("--shares", nargs="*", type=float, default=[0.5, 0.25])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60, help="of turns, for each point")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/latency.json"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    torch.set_num_interop_threads(1)
    results: dict[str, Any] = {"machine": machine(torch.device("cpu")), "rows": []}
    del results["machine"]["threads"]  # those of each row
    results["environment"] = ENVIRONMENT
    if options.out.exists():
        results = json.loads(options.out.read_text())
    table = LatencyTable("cpu", stopwatch=stopwatch())
    for name in options.models:
        for share in options.shares:
            key = (name, share, options.batch, options.threads)
            results["rows"] = [
                r
                for r in results["rows"]
                if (r["model"], r["macs asked"], r["batch"], r["threads"]) != key
            ]
            row = measure(name, share, options.batch, options.seconds, table)
            results["rows"].append(row)
            print(show([row]), *row["trouble"].items(), sep="\n", flush=True)
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(results, indent=1) + "\n")
    print(show(results["rows"]))
    return results


if __name__ == "__main__":
    main()
