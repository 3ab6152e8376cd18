"""The technology map: every method of the registry by year and family, with what was measured.

Nothing is typed twice: facts come from `sentei.methods.METHODS`, words from the docstrings,
outcomes of claims from the records of `benchmarks.claims`, curves from a store of the bench.
"""

from __future__ import annotations

import html
import inspect
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentei.bench.curves import Curve
from sentei.methods import METHODS, Method
from sentei.methods.base import FAMILIES
from sentei.report.page import asset, page
from sentei.storage.atomic import write_file

__all__ = ["Place", "layout", "map_page", "read_claims", "write_map"]

# Sizes in pixels of the drawing.
_COLUMN, _ROW, _NODE, _LEFT, _TOP = 184, 34, 26, 132, 44


@dataclass(frozen=True)
class Place:
    """Where a method stands: its box in pixels, and which lane and column that is."""

    id: str
    x: float
    y: float
    width: float
    family: str
    year: int


def layout(methods: Sequence[Method]) -> tuple[list[Place], list[int], dict[str, tuple[int, int]]]:
    """Boxes for all methods: a column for each year with a method, a lane for each family.

    Returns:
        places, the years of the columns, and (top, height) of every lane. No two boxes overlap.
    """
    years = sorted({m.year for m in methods})
    places, lanes, top = [], {}, _TOP
    for family in FAMILIES:
        columns: dict[int, list[Method]] = {}
        for method in methods:
            if method.family == family:
                columns.setdefault(method.year, []).append(method)
        rows = max((len(c) for c in columns.values()), default=1)
        height = rows * _ROW + 14
        lanes[family] = (top, height)
        for year, column in columns.items():
            x = _LEFT + years.index(year) * _COLUMN
            for i, method in enumerate(column):
                y = top + 7 + i * _ROW + (_ROW - _NODE) / 2
                places.append(Place(method.id, x + 6, y, _COLUMN - 22, family, year))
        top += height
    return places, years, lanes


def read_claims(folder: str | Path) -> dict[str, list[dict[str, Any]]]:
    """Records of claims by card ("A1" has those of A1, A1-2, …); empty where there is no folder."""
    found: dict[str, list[dict[str, Any]]] = {}
    for file in sorted(Path(folder).glob("*.json")):
        record = json.loads(file.read_text())
        found.setdefault(str(record["card"]).partition("-")[0], []).append(record)
    return found


def write_map(
    path: str | Path,
    *,
    methods: Iterable[Method] | None = None,
    claims: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    curves: Sequence[Curve] = (),
) -> Path:
    """Write the map as one page that holds all it needs."""
    chosen = list(METHODS.values() if methods is None else methods)
    return write_file(path, map_page(chosen, claims or {}, curves))


def map_page(
    methods: Sequence[Method],
    claims: Mapping[str, Sequence[Mapping[str, Any]]],
    curves: Sequence[Curve],
) -> str:
    """The page. Methods are buttons: mouse, keyboard and screen readers reach them alike."""
    methods = sorted(methods, key=lambda m: (m.year, m.id))
    places, years, lanes = layout(methods)
    by_id = {p.id: p for p in places}
    width = _LEFT + len(years) * _COLUMN + 10
    height = max(top + tall for top, tall in lanes.values()) + 10
    parts = [
        f'<svg id="map" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'role="group" aria-label="Map of pruning methods: years across, families down">'
    ]
    for i, year in enumerate(years):
        x = _LEFT + i * _COLUMN
        parts.append(f'<line class="grid" x1="{x}" y1="30" x2="{x}" y2="{height}"/>')
        parts.append(f'<text class="year" x="{x + 6}" y="24">{year}</text>')
    for family, (top, tall) in lanes.items():
        parts.append(
            f'<line class="grid" x1="0" y1="{top}" x2="{width}" y2="{top}"/>'
            f'<text class="lane" x="8" y="{top + tall / 2 + 5}">{html.escape(family)}</text>'
        )
        if not any(p.family == family for p in places):
            parts.append(
                f'<text class="none" x="{_LEFT + 8}" y="{top + tall / 2 + 5}">none yet</text>'
            )
    for method in methods:
        for parent in method.lineage:
            if parent in by_id:
                parts.append(_edge(by_id[parent], by_id[method.id]))
    for method in methods:
        parts.append(_node(method, by_id[method.id], claims))
    parts.append("</svg>")
    data = {m.id: _facts(m, claims, curves) for m in methods}
    body = _BODY.format(
        count=len(methods),
        options="".join(
            f'<option value="{html.escape(s)}">{html.escape(s)}</option>'
            for s in sorted({m.structure for m in methods})
        ),
        svg="".join(parts),
    )
    text = json.dumps(data).replace("<", "\\u003c")
    return page(
        "Sentei: map of pruning",
        body,
        style=asset("map.css"),
        script=f"const DATA={text};{asset('map.js')}",
    )


def _edge(start: Place, end: Place) -> str:
    x1, y1 = start.x + start.width, start.y + _NODE / 2
    x2, y2 = end.x, end.y + _NODE / 2
    if start.year == end.year:  # beside each other: around the left
        x1 = start.x
        bend = 14
        path = f"M{x1},{y1} C{x1 - bend},{y1} {x2 - bend},{y2} {x2},{y2}"
    else:
        bend = max(30.0, abs(x2 - x1) / 2.5)
        path = f"M{x1},{y1} C{x1 + bend},{y1} {x2 - bend},{y2} {x2},{y2}"
    return f'<path class="edge" data-from="{start.id}" data-to="{end.id}" d="{path}"/>'


def _outcome(method: Method, claims: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """One word for all claims of a method's card."""
    told = {str(c["outcome"]) for c in claims.get(method.card or "", ())}
    if not told:
        return "not run"
    return told.pop() if len(told) == 1 else "partly"


def _node(method: Method, place: Place, claims: Mapping[str, Any]) -> str:
    outcome = _outcome(method, claims)
    mark = {"reproduced": "●", "partly": "◐", "not reproduced": "○"}.get(outcome, "")
    words = f"{method.id}, {method.authors}, {method.year}; claim {outcome}"
    name = method.id if len(method.id) <= 19 else f"{method.id[:18]}…"
    return (
        f'<g class="node f-{method.family}" data-id="{method.id}" tabindex="0" role="button" '
        f'aria-label="{html.escape(words)}"><title>{html.escape(words)}</title>'
        f'<rect x="{place.x}" y="{place.y}" width="{place.width}" height="{_NODE}" rx="6"/>'
        f'<text x="{place.x + 8}" y="{place.y + 17.5}">{html.escape(name)}</text>'
        f'<text class="mark" x="{place.x + place.width - 14}" y="{place.y + 17.5}">{mark}</text>'
        "</g>"
    )


def _facts(
    method: Method, claims: Mapping[str, Sequence[Mapping[str, Any]]], curves: Sequence[Curve]
) -> dict[str, Any]:
    """All that the panel shows of a method."""
    module = inspect.getmodule(method.run)
    return {
        "title": method.title,
        "authors": method.authors,
        "venue": method.venue,
        "year": method.year,
        "arxiv": method.arxiv,
        "family": method.family,
        "structure": method.structure,
        "timing": method.timing,
        "starts": method.starts,
        "needs": list(method.needs),
        "card": method.card,
        "lineage": list(method.lineage),
        "options": {k: repr(v) for k, v in method.options.items()},
        "file": "src/" + module.__name__.replace(".", "/") + ".py" if module else "",
        "text": inspect.getdoc(method.run) or "",
        "claims": [
            {
                "statement": c["statement"],
                "paper": c["paper"],
                "outcome": c["outcome"],
                "checks": c["checks"],
                "why": c.get("why", ""),
                "command": c["command"],
                "seeds": c["seeds"],
                "figures": {n: [f["mean"], f["std"]] for n, f in c["figures"].items()},
            }
            for c in claims.get(method.card or "", ())
        ],
        "curves": [
            {
                "pair": c.pair,
                "method": c.method,
                "points": [
                    [p.compression, 100 * p.accuracy, 100 * p.accuracy_std] for p in c.points
                ],
                "control": 100 * c.points[0].control if c.points else None,
                "seeds": list(c.points[0].seeds) if c.points else [],
            }
            for c in curves
            if c.method.partition(" (")[0] == method.id
        ],
    }


_BODY = """
<header>
<h1>A map of pruning</h1>
<p>{count} methods that run here: years across, families down; lines lead from what a method builds
on. Choose one to see its paper, how it works, what its paper claims and what came out when we ran
it: <span class="key">●</span> reproduced, <span class="key">◐</span> partly,
<span class="key">○</span> not.</p>
<form onsubmit="return false"><label>Find <input id="find" type="search"></label>
<label>Structure <select id="structure"><option value="">all</option>{options}</select></label>
<label>Prunes <select id="timing"><option value="">whenever</option>
<option value="before">before training</option><option value="during">during training</option>
<option value="after">after training</option></select></label>
<output id="shown"></output></form>
</header>
<div class="scroll" tabindex="0" role="region" aria-label="The map">{svg}</div>
<section id="panel" aria-live="polite" tabindex="-1"><p>No method chosen.</p></section>
"""
