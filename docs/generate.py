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
    parts = [engine(), zoo(), latency(), allocation(), streaming(), recovery(), masks(), zeros(),
             claims(), bench()]  # fmt: skip
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
        rows.append([r["card"], r["statement"], r["outcome"], "; ".join(failed), r.get("why", "")])
    counts = {o: sum(r["outcome"] == o for r in records)
              for o in ("reproduced", "partly", "not reproduced")}  # fmt: skip
    words = ", ".join(f"{n} {o}" for o, n in counts.items() if n)
    return (
        f"## What papers claim\n\n{len(records)} claims, run on small networks: {words}. "
        'Figures of each are on the <a href="map.html">map</a> and in '
        "`benchmarks/results/claims/`; `python -m benchmarks.claims --match CARD` runs one "
        "again.\n\n"
        + table(["card", "claim", "here", "what did not hold", "why, as far as is known"], rows)
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
            points = []
            for ratio in ratios:
                every = [r["rows"].get(label) for r in here if r["ratio"] == ratio]
                found = [f for f in every if f]
                if not found or any("failed" in f for f in found):
                    points.append("failed" if found else "not run")
                    continue
                before, after = (
                    statistics.fmean(100 * f[k] for f in found) for k in ("before", "after")
                )
                fewer = f" ({len(found)} seeds)" if len(found) < len(every) else ""
                points.append(f"{before:.1f} → {after:.1f}{fewer}")
            rows.append([label, *points])
        dense = statistics.fmean(100 * r["dense"]["accuracy"] for r in here)
        seeds = sorted({r["seed"] for r in here})
        parts.append(f"### {name}: unpruned {dense:.1f}; seeds {seeds}")
        parts.append(table(["recovery", *(f"{1 / r:g}x fewer MACs" for r in ratios)], rows))
    from benchmarks.recovery import AGAINST, COMPARED, OURS, against, cells

    parts.append("### Ours against the peer, seed by seed")
    parts.append(
        f'"{OURS}" is what we recommend, everywhere the same. Beside it stands the criterion of '
        "torch-pruning that came out best at that point, chosen with hindsight before and after "
        "fine-tuning. The difference is the mean over seeds with its 95 % confidence interval "
        '(Student\'s t), in points; it is "within noise" where that interval holds zero. In the '
        "tables after it our ranking, and then everything of ours, is chosen with hindsight, too."
    )
    for title, ours in COMPARED.items():
        parts.append(f"{title}:")
        parts.append(table(list(AGAINST), [cells(a) for a in against(records, ours)]))
    return "\n\n".join(parts)


def one(name: str) -> dict[str, Any]:
    path = RESULTS / name
    return json.loads(path.read_text()) if path.exists() else {}


def engine() -> str:
    found = one("engine.json")
    if not found:
        return ""
    rows = []
    for m in found["models"]:
        peer = m.get("peer / ours")
        if peer and "median" in peer:
            behind = f"{peer['median']:.1f} ({peer['min']:.1f} to {peer['max']:.1f})"
        elif peer:
            behind = f"more than {min(peer.values()):.0f} (not finished)"
        else:
            behind = m.get("peer error", "not measured")
        ms = {
            k: f"{1e3 * m['seconds'][k]['median']:.0f}" for k in ("forward", "capture", "analysis")
        }
        rows.append([m["model"], ms["forward"], ms["capture"], ms["analysis"],
                     f"{m['ours / forward']['median']:.2f}", behind,
                     f"{m['scores / squares']['median']:.1f}"])  # fmt: skip
    llama = found.get("llama", {})
    text = (
        "## The engine beside a forward pass and torch-pruning\n\nMilliseconds at 224², "
        f"{found['threads']} thread(s). `{found['command']}`\n\n"
        + table(["model", "forward", "capture", "analysis", "ours / forward",
                 "torch-pruning / ours", "scores / squares of the weights"], rows)
    )  # fmt: skip
    if llama:
        text += (
            f"\n\nA Llama of {llama['parameters'] / 1e9:.1f} billion parameters without weights: "
            f"{llama['capture seconds']:.2f} s to capture, {llama['analysis seconds']:.2f} s to "
            f"analyse, {llama['resident GB']:.2f} GB resident at the end."
        )
    return text


def zoo() -> str:
    path = HOME / "zoo" / "results.json"
    if not path.exists():
        return ""
    found = json.loads(path.read_text())
    kinds = list(dict.fromkeys(["pass", *sorted(found["status"])]))
    rows = [
        [family, *(str(counts.get(kind, "")) for kind in kinds)]
        for family, counts in sorted(found["families"].items())
    ]
    text = (
        f"## The zoo\n\n{found['status']['pass']} of {found['networks']} networks pass every "
        "check: half of every group removed, equal to the silenced original (in float64 where the "
        "model's code allows it), saved, loaded, trained. `make zoo` runs it.\n\n"
        + table(["family", *kinds], rows)
    )
    missed = [[f"`{n}`", w["status"], w["why"]] for n, w in sorted(found["not passed"].items())]
    return text + ("\n\n" + table(["network", "status", "why"], missed) if missed else "")


def latency() -> str:
    found = one("latency.json")
    if not found:
        return ""
    arms = ("ours", "ours/depth", "ours/even", "peer", "ours=peer/8", "peer/8")
    rows = []
    for r in sorted(found["rows"], key=lambda r: (r["batch"], r["threads"])):
        cells = []
        for arm in arms:
            a = r["arms"].get(arm)
            cells.append(f"{a['speed-up']:.2f} at {a['macs']:.3f}" if a else "–")
        rows.append([r["model"], str(r["batch"]), f"{1 / r['macs asked']:g}x fewer", *cells])
    words = {"ours/depth": "layers and widths", "ours": "widths alone", "peer": "torch-pruning"}
    shares: dict[tuple[str, int], list[float]] = {}
    for r in found["rows"]:
        for arm in words.keys() & r["arms"].keys():
            share = r["arms"][arm]["speed-up"] * r["arms"][arm]["macs"]
            shares.setdefault((arm, r["batch"]), []).append(share)
    medians = [
        f"{words[arm]} {statistics.median(own):.2f} (batch {batch})"
        for (arm, batch), own in sorted(shares.items(), key=lambda kv: (kv[0][1], -len(kv[0][0])))
    ]
    return (
        "## Speed-up that is measured\n\nTime of the whole network over that of the pruned one, "
        "and the share of the multiply-adds that the pruned one has. The peer is torch-pruning "
        "without and with round_to=8; the latter ends well below the budget, and Sentei is given "
        "the same multiply-adds beside it. Two threads, nothing else running: `python "
        "benchmarks/latency.py` repeats it. Speed-up times share of the multiply-adds, in the "
        f"median: {', '.join(medians)}.\n\n"
        + table(
            [
                "model", "batch", "MACs", "Sentei, fastest", "with layers", "Sentei, global",
                "torch-pruning", "Sentei, as the next", "torch-pruning, round_to=8",
            ],
            rows,
        )
    )  # fmt: skip


def allocation() -> str:
    found = one("allocation.json")
    if not found:
        return ""
    grouped: dict[tuple[str, str], dict[str, list[float]]] = {}
    for r in found["rows"]:
        cell = grouped.setdefault((r["model"], r["allocation"]), {})
        cell.setdefault(r["macs"], []).append(100 * r["tuned accuracy"])
    shares = sorted({r["macs"] for r in found["rows"]}, key=lambda m: int(m.partition("/")[2]))
    rows = [
        [model, name, *(f"{statistics.fmean(cell[s]):.1f}" if s in cell else "–" for s in shares)]
        for (model, name), cell in sorted(grouped.items())
    ]
    return (
        "## How a budget is spread\n\nAccuracy on digits after a short fine-tuning, in points, "
        f"mean over seeds ({found['protocol']['seeds']}). `python benchmarks/allocation.py` runs "
        "it.\n\n" + table(["model", "allocation", *(f"{s} of the MACs" for s in shares)], rows)
    )


def streaming() -> str:
    found = one("streaming.json")
    if not found:
        return ""
    runs, ratios = found["runs"], found["seconds over copy"]
    first = runs[0]
    seconds = ", ".join(f"{run['seconds']:.1f}" for run in runs)
    return (
        "## Checkpoints on disk\n\n"
        f"A Llama of {first['read'] / 1e9:.2f} GB becomes one of {first['written'] / 1e9:.2f} GB "
        f"in {seconds} s, which is {statistics.median(ratios):.2f} times what a plain copy of the "
        f"folder takes ({min(ratios):.2f} to {max(ratios):.2f}), and takes at most "
        f"{max(run['memory'] for run in runs) / 1e6:.0f} MB of memory besides pages of the files. "
        f"`{found['command']}` repeats it."
    )


def masks() -> str:
    found = one("mask_overhead.json")
    if not found:
        return ""
    rows = [
        [r["model"], f"{r['weights']:,}",
         "{median:.3f} ({min:.3f} to {max:.3f})".format(**r["masked / dense"])]
        for r in found["rows"]
    ]  # fmt: skip
    return (
        "## What a mask costs\n\nTime of a training step that holds a mask over that of a dense "
        "one. "
        f"`{found['command']}`\n\n" + table(["network", "weights", "ratio"], rows)
    )


def zeros() -> str:
    found = one("sparse_products.json")
    if not found:
        return ""
    kinds = [k for k in found["rows"][0] if k not in ("batch", "dense ms")]
    rows = [
        [str(r["batch"]), f"{r['dense ms']:.1f}", *(f"{r[k]:.2f}" for k in kinds)]
        for r in found["rows"]
    ]
    held = "; ".join(f"{words}: {'yes' if so else 'no'}" for words, so in found["checks"].items())
    return (
        "## When zeros save time\n\nSpeed-up over the dense product of one matrix of "
        f"{' x '.join(map(str, found['shape']))}, by the share of zeros in PyTorch's CSR kernel "
        "and with half of the rows gone, for several numbers of columns, as Baidu's DeepBench "
        "asks. "
        f"One thread. {held}. `{found['command']}`\n\n"
        + table(["columns", "dense ms", *kinds], rows)
    )


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

    found: dict[tuple[str, str, str], Any] = {}  # baselines are in several benches
    for place in stores():
        for curve in curves(Store(place).records()):
            found.setdefault((curve.pair, curve.axis, curve.method), curve)
    write_map(
        HOME / "docs" / "map.html",
        claims=read_claims(RESULTS / "claims"),
        curves=list(found.values()),
    )


if __name__ == "__main__":
    main()
