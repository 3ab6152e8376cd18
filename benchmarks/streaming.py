"""A checkpoint pruned on disk: how fast beside a plain copy of it, and in how much memory?

    python benchmarks/streaming.py [--gigabytes 4] [--repeats 3]

A Llama of that size is made of random bfloat16 weights, file by file. Then, in turns: the folder is
copied, file by file through 8 MiB of memory, and synced; and it is pruned to `--share` of its
parameters by `sentei.prune_checkpoint`. Memory is what the process itself holds (not pages of files
that the system may drop at any moment), above what it held before, sampled after every tensor.
Results go to `--out`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import torch

import sentei
from sentei.storage.shards import INDEX, Form, write_shard

HIDDEN, INNER = 2048, 5632


def make(folder: Path, gigabytes: float) -> None:
    """A Llama of about that size, one layer a file."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from sentei.graph.blueprint import blueprint

    per_layer = 2 * (4 * HIDDEN**2 + 3 * HIDDEN * INNER + 2 * HIDDEN)
    config = LlamaConfig(
        vocab_size=32_000, hidden_size=HIDDEN, intermediate_size=INNER, num_attention_heads=16,
        num_hidden_layers=max(1, round(gigabytes * 1e9 / per_layer)), dtype="bfloat16",
    )  # fmt: skip
    net = blueprint(LlamaForCausalLM, config)
    folder.mkdir(parents=True)
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(folder)
    files: dict[str, dict[str, Form]] = {}
    for name, tensor in net.state_dict().items():
        layer = name.split(".")[2] if ".layers." in name else "ends"
        form = Form(tuple(tensor.shape), torch.bfloat16)
        files.setdefault(f"model-{layer}.safetensors", {})[name] = form
    generator = torch.Generator().manual_seed(0)
    for file, forms in files.items():
        write_shard(
            folder / file, forms,
            lambda name, forms=forms: torch.randn(
                forms[name].shape, generator=generator
            ).bfloat16().mul_(0.02),
        )  # fmt: skip
    weight_map = {name: file for file, forms in files.items() for name in forms}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def copy(whole: Path, to: Path) -> float:
    start = time.perf_counter()
    to.mkdir()
    for file in whole.iterdir():
        with open(file, "rb") as source, open(to / file.name, "wb") as target:
            shutil.copyfileobj(source, target, 8 << 20)
            target.flush()
            os.fsync(target.fileno())
    return time.perf_counter() - start


def held() -> int:
    """Bytes of memory that are the process's own."""
    memory = psutil.Process().memory_info()
    return int(memory.rss - memory.shared)


def prune(whole: Path, to: Path, share: float) -> dict[str, Any]:
    before = most = held()

    def wrote(count: int, total: int) -> None:
        nonlocal most
        most = max(most, held())

    start = time.perf_counter()
    done = sentei.prune_checkpoint(
        f"hf:{whole}", to, target=sentei.Target(params=share), wrote=wrote
    )
    return {
        "seconds": time.perf_counter() - start,
        "stages": done.result.seconds,
        "read": done.read,
        "written": done.written,
        "memory": most - before,
        "params": [done.result.before.params, done.result.after.params],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=4)
    parser.add_argument("--share", type=float, default=0.7)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/streaming.json"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as home:
        whole = Path(home, "whole")
        make(whole, options.gigabytes)
        copies, runs = [], []
        for turn in range(options.repeats):
            copies.append(copy(whole, Path(home, f"copy{turn}")))
            shutil.rmtree(Path(home, f"copy{turn}"))
            runs.append(prune(whole, Path(home, f"small{turn}"), options.share))
            shutil.rmtree(Path(home, f"small{turn}"))
    ratios = [r["seconds"] / c for r, c in zip(runs, copies, strict=True)]
    record = {
        "command": f"python benchmarks/streaming.py --gigabytes {options.gigabytes:g}",
        "torch": torch.__version__,
        "threads": options.threads,
        "copy seconds": copies,
        "runs": runs,
        "seconds over copy": ratios,
    }
    options.out.write_text(json.dumps(record, indent=1) + "\n")
    first = runs[0]
    print(
        f"{first['read'] / 1e9:.2f} GB read, {first['written'] / 1e9:.2f} GB written; seconds: "
        + ", ".join(f"{r['seconds']:.1f}" for r in runs)
        + f"; over those of a copy: {statistics.median(ratios):.2f} ({min(ratios):.2f} to "
        f"{max(ratios):.2f}); memory: {max(r['memory'] for r in runs) / 1e6:.0f} MB"
    )


if __name__ == "__main__":
    main()
