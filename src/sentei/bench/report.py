"""A store of results on paper: curves, tables, ranks, findings; HTML, Markdown, JSON."""

from __future__ import annotations

import dataclasses
import html
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sentei.bench.curves import Curve, Point, curves, methods
from sentei.bench.findings import Finding, check
from sentei.bench.ranks import Ranking, rank
from sentei.bench.rules import Rule, rules
from sentei.bench.runs import DENSE
from sentei.bench.store import Store
from sentei.graph.errors import PruneError
from sentei.storage.atomic import write_file

__all__ = ["Summary", "summarise", "write_report"]


@dataclasses.dataclass(frozen=True)
class Summary:
    """All that a report shows, in plain values."""

    curves: tuple[Curve, ...]
    rankings: tuple[Ranking, ...]
    findings: tuple[Finding, ...]
    rules: tuple[Rule, ...]
    runs: int
    failures: tuple[tuple[str, str], ...]
    versions: dict[str, str]
    machine: dict[str, Any]


def summarise(store: Store) -> Summary:
    """Everything the records of a store say.

    Raises:
        PruneError: the store is empty, or mixes different trainings of one network.
    """
    records = store.records()
    if not records:
        raise PruneError(f"{store.folder} holds no results; run the bench first")
    try:
        found = curves(records)
    except ValueError as error:
        raise PruneError(str(error)) from error
    targets = sorted({p.target for c in found if c.method != DENSE for p in c.points})
    rankings = []
    for target in targets:
        try:
            rankings.append(rank(found, target))
        except PruneError:  # too few results at this target; the curves still show them
            continue
    failures = [
        (f"{f['run']['task']}/{f['run']['model']} {f['run']['method']} {f['run']['target']:g}x "
         f"seed {f['run']['seed']}", f["error"])
        for f in store.failures().values()
    ]  # fmt: skip
    return Summary(
        tuple(found),
        tuple(rankings),
        tuple(check(found)),
        tuple(rules(found)),
        len(records),
        tuple(sorted(failures)),
        dict(records[-1]["versions"]),
        dict(records[-1]["machine"]),
    )


def write_report(store: Store, folder: str | os.PathLike[str]) -> dict[str, Path]:
    """Write `report.json`, `report.md` and, where plotly is installed, `report.html`.

    The HTML holds all it needs and asks nobody for anything.

    Returns:
        what was written, by ending.
    """
    summary, home = summarise(store), Path(folder)
    out = {
        "json": write_file(home / "report.json", json.dumps(_plain(summary), indent=1) + "\n"),
        "md": write_file(home / "report.md", markdown(summary)),
    }
    try:
        page = page_of(summary)
    except ModuleNotFoundError:
        return out
    return out | {"html": write_file(home / "report.html", page)}


def _plain(summary: Summary) -> dict[str, Any]:
    made = dataclasses.asdict(summary)
    for ranking in made["rankings"]:
        ranking["wilcoxon"] = [[*pair, p] for pair, p in ranking["wilcoxon"].items()]
    return made


# -- words ---------------------------------------------------------------------------------------
def cell(point: Point | None) -> str:
    """Accuracy in points, mean ± sample standard deviation; and how small it came where that is
    more than 2 % beside what was asked."""
    if point is None:
        return "–"
    spread = f" ± {100 * point.accuracy_std:.1f}" if len(point.seeds) > 1 else " (one seed)"
    missed = abs(point.reached / point.target - 1) > 0.02 and point.target > 1
    return f"{100 * point.accuracy:.1f}{spread}" + (f" at {point.reached:.3g}x" if missed else "")


def tables(found: Sequence[Curve]) -> list[tuple[str, list[str], list[list[str]]]]:
    """(title, header, rows) for each network: accuracy by method and target."""
    out = []
    for key in sorted({(c.pair, c.axis) for c in found}):
        here = [c for c in found if (c.pair, c.axis) == key]
        targets = sorted({p.target for c in here if c.method != DENSE for p in c.points})
        controls = [p for c in here if c.method == DENSE for p in c.points]
        if not targets:
            continue
        rows = [[c.method, *(cell(c.at(t)) for t in targets)] for c in here if c.method != DENSE]
        last = {c.method: c.at(targets[-1]) for c in here}
        rows.sort(key=lambda row: -(last[row[0]].accuracy if last[row[0]] else 0.0))
        dense = f"; unpruned {cell(controls[0])}" if controls else ""
        seeds = sorted({s for c in here for p in c.points for s in p.seeds})
        title = f"{key[0]}, times smaller in {key[1]}{dense}; seeds {seeds}"
        out.append((title, ["method", *(f"{t:g}x" for t in targets)], rows))
    return out


def markdown(summary: Summary) -> str:
    """The report as Markdown."""
    lines = ["# Benchmark", "", _provenance(summary), ""]
    for title, header, rows in tables(summary.curves):
        lines += [f"## {title}", "", _row(header), _row(["---"] * len(header))]
        lines += [*map(_row, rows), ""]
    lines += ["## Ranks over networks", ""]
    for ranking in summary.rankings:
        lines += [f"- {_ranked(ranking)}"]
    lines += ["", "## Findings of the literature", "", _row(["", "finding", "here", "evidence"]),
              _row(["---"] * 4)]  # fmt: skip
    for f in summary.findings:
        lines.append(_row([f.id, f"{f.statement} ({f.source})", f.verdict, "; ".join(f.evidence)]))
    lines += ["", "## Checklist", "", _row(["", "rule", "holds", "found"]), _row(["---"] * 4)]
    for r in summary.rules:
        lines.append(_row([r.id, r.statement, "yes" if r.held else "no", r.found]))
    if summary.failures:
        lines += ["", "## Runs that gave no result", ""]
        lines += [f"- {name}: {why}" for name, why in summary.failures]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"


def _provenance(summary: Summary) -> str:
    versions = ", ".join(f"{n} {v}" for n, v in summary.versions.items())
    return (
        f"{summary.runs} runs, {len(methods(summary.curves))} methods. Accuracy on the test set in "
        f"points, mean ± sample standard deviation over seeds. {versions}; "
        f"{summary.machine.get('processor')}, {summary.machine.get('threads')} thread."
    )


def _ranked(ranking: Ranking) -> str:
    order = ", ".join(f"{m} {r:.1f}" for m, r in ranking.ranks.items())
    words = f"{ranking.target:g}x over {len(ranking.blocks)} networks: {order}."
    if ranking.friedman is not None and ranking.critical is not None:
        words += (
            f" Friedman p = {ranking.friedman:.3g}; ranks further apart than "
            f"{ranking.critical:.2f} differ (Nemenyi, 5 %)."
        )
    return words


# -- a page --------------------------------------------------------------------------------------
def page_of(summary: Summary) -> str:
    """The report as one HTML page, curves drawn by plotly, which is inside the page.

    Raises:
        ModuleNotFoundError: plotly is not installed.
    """
    from plotly.offline import get_plotlyjs

    pictures = []
    for i, (pair, axis) in enumerate(sorted({(c.pair, c.axis) for c in summary.curves})):
        here = [c for c in summary.curves if (c.pair, c.axis) == (pair, axis)]
        for by in ("compression", "speedup"):
            spec = json.dumps(_figure(here, by))
            words = "times smaller" if by == "compression" else "times fewer multiply-adds"
            pictures.append(
                f'<figure><div class="plot" id="plot-{i}-{by}" role="img" aria-label="Accuracy of '
                f'{html.escape(pair)} against {words}; the table below has the figures"></div>'
                f"<script>sentei('plot-{i}-{by}', {_script(spec)})</script></figure>"
            )
    parts = ["".join(pictures)]
    for title, header, rows in tables(summary.curves):
        parts.append(_table(title, header, rows))
    parts.append("<h2>Ranks over networks</h2><ul>")
    parts += [f"<li>{html.escape(_ranked(r))}</li>" for r in summary.rankings]
    parts.append("</ul>")
    parts.append(
        _table(
            "Findings of the literature",
            ["", "finding", "here", "evidence"],
            [[f.id, f"{f.statement} ({f.source})", f.verdict, "; ".join(f.evidence)]
             for f in summary.findings],
        )
    )  # fmt: skip
    parts.append(
        _table(
            "Checklist of Blalock et al. 2020",
            ["", "rule", "holds", "found"],
            [[r.id, r.statement, "yes" if r.held else "no", r.found] for r in summary.rules],
        )
    )
    if summary.failures:
        parts.append("<h2>Runs that gave no result</h2><ul>")
        parts += [f"<li>{html.escape(n)}: {html.escape(w)}</li>" for n, w in summary.failures]
        parts.append("</ul>")
    return _PAGE.format(
        plotly=get_plotlyjs(), provenance=html.escape(_provenance(summary)), body="".join(parts)
    )


def _figure(found: Sequence[Curve], by: str) -> dict[str, Any]:
    """One network's curves: accuracy against compression or theoretical speed-up."""
    traces: list[dict[str, Any]] = []
    control = next((p for c in found if c.method == DENSE for p in c.points), None)
    for i, curve in enumerate(c for c in found if c.method != DENSE):
        traces.append(
            {
                "name": curve.method,
                "mode": "lines+markers",
                "line": {
                    "color": _COLOURS[i % len(_COLOURS)],
                    "dash": _DASHES[i // len(_COLOURS) % 3],
                },
                "marker": {"symbol": i % 12},
                "x": [getattr(p, by) for p in curve.points],
                "y": [100 * p.accuracy for p in curve.points],
                "error_y": {"type": "data", "array": [100 * p.accuracy_std for p in curve.points]},
            }
        )
    axis = "times smaller (parameters)" if by == "compression" else "times fewer multiply-adds"
    layout: dict[str, Any] = {
        "title": {"text": found[0].pair},
        "xaxis": {"title": {"text": axis}, "type": "log", "dtick": 0.30103},
        "yaxis": {"title": {"text": "accuracy, %"}},
        "legend": {"font": {"size": 11}},
        "margin": {"t": 50, "r": 10},
    }
    if control is not None:
        layout["shapes"] = [
            {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 100 * control.accuracy,
             "y1": 100 * control.accuracy, "line": {"dash": "dot", "width": 1, "color": "#888"}}
        ]  # fmt: skip
        layout["annotations"] = [
            {"xref": "paper", "x": 0, "y": 100 * control.accuracy, "text": "unpruned",
             "showarrow": False, "yshift": 8, "xanchor": "left", "font": {"size": 11}}
        ]  # fmt: skip
    return {"data": traces, "layout": layout}


def _script(text: str) -> str:
    """JSON inside a script element: nothing in it may end the element."""
    return text.replace("<", "\\u003c")


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{html.escape(h)}</th>' for h in header)
    body = "".join(
        "<tr>" + f'<th scope="row">{html.escape(row[0])}</th>'
        + "".join(f"<td>{html.escape(c)}</td>" for c in row[1:]) + "</tr>"
        for row in rows
    )  # fmt: skip
    return (
        f'<div class="scroll"><table><caption>{html.escape(title)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


# Okabe and Ito's palette: told apart by everybody, also in grey.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7f7f7f")
_DASHES = ("solid", "dash", "dot")

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Sentei: benchmark</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root {{ color-scheme: light dark; --back: #fff; --text: #1b1f24; --line: #d0d7de; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --back: #15181c; --text: #e6e8eb; --line: #3a4149; }}
}}
body {{ font: 16px/1.5 system-ui, sans-serif; background: var(--back); color: var(--text);
       max-width: 72rem; margin: 0 auto; padding: 1.5rem; }}
figure {{ margin: 0 0 1rem; }} .plot {{ height: 26rem; }}
.scroll {{ overflow-x: auto; margin: 1.5rem 0; }}
table {{ border-collapse: collapse; font-size: .92rem; }}
caption {{ text-align: left; font-weight: 600; padding: .4rem 0; }}
th, td {{ padding: .25rem .7rem; border-bottom: 1px solid var(--line); text-align: left;
         font-variant-numeric: tabular-nums; vertical-align: top; }}
</style>
<script>{plotly}</script>
<script>
function sentei(id, spec) {{
  var style = getComputedStyle(document.documentElement);
  var text = style.getPropertyValue('--text').trim();
  var line = style.getPropertyValue('--line').trim();
  spec.layout.paper_bgcolor = spec.layout.plot_bgcolor = style.getPropertyValue('--back').trim();
  spec.layout.font = {{color: text}};
  spec.layout.xaxis.gridcolor = spec.layout.yaxis.gridcolor = line;
  Plotly.newPlot(id, spec.data, spec.layout, {{responsive: true, displaylogo: false}});
}}
</script></head><body>
<h1>Benchmark</h1><p>{provenance}</p>{body}
</body></html>
"""
