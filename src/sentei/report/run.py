"""The page of a finished run: what was asked, what came, and where it came from."""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sentei.graph.errors import PruneError
from sentei.report.page import asset, page
from sentei.storage.atomic import write_file

__all__ = ["render", "write"]

Facts = Mapping[str, Any]


def write(folder: str | os.PathLike[str]) -> Path:
    """Write `report.html` from the `result.json` of a run, beside it.

    Raises:
        PruneError: there are no figures, or they are not what `sentei prune` writes.
    """
    home = Path(folder)
    try:
        result = json.loads((home / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PruneError(f"cannot read the figures of {home}: {error}") from error
    if not isinstance(result, dict) or result.get("format") != "sentei-result":
        raise PruneError(f"{home / 'result.json'} is not what `sentei prune` writes")
    return write_file(home / "report.html", render(result))


def render(result: Facts) -> str:
    """The page. Sections without figures are left out."""
    name = str(result["model"])
    sections = [
        _headline(result),
        _budget(result),
        _widths(result),
        _where(result),
        _graph(result),
        _pinned(result),
        _curves(result),
        _use(result),
        _provenance(result),
    ]
    body = f"<h1>{_(name)}, pruned</h1>" + "".join(s for s in sections if s)
    return page(f"Sentei: {name}", body, style=asset("run.css"), script=asset("run.js"))


def _(text: Any) -> str:
    return html.escape(str(text))


# -- figures -------------------------------------------------------------------------------------
def short(number: float) -> str:
    """A number that can be read at a glance.

    >>> short(11689512), short(640), short(9452), short(1.5e9), short(999_700)
    ('11.7 M', '640', '9,452', '1.5 G', '1 M')
    """
    # From where three digits round up to a thousand of the smaller unit.
    for limit, scale, unit in ((999.5e6, 1e9, "G"), (999.5e3, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(number) >= limit:
            return f"{number / scale:.3g} {unit}"
    return f"{number:,.0f}"


def size(number: float) -> str:
    """
    >>> size(9452), size(44_700_000)
    ('9,452 B', '44.7 MB')
    """
    text = short(number)
    return f"{text}B" if text[-1].isalpha() else f"{text} B"


def seconds(value: float) -> str:
    """
    >>> seconds(0.00321), seconds(0.0000233), seconds(0.9999), seconds(2)
    ('3.21 ms', '23.3 µs', '1 s', '2 s')
    """
    for limit, scale, unit in ((0.9995, 1.0, "s"), (0.9995e-3, 1e-3, "ms")):
        if value >= limit:
            return f"{value / scale:.3g} {unit}"
    return f"{value / 1e-6:.3g} µs"


def _share(after: float, before: float) -> str:
    return f"{100 * after / before:.1f} %" if before else "–"


def _score(result: Facts, found: Facts | None) -> str:
    metric = result.get("metric")
    if not found or not metric:
        return ""
    return f"{100 * found['value']:.2f} %" if metric["percent"] else f"{found['value']:.4g}"


def _headline(result: Facts) -> str:
    cards = []
    metric = result.get("metric")
    if metric and result.get("final"):
        cards.append(
            (
                metric["name"],
                _score(result, result.get("baseline")),
                _score(result, result["final"]),
                "",
            )
        )
    before, after = result["cost"]["before"], result["cost"]["after"]
    for key, label in (("params", "parameters"), ("macs", "multiply-adds")):
        if key in before:
            cards.append(
                (label, short(before[key]), short(after[key]), _share(after[key], before[key]))
            )
    latency = result.get("latency")
    if latency:
        cards.append(
            ("one forward pass", seconds(latency["before"]), seconds(latency["after"]),
             "as before: zeros are computed, too" if result.get("zeros") else
             f"{latency['before'] / latency['after']:.2f} times as fast")
        )  # fmt: skip
    if "bytes" in before:
        cards.append(
            ("stored", size(before["bytes"]), size(after["bytes"]),
             _share(after["bytes"], before["bytes"]))
        )  # fmt: skip
    masks = result.get("masks")
    if masks:
        cards.append(
            ("weights not zero", short(masks["weights"]), short(masks["kept"]),
             _share(masks["kept"], masks["weights"]))
        )  # fmt: skip
    return '<div class="cards">' + "".join(
        f'<div class="card"><h2>{_(label)}</h2><p><span class="old">{_(old)}</span> → '
        f"<strong>{_(new)}</strong></p><p class=\"soft\">{_(note)}</p></div>"
        for label, old, new, note in cards
    ) + "</div>"  # fmt: skip


def _budget(result: Facts) -> str:
    if not result.get("asked"):
        return ""
    rows = "".join(
        f'<tr><th scope="row">{_(name)}</th><td class="number">{_amount(name, limit)}</td>'
        f'<td class="number">{_amount(name, result["reached"].get(name))}</td></tr>'
        for name, limit in result["asked"].items()
    )
    checks = [c for c in result.get("verification", ()) if c]
    words = ""
    if checks:
        worst = max(c["error"] for c in checks)
        shown = "" if all(c["conclusive"] for c in checks) else (
            " (on some, the example does not show the removed units)"
        )  # fmt: skip
        close = f"within {worst:.0e} (relative)" if worst else "to the last digit"
        words = (
            f"<p>After every surgery the smaller network was compared with the original whose "
            f"removed units are silenced: equal {close}"
            f"{f', all {len(checks)} times' if len(checks) > 1 else ''}{shown}.</p>"
        )
    for timing in [t for t in result.get("timing", ()) if t][-1:]:
        words += (
            f"<p>When it was planned, a forward pass took {seconds(timing['before'])}; "
            f"{seconds(timing['predicted'])} was predicted for what is left, and "
            f"{seconds(timing['after'])} was measured.</p>"
        )
    held = "".join(
        f"<li><code>{_(n)}</code> was left whole: {_(why)}</li>"
        for n, why in result["held"].items()
    )
    if narrow := result.get("unrounded"):
        names = ", ".join(f"<code>{_(n)}</code>" for n in narrow)
        held += (
            f"<li>Not kept at a multiple of {_(result['config']['round_to'])}, which they are too "
            f"narrow for: {names}</li>"
        )
    return (
        '<section><h2>Asked and reached</h2><table><thead><tr><th></th><th class="number" '
        f'scope="col">at most</th><th class="number" scope="col">reached</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>{words}{f'<ul>{held}</ul>' if held else ''}</section>"
    )


def _amount(name: str, value: Any) -> str:
    if value is None:
        return "–"
    if name == "width":
        return f"{100 * value:.1f} %"
    if name in ("memory", "bytes"):
        return size(value)
    return seconds(value) if name == "latency" else short(value)


# -- widths --------------------------------------------------------------------------------------
def _widths(result: Facts) -> str:
    groups = result.get("groups") or {}
    if not groups:
        return ""
    rows = []
    for name, g in groups.items():
        share = g["after"] / g["before"]
        rows.append(
            f'<tr data-group="{_(name)}"><th scope="row"><button class="group" '
            f'data-group="{_(name)}">{_(name)}</button></th><td>{_(g["kind"])}</td>'
            f'<td class="number">{g["before"]:,}</td><td class="number">{g["after"]:,}</td>'
            f'<td><span class="bar" role="img" aria-label="{100 * share:.0f} % left">'
            f'<span style="width:{100 * share:.1f}%"></span></span></td></tr>'
        )
    return (
        "<section><h2>Widths</h2><p>Units of each group before and after. Choose a group to see "
        "below which layers it cuts.</p>"
        '<div class="scroll tall"><table><thead><tr><th scope="col">group</th>'
        '<th scope="col">kind</th><th scope="col" class="number">before</th>'
        '<th scope="col" class="number">after</th><th scope="col">left</th></tr></thead><tbody>'
        f"{''.join(rows)}</tbody></table></div></section>"
    )


# -- where the cost is ---------------------------------------------------------------------------
def _where(result: Facts) -> str:
    network = result.get("network")
    if not network:
        return ""
    clocks = result.get("layer_seconds") or [{}, {}]
    layers = [layer for layer in network["layers"] if layer["macs"][0] or layer["params"][0]]
    most = max((layer["macs"][0] for layer in layers), default=0) or 1
    slowest = max(clocks[0].values(), default=0) or 1
    rows = []
    for layer in layers:
        old, new = (clock.get(layer["name"]) for clock in clocks)
        timed = (
            f'<td class="number">{seconds(old)}</td><td class="number">{seconds(new)}</td>'
            f"<td>{_double(old / slowest, new / slowest)}</td>"
            if old is not None and new is not None
            else "<td></td><td></td><td></td>"
        )
        if _gone(result, layer["name"]):
            rows.append(
                f'<tr class="gone"><th scope="row">{_(layer["name"])}</th>'
                f'<td class="number">{short(layer["params"][0])}</td><td></td>'
                f'<td class="number">{short(layer["macs"][0])}</td>'
                '<td colspan="5">taken out as a whole</td></tr>'
            )
            continue
        rows.append(
            f'<tr><th scope="row">{_(layer["name"] or "(the model)")}</th>'
            f'<td class="number">{short(layer["params"][0])}</td>'
            f'<td class="number">{short(layer["params"][1])}</td>'
            f'<td class="number">{short(layer["macs"][0])}</td>'
            f'<td class="number">{short(layer["macs"][1])}</td>'
            f"<td>{_double(layer['macs'][0] / most, layer['macs'][1] / most)}</td>{timed}</tr>"
        )
    other = network["other_macs"]
    note = (
        f"<p>Products of activations (attention scores) take {short(other[0])} → "
        f"{short(other[1])} multiply-adds more.</p>"
        if other[0]
        else ""
    )
    note += (
        "<p>Milliseconds are measured around each layer, which costs a little itself.</p>"
        if clocks[0]
        else ""
    )
    return (
        "<section><h2>Where multiply-adds and milliseconds go</h2>"
        '<div class="scroll tall"><table><thead><tr><th scope="col">layer</th>'
        '<th scope="col" class="number" colspan="2">parameters</th>'
        '<th scope="col" class="number" colspan="2">multiply-adds</th><th></th>'
        '<th scope="col" class="number" colspan="2">time</th><th></th></tr></thead><tbody>'
        f"{''.join(rows)}</tbody></table></div>{note}</section>"
    )


def _double(before: float, after: float) -> str:
    return (
        f'<span class="double" aria-hidden="true"><span style="width:{100 * before:.1f}%"></span>'
        f'<span style="width:{100 * after:.1f}%"></span></span>'
    )


def _gone(result: Facts, name: str) -> bool:
    """Was the layer, or one that it is part of, taken out as a whole?"""
    out = result.get("gone") or [n for step in result.get("layers") or [] for n in step]
    return any(name == n or name.startswith(f"{n}.") for n in out)


# -- the group graph -----------------------------------------------------------------------------
def _graph(result: Facts) -> str:
    """Every layer as a row of boxes, one a dimension, in the order of execution.

    Boxes of one group share a colour; choosing one lights all of them up and joins them by lines.
    """
    network = result.get("network")
    if not network:
        return ""
    colours: dict[str, int] = {}
    rows = []
    for layer in network["layers"]:
        boxes = []
        for parameter in layer["parameters"]:
            cells = []
            for old, new, names in zip(
                parameter["shape"], parameter["after"], parameter["groups"], strict=True
            ):
                cut = [n for n in names if n in (result.get("groups") or {})]
                for n in cut:
                    colours.setdefault(n, len(colours) % 12)
                size = f"{old}" if old == new else f"{old}→{new}"
                if cut:
                    cells.append(
                        f'<span class="cell c{colours[cut[0]]}" tabindex="0" role="button" '
                        f'data-group="{_(" ".join(cut))}" data-names="{_(json.dumps(cut))}" '
                        f'aria-label="{_(size)}, group {_(", ".join(cut))}">{size}</span>'
                    )
                else:
                    why = "pinned: " + ", ".join(names) if names else "not a group"
                    cells.append(f'<span class="cell fixed" title="{_(why)}">{size}</span>')
            boxes.append(
                f'<span class="parameter"><span class="pname">{_(parameter["name"])}</span>'
                f"{'×'.join(cells) or 'scalar'}</span>"
            )
        gone = _gone(result, layer["name"])
        rows.append(
            f'<li{" class=gone" if gone else ""}><span class="lname">'
            f"{_(layer['name'] or '(the model)')}{' (taken out)' if gone else ''}</span>"
            f"{''.join(boxes)}</li>"
        )
    return (
        "<section><h2>What is cut together</h2><p>Every layer in the order of execution, with the "
        "sizes of its parameters. Sizes of one colour belong to one group: removing a unit removes "
        "it in all of them. Point at a size, or choose it, and its group lights up.</p>"
        '<p id="told" aria-live="polite" class="soft">No group chosen.</p>'
        f'<div class="graph"><svg id="lines" aria-hidden="true"></svg>'
        f"<ol>{''.join(rows)}</ol></div>"
        "</section>"
    )


def _pinned(result: Facts) -> str:
    pinned = result.get("pinned") or []
    if not pinned:
        return ""
    rows = "".join(
        f"<tr><td>{_(p['because'])}</td><td>"
        f"{', '.join(f'<code>{_(n)}</code>' for n in p['groups'])}</td></tr>"
        for p in pinned
    )
    return (
        '<section><h2>What was pinned, and why</h2><table><thead><tr><th scope="col">because</th>'
        f'<th scope="col">groups</th></tr></thead><tbody>{rows}</tbody></table></section>'
    )


# -- training ------------------------------------------------------------------------------------
def _curves(result: Facts) -> str:
    stages = [s for s in result.get("training") or [] if s["losses"]]
    if not stages:
        return ""
    return (
        "<section><h2>Training</h2><p>Mean training loss of every epoch.</p>"
        '<div class="plots">'
        + "".join(_plot(s["stage"], s["losses"]) for s in stages)
        + "</div></section>"
    )


def _plot(title: str, losses: Sequence[float]) -> str:
    wide, high, left, below = 320, 170, 48, 22
    top = max(losses) or 1.0
    low = min(0.0, *losses)

    def x(i: int) -> float:
        return left + i * (wide - left - 8) / max(len(losses) - 1, 1)

    def y(v: float) -> float:
        return 8 + (top - v) / (top - low or 1) * (high - below - 8)

    ends = [f"{v:.4f}" for v in (losses[0], *losses[1:][-1:])]
    points = " ".join(f"{x(i):.1f},{y(v):.1f}" for i, v in enumerate(losses))
    dots = "".join(
        f'<circle cx="{x(i):.1f}" cy="{y(v):.1f}" r="2.5">'
        f"<title>epoch {i + 1}: {v:.4f}</title></circle>"
        for i, v in enumerate(losses)
    )
    return (
        f'<figure><svg width="{wide}" height="{high}" role="img" aria-label="{_(title)}: loss '
        f'from {losses[0]:.4f} to {losses[-1]:.4f} in {len(losses)} epochs">'
        f'<line class="axis" x1="{left}" x2="{wide}" y1="{y(low):.1f}" y2="{y(low):.1f}"/>'
        f'<text x="2" y="{y(top) + 4:.1f}">{top:.3g}</text>'
        f'<text x="2" y="{y(low):.1f}">{low:.3g}</text>'
        f'<polyline points="{points}"/>{dots}<text x="{left}" y="{high - 4}">1</text>'
        f'<text x="{wide - 22}" y="{high - 4}">{len(losses)}</text></svg>'
        f"<figcaption>{_(title)}: {' → '.join(ends)}</figcaption></figure>"
    )


# -- use -----------------------------------------------------------------------------------------
def _use(result: Facts) -> str:
    config = result["config"]
    # A model that a Python file builds is built by running that file.
    runs_a_file = config.get("trust") or re.search(r"\.py:\w+$", result["model"])
    also, trust = (", trust=True", " --trust") if runs_a_file else ("", "")
    load = f'import sentei\n\nmodel = sentei.load("model"{also}).eval()   # in this folder'
    lines = [
        ("In Python", load),
        ("ONNX", f"sentei export . --to onnx{trust}"),
        ("torch.export", f"sentei export . --to pt2{trust}"),
        ("Check that it still answers as it did", f"sentei verify .{trust}"),
        ("Prune it further", f"sentei prune model{trust} --data … --target … --out …"),
    ]
    if result["model"].startswith("hf:") and config.get("uniform"):
        lines.insert(1, ("As a Hugging Face folder", "sentei export . --to hf"))
    words = f"<p>{_(result['zeros'])}</p>" if result.get("zeros") else ""
    if result.get("masks"):
        lines.append(
            (
                "The masks alone",
                'from sentei.structures import Masks\n\nmasks = Masks.load("masks.safetensors")',
            )
        )
    return (
        "<section><h2>Load and deploy</h2><dl>"
        + "".join(f"<dt>{_(what)}</dt><dd><pre>{_(code)}</pre></dd>" for what, code in lines)
        + f"</dl>{words}</section>"
    )


def _provenance(result: Facts) -> str:
    config = {k: v for k, v in result["config"].items() if v not in (None, [], {}, "")}
    rows = "".join(
        f'<tr><th scope="row">{_(k)}</th><td>{_(v)}</td></tr>' for k, v in config.items()
    )
    machine = ", ".join(f"{k} {v}" for k, v in result["machine"].items() if v is not None)
    notes = "".join(f"<li>{_(n)}</li>" for n in result.get("notes") or [])
    return (
        "<section><h2>How this was made</h2>"
        "<p><code>sentei prune --config config.yaml --out …</code> repeats it.</p>"
        f"<table><tbody>{rows}</tbody></table>"
        f'<p class="soft">{_(machine)}. {result["seconds"]:.0f} seconds in all.</p>'
        f"{f'<ul>{notes}</ul>' if notes else ''}</section>"
    )
