"""`python -m zoo`: prune every network of the zoo, each in a process of its own, and report."""

from __future__ import annotations

import argparse
import json
import multiprocessing as mp
import os
import subprocess
import sys
import time
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from rich.console import Console
from rich.progress import track
from rich.table import Table

from zoo.check import Outcome, check
from zoo.registry import Entry, load


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m zoo", description=__doc__)
    parser.add_argument("--match", default="*", help="names to run, as a glob (timm/*)")
    parser.add_argument("--family", default="*", help="families to run, as a glob")
    parser.add_argument("--limit", type=float, default=300, help="seconds for each network")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=Path("zoo-results.json"))
    options = parser.parse_args(argv)
    entries = load(options.match, options.family)
    if not entries:
        print(f"no network matches {options.match!r} in families {options.family!r}")
        return 2
    console = Console()
    outcomes: list[dict[str, Any]] = []
    for outcome in track(
        run(entries, options.jobs, options.limit, options.seed),
        description="zoo",
        total=len(entries),
        console=console,
    ):
        outcomes.append(outcome)
        _write(options.json, outcomes)  # an interrupted run keeps what it found
    _report(console, outcomes)
    return int(any(o["status"] == "wrong" for o in outcomes))


def run(entries: list[Entry], jobs: int, limit: float, seed: int) -> Any:
    """Outcomes as they come; a network that takes too long or dies is one, too."""
    context = mp.get_context("fork")  # the libraries are imported once, in the parent
    waiting = list(entries)
    running: list[tuple[Any, Any, Entry, float]] = []
    while waiting or running:
        while waiting and len(running) < jobs:
            entry = waiting.pop(0)
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=_child, args=(entry, seed, sender), daemon=True)
            process.start()
            sender.close()
            running.append((process, receiver, entry, time.monotonic()))
        for item in list(running):
            process, receiver, entry, start = item
            outcome: Outcome | None = None
            if receiver.poll(0.02):
                try:
                    outcome = Outcome(**json.loads(receiver.recv()))
                except EOFError:
                    process.join()
                    outcome = Outcome(
                        entry.name, entry.family, "error", f"process died ({process.exitcode})"
                    )
            elif time.monotonic() - start > limit:
                process.kill()
                outcome = Outcome(entry.name, entry.family, "timeout", f"more than {limit:.0f} s")
            if outcome is not None:
                process.join()
                running.remove(item)
                yield vars(outcome)


def _child(entry: Entry, seed: int, sender: Any) -> None:
    import torch

    torch.set_num_threads(1)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    sender.send(check(entry, seed).json())


@cache
def commit() -> str:
    """The commit that is checked out here, or nothing where git does not say."""
    words = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _write(path: Path, outcomes: list[dict[str, Any]]) -> None:
    import torch

    record = {
        "torch": torch.__version__,
        "commit": commit(),
        "networks": sorted(outcomes, key=lambda o: o["name"]),
    }
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(record, indent=1))
    temporary.replace(path)


def _report(console: Console, outcomes: list[dict[str, Any]]) -> None:
    table = Table(
        "network", "status", "groups", "parameters", "error", "detail", title="not passed"
    )
    for o in sorted(outcomes, key=lambda o: o["name"]):
        if o["status"] != "pass":
            table.add_row(
                o["name"], o["status"], str(o["groups"]), "{:,} → {:,}".format(*o["params"]),
                f"{o['error']:.0e}", o["detail"],
            )  # fmt: skip
    if table.row_count:
        console.print(table)
    families: dict[str, Counter[str]] = defaultdict(Counter)
    for o in outcomes:
        families[o["family"]][o["status"]] += 1
    kinds = ["pass", "refused", "failed", "wrong", "error", "timeout", "not built"]
    summary = Table("family", *kinds, "share", title="zoo")
    for family, counts in sorted(families.items()):
        total = sum(counts.values())
        summary.add_row(
            family, *(str(counts[k] or "") for k in kinds), f"{counts['pass'] / total:.1%}"
        )
    everything = sum(families.values(), Counter())
    summary.add_row(
        "all",
        *(str(everything[k] or "") for k in kinds),
        f"{everything['pass'] / len(outcomes):.1%}",
    )
    console.print(summary)


if __name__ == "__main__":
    raise SystemExit(main())
