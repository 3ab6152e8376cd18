"""How long the engine takes: capture and analysis, beside forward passes and torch-pruning.

Prints a table and writes JSON. Every quantity of a model is measured in turn, several times over,
so that a busy machine slows all of them alike; what is reported are ratios, each within one turn,
as median (min to max). The first turn warms up; what capture and analysis took in it is reported
by itself.

torch-pruning runs in a process of its own. Where it does not finish within `--limit` seconds, that
process is ended, and the limit stands for the time it takes: "more than".

On a busy machine `--clock cpu --threads 1` measures the processor's time instead of the wall's:
one thread that waits for nobody takes as long on an idle machine.

    python benchmarks/engine.py [--models swin_t vit_b_16] [--repeats 5] [--out results.json]
"""

from __future__ import annotations

import argparse
import json
import platform
import queue
import resource
import statistics
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sentei.criteria import Evidence, score
from sentei.graph.analysis import analyze_tapes
from sentei.graph.groups import Groups, captures

MODELS = ["densenet121", "swin_t", "vit_b_16", "maxvit_t"]
LLAMA = {
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
}


def build(name: str) -> tuple[nn.Module, torch.Tensor]:
    """A model of torchvision by its name, or "tiny"."""
    if name == "tiny":
        layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3)]
        return nn.Sequential(*layers).eval(), torch.randn(1, 3, 16, 16)
    import torchvision

    return torchvision.models.get_model(name).eval(), torch.randn(1, 3, 224, 224)


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
clock = time.perf_counter


def seconds(function: Callable[[], Any]) -> tuple[float, Any]:
    start = clock()
    result = function()
    return clock() - start, result


def forward(model: nn.Module, x: torch.Tensor) -> None:
    with torch.inference_mode():
        model(x)


def peer(name: str, seed: int) -> None:
    """torch-pruning's graph of a model, and all of its groups, once for every line of input.

    Prints one JSON object a stage. To be run in a process of its own.
    """
    import torch_pruning as tp

    warnings.simplefilter("ignore")
    torch.manual_seed(seed)
    model, x = build(name)
    for parameter in model.parameters():
        parameter.requires_grad_(True)  # it reads the autograd graph
    for _ in sys.stdin:
        print(json.dumps({"start": time.process_time()}), flush=True)
        try:
            built, graph = seconds(
                lambda: tp.DependencyGraph().build_dependency(model, example_inputs=x)
            )
            print(json.dumps({"graph": built}), flush=True)
            took, groups = seconds(
                lambda graph=graph: list(graph.get_all_groups([], [nn.Linear, nn.Conv2d]))
            )
            print(json.dumps({"groups": took, "found": len(groups)}), flush=True)
        except Exception as error:
            text = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            print(json.dumps({"error": text}), flush=True)


class Peer:
    """torch-pruning in a process of its own, turn by turn, until it fails or takes too long.

    trouble: what it raised; late: it did not finish, and at what it was then.
    """

    def __init__(self, name: str, seed: int, limit: float, kind: str) -> None:
        self.limit, self.kind = limit, kind
        self.spent = limit  # at least, in a turn that came to no end
        self.trouble = self.late = ""
        self.found = 0
        self.graph: list[float] = []
        command = [sys.executable, __file__, "--inside-peer", name, "--seed", str(seed)]
        command += ["--threads", str(torch.get_num_threads()), "--clock", kind]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.lines: queue.Queue[str] = queue.Queue()
        self.listener = threading.Thread(target=self._listen)
        self.listener.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(json.dumps({"error": "its process ended"}))

    def turn(self) -> float | None:
        """Seconds for graph and groups; None where there are none to be had."""
        if self.trouble or self.late:
            return None
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        started = self._stage("starting", 300)
        if started is None:
            return None
        self.start = started["start"]
        begun = time.perf_counter()
        graph = self._stage("building its graph", self.limit)
        if graph is None:
            return None
        self.graph.append(graph["graph"])
        groups = self._stage("collecting groups", self.limit - (time.perf_counter() - begun))
        if groups is None:
            return None
        self.found = groups["found"]
        return float(graph["graph"] + groups["groups"])

    def _stage(self, stage: str, limit: float) -> dict[str, Any] | None:
        try:
            answer: dict[str, Any] = json.loads(self.lines.get(timeout=max(0.0, limit)))
        except queue.Empty:
            self.late = stage
            before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
            self.close()
            if self.kind == "cpu" and stage != "starting":
                total = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
                self.spent = total - self.start
            return None
        self.trouble = answer.get("error", "")
        return None if self.trouble else answer

    def close(self) -> None:
        self.process.kill()
        self.listener.join()
        self.process.communicate()


def squares(model: nn.Module) -> float:
    with torch.no_grad():
        return sum(float(p.square().sum()) for p in model.parameters())


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def ratio(above: list[float], below: list[float]) -> dict[str, float]:
    return spread([a / b for a, b in zip(above, below, strict=True)])


def measure(name: str, repeats: int, seed: int, limit: float, kind: str) -> dict[str, Any]:
    """All rows of one model."""
    model, x = build(name)
    other = Peer(name, seed, limit, kind)
    times: dict[str, list[float]] = {
        key: [] for key in ("forward", "capture", "analysis", "peer", "scores", "squares")
    }
    first: dict[str, float] = {}
    for turn in range(repeats + 1):  # the first turn warms up
        now: dict[str, float] = {}
        now["forward"], _ = seconds(lambda: forward(model, x))
        now["capture"], tapes = seconds(lambda: captures(model, (x,), {}))
        now["analysis"], groups = seconds(lambda tapes=tapes: Groups(analyze_tapes(tapes)))
        theirs = other.turn()
        if theirs is not None:
            now["peer"] = theirs
        squares(model)  # so that both meet the weights, and the allocator, as warm as each other
        now["scores"], _ = seconds(
            lambda groups=groups: score("l2", groups.values(), Evidence.of(model, groups))
        )
        now["squares"], _ = seconds(lambda: squares(model))
        if not turn:
            first = now
        else:
            for key, value in now.items():
                times[key].append(value)
    other.close()
    ours = [a + b for a, b in zip(times["capture"], times["analysis"], strict=True)]
    row: dict[str, Any] = {
        "model": name,
        "seconds": {k: spread(v) for k, v in times.items() if v},
        "first call seconds": {k: first[k] for k in ("capture", "analysis")},
        "groups": len(groups),
        "ours / forward": ratio(ours, times["forward"]),
        "scores / squares": ratio(times["scores"], times["squares"]),
    }
    if other.trouble:
        row["peer error"] = other.trouble
    elif other.late:
        row["peer not finished"] = {
            "seconds so far": other.spent,
            "while": other.late,
            "graph seconds": other.graph,
        }
        row["peer / ours"] = {"more than": other.spent / max(ours)}
    else:
        row["peer groups"] = other.found
        row["peer / ours"] = ratio(times["peer"], ours)
    return row


def resident() -> float:
    """Resident memory of this process, in bytes; 0 where /proc does not tell."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0.0
    line = next(t for t in status.read_text().splitlines() if t.startswith("VmRSS"))
    return float(line.split()[1]) * 1024


def llama(layers: int) -> dict[str, Any]:
    """A Llama of 70 billion parameters without weights. To be run in a process of its own."""
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**{**LLAMA, "num_hidden_layers": layers})).eval()
    before = resident()
    tokens = {"input_ids": torch.ones(1, 16, dtype=torch.long), "use_cache": False}
    first, tapes = seconds(lambda: captures(model, (), tokens))
    second, groups = seconds(lambda: Groups(analyze_tapes(tapes)))
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "groups": len(groups),
        "capture seconds": first,
        "analysis seconds": second,
        "resident GB": resident() / 1e9,
        "resident GB before": before / 1e9,
    }


def llama_apart(layers: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--inside-llama", str(layers)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["no output"])[-1]}
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    out = {"python": platform.python_version()}
    for package in ("torch", "torchvision", "torch-pruning", "transformers"):
        try:
            out[package] = version(package)
        except PackageNotFoundError:
            out[package] = "absent"
    return out


def show(row: dict[str, Any]) -> str:
    def cell(key: str) -> str:
        r = row.get(key)
        if r is None:
            return "raises"
        if "more than" in r:
            return f"more than {r['more than']:.0f}"
        return f"{r['median']:.2f} ({r['min']:.2f} to {r['max']:.2f})"

    s = {k: f"{v['median'] * 1e3:.0f}" for k, v in row["seconds"].items()}
    if "peer not finished" in row:
        s["peer"] = f">{row['peer not finished']['seconds so far'] * 1e3:.0f}"
    return (
        f"{row['model']:<12} {s['forward']:>8} {s['capture']:>8} {s['analysis']:>9} "
        f"{s.get('peer', '-'):>7} {cell('ours / forward'):>22} {cell('peer / ours'):>24} "
        f"{cell('scores / squares'):>22}"
    )


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description="time the engine")
    parser.add_argument("--models", nargs="*", default=MODELS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--layers", type=int, default=80, help="of the Llama; 0 leaves it out")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/engine.json"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit", type=float, default=60, help="seconds a turn of the peer")
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall")
    parser.add_argument("--inside-peer", help=argparse.SUPPRESS)
    parser.add_argument("--inside-llama", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    global clock
    clock = CLOCKS[options.clock]
    before = torch.get_num_threads()
    torch.set_num_threads(options.threads)
    try:
        return run(options)
    finally:
        clock = time.perf_counter
        torch.set_num_threads(before)


def run(options: argparse.Namespace) -> dict[str, Any]:
    if options.inside_peer:
        peer(options.inside_peer, options.seed)
        return {}
    if options.inside_llama:
        print(json.dumps(llama(options.inside_llama)))
        return {}
    torch.manual_seed(options.seed)
    results: dict[str, Any] = {
        "command": "python benchmarks/engine.py "
        f"--models {' '.join(options.models)} --repeats {options.repeats} "
        f"--seed {options.seed} --layers {options.layers} --threads {options.threads} "
        f"--limit {options.limit:g} --clock {options.clock}",
        "seed": options.seed,
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "models": [],
    }
    print(*(f"{k}: {results[k]}" for k in ("command", "seed", "threads", "versions")), sep="\n")
    print(
        f"{'':<12} {'median milliseconds':^35} {'ratios: median (min to max)':^70}\n"
        f"{'model':<12} {'forward':>8} {'capture':>8} {'analysis':>9} {'peer':>7} "
        f"{'ours / forward':>22} {'peer / ours':>24} {'scores / squares':>22}"
    )
    for name in options.models:
        row = measure(name, options.repeats, options.seed, options.limit, options.clock)
        results["models"].append(row)
        print(show(row), flush=True)
        if "peer error" in row:
            print(f"{'':<12} torch-pruning raises {row['peer error']}")
        if "peer not finished" in row:
            late = row["peer not finished"]
            built = ", ".join(f"{t:.1f} s" for t in late["graph seconds"])
            print(
                f"{'':<12} torch-pruning did not finish in {late['seconds so far']:.1f} s: it was "
                f"{late['while']}" + (f" (graph built in {built})" if built else "")
            )
    if options.layers:
        results["llama"] = llama_apart(options.layers)
        print("llama on meta:", json.dumps(results["llama"]))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=2) + "\n")
    print(f"written to {options.out}")
    return results


if __name__ == "__main__":
    main()
