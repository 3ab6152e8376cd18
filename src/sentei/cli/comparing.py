"""`sentei report` and `sentei compare`: the figures of finished runs, for people."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Group as Lines
from rich.table import Table

from sentei.cli import show
from sentei.cli.folder import Facts, read_result
from sentei.cli.rounding import unrounded_words

__all__ = ["compare", "comparison", "report", "summary", "timed"]


_MUCH = 0.1
"""A loss of accuracy that is not left without a word."""


def report(folder: str | os.PathLike[str]) -> tuple[Facts, Path]:
    """The figures of a finished run, and its page, written anew.

    Raises:
        PruneError: there is no finished run in the folder.
    """
    from sentei.report import write

    result = read_result(folder)
    return result, write(folder)


def compare(folders: Sequence[str | os.PathLike[str]]) -> list[Facts]:
    """The figures of several finished runs.

    Raises:
        PruneError: one of them is not finished, or no run.
    """
    return [read_result(folder) for folder in folders]


def summary(result: Facts) -> Lines:
    """A run as a table: before, after, what is left."""
    rows: list[tuple[str, str, str, str]] = []
    metric = result["metric"]
    if metric is not None:
        before, after = result["baseline"], result["final"]
        rows.append(
            (
                metric["name"],
                _metric(metric, before["value"]),
                _metric(metric, after["value"]),
                _change(metric, before["value"], after["value"]),
            )
        )
    old, new, asked = result["cost"]["before"], result["cost"]["after"], result["asked"]
    for name, label in _COSTS.items():
        if name in old and name in new:
            rows.append(
                (
                    label,
                    show.amount(name, old[name]),
                    show.amount(name, new[name]),
                    show.percent(new[name], old[name]),
                )
            )
    masks = result["masks"]
    if masks is not None:
        rows.append(
            (
                "prunable weights",
                f"{masks['weights']:,}",
                f"{masks['kept']:,} not zero",
                show.percent(masks["kept"], masks["weights"]),
            )
        )
    time = result["latency"]
    rows.append(
        (
            "forward pass",
            show.seconds(time["before"]),
            show.seconds(time["after"]),
            show.percent(time["after"], time["before"]),
        )
    )
    if "bytes" not in old:  # else both are of the tensors, without the names in a file
        rows.append(("stored", "", show.amount("stored", result["stored"]), ""))
    made = show.table(("", "before", "after", "left"), rows, right=(1, 2, 3))
    lines: list[Any] = [made]
    if asked:
        lines.append(
            "asked for: "
            + ", ".join(f"{n} at most {show.amount(n, v)}" for n, v in asked.items())
            + "; reached: "
            + ", ".join(f"{n} {show.amount(n, v)}" for n, v in result["reached"].items())
        )
    times = [timing for timing in result.get("timing", ()) if timing is not None]
    lines += [timed(timing) for timing in times[-1:]]
    cut = sorted(
        (g for g in result["groups"].items() if g[1]["after"] < g[1]["before"]),
        key=lambda g: g[1]["after"] / g[1]["before"],
    )
    if cut:
        name, least = cut[0]
        lines.append(
            f"{len(cut)} of {len(result['groups'])} groups lost units, most of all "
            f"{show.elide(name, 30)}: {least['before']} → {least['after']} {least['kind']}"
        )
    if metric is not None and metric["percent"]:
        lost = result["baseline"]["value"] - result["final"]["value"]
        if (lost if metric["higher_is_better"] else -lost) > _MUCH:
            lines.append(
                f"More than {100 * _MUCH:.0f} points are lost. What helps: more --epochs, "
                "--rounds, --heal reconstruct, --distill, a larger target; `sentei sensitivity` "
                "shows which groups to --protect"
            )
    if narrow := result.get("unrounded"):
        lines.append(unrounded_words(narrow, len(cut), result["config"]["round_to"]))
    if masks is not None:
        lines.append(
            result.get("zeros")
            or "Zeros take as long as other numbers: a dense forward pass is not faster for them."
        )
    return Lines(*(show.escape(x) if isinstance(x, str) else x for x in lines))


def timed(timing: Facts) -> str:
    """What the planner foresaw, and what the clock said when units had gone."""
    return (
        f"forward pass by the planner: {show.seconds(timing['before'])} before, "
        f"{show.seconds(timing['predicted'])} predicted, {show.seconds(timing['after'])} measured"
    )


_COSTS = {
    "params": "parameters", "macs": "MACs", "memory": "peak memory", "bytes": "stored",
}  # fmt: skip


def comparison(folders: Sequence[str | os.PathLike[str]], results: Sequence[Facts]) -> Table:
    """A row for each run, in the order given."""
    rows = []
    names = _short_names([str(f) for f in folders])
    for name, result in zip(names, results, strict=True):
        metric, cost = result["metric"], result["cost"]
        config = result["config"]
        old, new = cost["before"], cost["after"]
        masks = result["masks"]
        left = new["params"] if masks is None else masks["nonzeros"]
        time = result["latency"]
        rows.append(
            (
                name,
                config["method"] or f"{config['criterion']}, {config['allocation']}",
                "" if metric is None else _metric(metric, result["baseline"]["value"]),
                "" if metric is None else _metric(metric, result["final"]["value"]),
                show.percent(left, old["params"]),
                show.percent(new["macs"], old["macs"]) if "macs" in old else "100.0 %",
                f"{time['before'] / time['after']:.2f}×",
            )
        )
    metrics = {r["metric"]["name"] for r in results if r["metric"] is not None}
    head = (
        "run", "how", "before", metrics.pop() if len(metrics) == 1 else "after", "weights",
        "MACs", "faster",
    )  # fmt: skip
    return show.table(head, rows, right=(2, 3, 4, 5, 6), names=(0, 1))


def _short_names(folders: Sequence[str]) -> list[str]:
    """Without what they all begin with."""
    common = os.path.commonpath(folders) if len(folders) > 1 else os.path.dirname(folders[0])
    return [os.path.relpath(f, common) if common else f for f in folders]


def _metric(metric: Facts, value: float) -> str:
    return f"{100 * value:.2f} %" if metric["percent"] else f"{value:.4g}"


def _change(metric: Facts, before: float, after: float) -> str:
    if metric["percent"]:
        return f"{100 * (after - before):+.2f} points"
    return f"{after - before:+.3g}"
