"""Pages that are made from records: the evidence, and the map of methods. Run by `make docs`."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

HOME = Path(__file__).parents[1]
RESULTS = HOME / "benchmarks" / "results"
OUT = Path(__file__).parent / "_generated"
sys.path.insert(0, str(HOME))


def main() -> None:
    OUT.mkdir(exist_ok=True)
    parts = [claims(), recovery(), bench()]
    text = "\n\n".join(p for p in parts if p) or "No records yet: run `make bench`."
    (OUT / "evidence.md").write_text(text + "\n", encoding="utf-8")
    draw_map()


def read(folder: str) -> list[dict[str, Any]]:
    return [json.loads(p.read_text()) for p in sorted((RESULTS / folder).glob("*.json"))]


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in lines)


def claims() -> str:
    records = read("claims")
    if not records:
        return ""
    rows = []
    for r in records:
        failed = [words for words, held in r["checks"].items() if not held]
        rows.append([r["card"], r["statement"], r["outcome"], "; ".join(failed)])
    counts = {o: sum(r["outcome"] == o for r in records)
              for o in ("reproduced", "partly", "not reproduced")}  # fmt: skip
    words = ", ".join(f"{n} {o}" for o, n in counts.items() if n)
    return (
        f"## What papers claim\n\n{len(records)} claims, run on small networks: {words}. "
        'Figures of each are on the <a href="map.html">map</a> and in '
        "`benchmarks/results/claims/`; `python -m benchmarks.claims --match CARD` runs one "
        "again.\n\n" + table(["card", "claim", "here", "what did not hold"], rows)
    )


def recovery() -> str:
    records = read("recovery")
    if not records:
        return ""
    parts = ["## What each recovery gains"]
    parts.append(
        "Accuracy on the test set in points before → after fine-tuning, mean over seeds. The rows "
        "of torch-pruning are its own criteria at the same multiply-adds, with the same "
        "fine-tuning. `python -m benchmarks.recovery` runs it."
    )
    for name in sorted({r["task"] for r in records}):
        here = [r for r in records if r["task"] == name]
        ratios = sorted({r["ratio"] for r in here}, reverse=True)
        rows = []
        for label in dict.fromkeys(k for r in here for k in r["rows"]):
            cells = []
            for ratio in ratios:
                found = [r["rows"].get(label, {}) for r in here if r["ratio"] == ratio]
                if any("failed" in f or not f for f in found):
                    cells.append("failed")
                    continue
                before, after = (
                    statistics.fmean(100 * f[k] for f in found) for k in ("before", "after")
                )
                cells.append(f"{before:.1f} → {after:.1f}")
            rows.append([label, *cells])
        dense = statistics.fmean(100 * r["dense"]["accuracy"] for r in here)
        seeds = sorted({r["seed"] for r in here})
        parts.append(f"### {name}: unpruned {dense:.1f}; seeds {seeds}")
        parts.append(table(["recovery", *(f"{1 / r:g}x fewer MACs" for r in ratios)], rows))
    return "\n\n".join(parts)


def stores() -> list[Path]:
    """The benches whose records are kept."""
    return [p for p in sorted((RESULTS / "bench").glob("*")) if any((p / "runs").glob("*.json"))]


def bench() -> str:
    from sentei.bench import Store
    from sentei.bench.report import markdown, summarise

    parts = []
    for place in stores():
        head, _, rest = markdown(summarise(Store(place))).partition("\n")
        title = f"## Benchmark: {place.name}\n\n`sentei bench benchmarks/bench/{place.name}.yaml`\n"
        assert head == "# Benchmark"
        parts.append(title + rest.replace("\n## ", "\n### "))
    return "\n\n".join(parts)


def draw_map() -> None:
    from sentei.bench import Store
    from sentei.bench.curves import curves
    from sentei.report import write_map
    from sentei.report.map import read_claims

    found = [curve for place in stores() for curve in curves(Store(place).records())]
    write_map(HOME / "docs" / "map.html", claims=read_claims(RESULTS / "claims"), curves=found)


if __name__ == "__main__":
    main()
