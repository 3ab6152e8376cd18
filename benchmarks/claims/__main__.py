"""Measure claims, print what came, and keep it in benchmarks/results/claims."""

from __future__ import annotations

import argparse
import fnmatch
import json
import platform
import statistics
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.claims import Claim, load

RESULTS = Path(__file__).parents[1] / "results" / "claims"


def measure(claim: Claim, seeds: int) -> dict[str, Any]:
    """The record of a claim."""
    began = time.perf_counter()
    rows = [dict(claim.run(seed)) for seed in range(seeds)]
    figures = {
        name: {
            "mean": statistics.mean(r[name] for r in rows),
            "std": statistics.stdev(r[name] for r in rows) if seeds > 1 else 0.0,
            "values": [r[name] for r in rows],
        }
        for name in rows[0]
    }
    means = {name: f["mean"] for name, f in figures.items()}
    checks = {words: bool(check(means)) for words, check in claim.checks.items()}
    held = sum(checks.values())
    return {
        "card": claim.card,
        "statement": claim.statement,
        "paper": claim.paper,
        "outcome": "reproduced" if held == len(checks) else "partly" if held else "not reproduced",
        "checks": checks,
        "why": "" if held == len(checks) else claim.why,
        "figures": figures,
        "seeds": list(range(seeds)),
        "command": f"python -m benchmarks.claims --match {claim.card} --seeds {seeds}",
        "seconds": round(time.perf_counter() - began, 1),
        "versions": {
            "python": platform.python_version(),
            "torch": version("torch"),
            "scikit-learn": version("scikit-learn"),
        },
        "device": "cpu, one thread",
    }


def show(console: Console, record: dict[str, Any]) -> None:
    table = Table(title=f"{record['card']}: {record['statement']}", title_justify="left")
    table.add_column("figure")
    table.add_column("mean ± std", justify="right")
    for name, f in record["figures"].items():
        table.add_row(name, f"{f['mean']:.3g} ± {f['std']:.2g}")
    console.print(table)
    for words, held in record["checks"].items():
        console.print(f"  {'holds' if held else 'DOES NOT HOLD'}: {words}", highlight=False)
    if record["why"]:
        console.print(f"  {record['why']}", highlight=False)
    console.print(f"  {record['outcome']} ({record['seconds']} s)", highlight=False)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.claims", description=__doc__)
    parser.add_argument("--match", default="*", help="cards, as a glob")
    parser.add_argument("--seeds", type=int, help="by default as many as the claim speaks of")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)  # the same bits on every run
    claims = {n: c for n, c in sorted(load().items()) if fnmatch.fnmatch(n, options.match)}
    if not claims:
        print(f"no claim matches {options.match!r}; there are: {', '.join(sorted(load()))}")
        return 2
    console = Console()
    options.out.mkdir(parents=True, exist_ok=True)
    for name, claim in claims.items():
        record = measure(claim, options.seeds or claim.seeds)
        (options.out / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
        show(console, record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
