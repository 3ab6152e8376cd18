"""Is a network at half the MACs twice as fast? Measured, beside torch-pruning at the same MACs.

    python benchmarks/latency.py [--models resnet18 resnet50 mobilenet_v2 vit_tiny] [--batch 8]

For each network and share of the MACs, pruned networks and the whole one run in turns, in an order
that changes every turn:

- ours: `sentei.prune(target=Target(macs=share), allocation="fastest")`, of widths that this machine
  likes;
- ours/depth: the same with `depth=True`: whole layers and residual branches go, too;
- ours/even: the same with `allocation="global"`: all units are worth the same here;
- ours/1: as ours/even, with widths as they come;
- peer, peer/8: torch-pruning's magnitude pruner, without and with `round_to=8`, its ratio found by
  bisection so that the MACs are the same or just below;
- ours=peer/8: ours once more, for the MACs that peer/8 came down to, which may be far below.

`--clock wall` (the default) wants a machine with nothing else to do. `--clock processor` is for a
busy one: processor time of all threads, which does not count what other programs took; waiting
threads then sleep rather than spin, or waiting would count, and the wall clock is the worse for it.
The fastest of all turns is compared (`best`), and the ratios turn by turn are given with their
spread. Weights are random: only shapes matter. Results are added to `--out` network by network.
"""

from __future__ import annotations

import argparse
import copy
import itertools
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

SLEEPING = {"GOMP_SPINCOUNT": "0", "OMP_WAIT_POLICY": "PASSIVE"}
if (
    __name__ == "__main__"
    and "processor" in sys.argv
    and any(os.environ.get(k) != v for k, v in SLEEPING.items())
):
    os.environ.update(SLEEPING)  # read once, when OpenMP is loaded
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
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}


def turns(
    models: dict[str, nn.Module], x: Tensor, seconds: float, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Seconds of each model, by turn."""
    took: dict[str, list[float]] = {name: [] for name in models}
    order, draw = [*models], random.Random(0)
    with torch.inference_mode():
        for name in models:
            models[name](x)
        until = time.perf_counter() + seconds
        while time.perf_counter() < until or len(took[order[0]]) < 10:
            draw.shuffle(order)
            for name in order:
                start = clock()
                models[name](x)
                took[name].append(clock() - start)
    return took


def spread(values: list[float]) -> dict[str, float]:
    q = statistics.quantiles(values, n=4)
    return {"quartile": q[0], "median": q[1], "upper quartile": q[2]}


def measure(
    name: str, share: float, batch: int, seconds: float, table: LatencyTable, clock: str = "wall"
) -> Any:
    model, x = build(name), torch.randn(batch, 3, IMAGE, IMAGE)
    before = macs(model, x)
    # Weights are random: an average unit is worth 1 everywhere.
    options = {"inplace": False, "normalise": "mean"}
    timed = {**options, "allocation": "fastest", "latency_table": table}
    result = sentei.prune(model, x, target=sentei.Target(macs=share), **timed)
    limit = result.after.macs  # the peer gets the same MACs, not the same target
    within = sentei.Target(macs=limit)
    models: dict[str, nn.Module] = {"whole": model, "ours": result.model}
    models["ours/depth"] = sentei.prune(model, x, target=within, depth=True, **timed).model
    even = {**timed, "allocation": "global", "round_to": "auto"}
    models["ours/even"] = sentei.prune(model, x, target=within, **even).model
    models["ours/1"] = sentei.prune(model, x, target=within, **options).model
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
        models["ours=peer/8"] = sentei.prune(model, x, target=target, **timed).model
    load = os.getloadavg()[0]
    took = turns(models, x, seconds, CLOCKS[clock])
    row: dict[str, Any] = {
        "model": name,
        "macs asked": share,
        "batch": batch,
        "threads": torch.get_num_threads(),
        "clock": clock,
        "turns": len(took["whole"]),
        "load of the machine": load,
        "predicted ms": 1e3 * result.timing.predicted,
        "whole": {"macs": before, "best ms": 1e3 * min(took["whole"])},
        "arms": {},
        "trouble": trouble,
    }
    for arm in models:
        if arm == "whole":
            continue
        row["arms"][arm] = {
            "macs": macs(models[arm], x) / before,
            "best ms": 1e3 * min(took[arm]),
            "speed-up": min(took["whole"]) / min(took[arm]),
            "by turn": spread(_ratio(took["whole"], took[arm])),
        }
    for arm, rival in (("ours", "peer"), ("ours=peer/8", "peer/8")):
        if arm in models and rival in models:
            row[f"{rival} over {arm}"] = {
                "best": min(took[rival]) / min(took[arm]),
                "by turn": spread(_ratio(took[rival], took[arm])),
            }
    return row


def _ratio(above: list[float], below: list[float]) -> list[float]:
    return [a / b for a, b in zip(above, below, strict=True)]


def show(rows: list[dict[str, Any]]) -> str:
    lines = [
        f"{'model':<14}{'batch':>6}{'threads':>8} {'arm':<12}{'MACs':>7}{'speed-up: best':>16}"
        f"{'by turn (quartiles)':>22}{'x MAC ratio':>13}"
    ]
    for row in rows:
        for arm, r in row["arms"].items():
            turn = r["by turn"]
            lines.append(
                f"{row['model']:<14}{row['batch']:>6}{row['threads']:>8} {arm:<12}{r['macs']:>7.3f}"
                f"{r['speed-up']:>16.2f}{turn['median']:>8.2f} "
                f"({turn['quartile']:.2f} to {turn['upper quartile']:.2f})"
                f"{r['speed-up'] * r['macs']:>12.2f}"
            )
    for kind in dict.fromkeys((r["batch"], r["threads"], r["clock"]) for r in rows):
        own = [r for r in rows if (r["batch"], r["threads"], r["clock"]) == kind]
        lines.append("batch {}, {} threads, {} clock:".format(*kind))
        for arm in ("ours", "ours/depth", "ours/even", "ours/1", "peer", "peer/8", "ours=peer/8"):
            arms = [r["arms"][arm] for r in own if arm in r["arms"]]
            if arms:
                shares = statistics.median(a["speed-up"] * a["macs"] for a in arms)
                lines.append(
                    f"  {arm}: speed-up x MAC ratio, median of {len(arms)}: {shares:.2f}; "
                    f"least speed-up {min(a['speed-up'] for a in arms):.2f}"
                )
        for rival in ("peer over ours", "peer/8 over ours=peer/8"):
            best = [r[rival]["best"] for r in own if rival in r]
            turn = [r[rival]["by turn"]["median"] for r in own if rival in r]
            if best:
                lines.append(
                    f"  time of {rival}: median {statistics.median(best):.2f}, best {min(best):.2f}"
                    f" to {max(best):.2f}, by turn {min(turn):.2f} to {max(turn):.2f}"
                )
    return "\n".join(lines)


def main(
    arguments: list[str] | None = None, stopwatch: Callable[..., Any] = WallClock
) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description="time pruned networks")
    parser.add_argument("--models", nargs="*", default=MODELS)
    parser.add_argument("--shares", nargs="*", type=float, default=[0.5, 0.25])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, nargs="*", default=[1, 8])
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--seconds", type=float, default=30, help="of turns, for each point")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/latency.json"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    torch.set_num_interop_threads(1)
    results: dict[str, Any] = {"machine": machine(torch.device("cpu")), "rows": []}
    del results["machine"]["threads"]  # those of each row
    if options.out.exists():
        results = json.loads(options.out.read_text())
    table = LatencyTable("cpu", stopwatch=stopwatch())

    def key(row: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(row[k] for k in ("model", "macs asked", "batch", "threads", "clock"))

    for name, batch, share in itertools.product(options.models, options.batch, options.shares):
        row = measure(name, share, batch, options.seconds, table, options.clock)
        results["rows"] = [r for r in results["rows"] if key(r) != key(row)] + [row]
        print(show([row]), *row["trouble"].items(), sep="\n", flush=True)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(results, indent=1) + "\n")
    print(show(results["rows"]))
    return results


if __name__ == "__main__":
    main()
