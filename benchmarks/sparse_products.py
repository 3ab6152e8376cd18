"""When do zeros save time? One matrix, several batches: `python -m benchmarks.sparse_products`.

Baidu's DeepBench measures operations, not models, and finds opposite verdicts for one matrix: 95 %
of zeros are worth a factor for one column, and a loss for 1,500. Here the same shape (7680 × 2560)
in PyTorch's CSR kernel, beside the dense product and that of half the rows.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

RESULTS = Path(__file__).parent / "results" / "sparse_products.json"
SHAPE = (7680, 2560)
SPARSITIES, BATCHES = (0.5, 0.9, 0.95, 0.99), (1, 32, 1500)


def seconds(products: dict[str, Callable[[], Tensor]], turns: int) -> dict[str, float]:
    """Medians, all taken in turns so that they meet the same noise; the first turn warms up."""
    times: dict[str, list[float]] = {name: [] for name in products}
    for turn in range(turns + 1):
        for name, product in products.items():
            start = time.perf_counter()
            product()
            if turn:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(t) for name, t in times.items()}


def measure(
    turns: int, shape: tuple[int, int] = SHAPE, batches: Sequence[int] = BATCHES
) -> list[dict[str, float]]:
    """For each batch: milliseconds of the dense product, and how many times faster the others."""
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(shape, generator=draw)
    chance = torch.rand(shape, generator=draw)
    # In pieces, since PyTorch says once a process that CSR is young.
    sparse = {s: weight.masked_fill(chance < s, 0.0).to_sparse_csr() for s in SPARSITIES}
    half = weight[: shape[0] // 2].clone()
    rows = []
    for batch in batches:
        x = torch.randn(shape[1], batch, generator=draw)
        products: dict[str, Callable[[], Tensor]] = {
            "dense": lambda x=x: weight @ x,
            "half the rows": lambda x=x: half @ x,
            **{f"csr {s:g}": lambda x=x, m=m: m @ x for s, m in sparse.items()},
        }
        found = seconds(products, turns)
        gain = {name: found["dense"] / t for name, t in found.items() if name != "dense"}
        rows.append({"batch": batch, "dense ms": 1e3 * found["dense"], **gain})
        print({n: round(v, 3) for n, v in rows[-1].items()}, flush=True)
    return rows


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=20)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    rows = measure(options.turns)
    last = rows[-1]
    record = {
        "command": f"python -m benchmarks.sparse_products --turns {options.turns}",
        "shape": list(SHAPE),
        "threads": 1,
        "device": platform.machine(),
        "versions": {"python": platform.python_version(), "torch": version("torch")},
        "rows": rows,
        "checks": {
            "half of the weights at random save no time on 1,500 columns": last["csr 0.5"] < 1,
            "half of the rows save 1.5 to 2.2 times there": 1.5 <= last["half the rows"] <= 2.2,
        },
    }
    RESULTS.write_text(json.dumps(record, indent=1) + "\n")
    print(record["checks"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
