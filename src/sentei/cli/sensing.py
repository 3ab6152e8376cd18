"""`sentei sensitivity`: accuracy against the share removed, group by group, with a picture."""

from __future__ import annotations

import os
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from torch import nn

from sentei.batches import batches, in_memory
from sentei.cli import show
from sentei.cli.config import Config
from sentei.cli.opened import open_all
from sentei.graph.errors import PruneError
from sentei.sensitivity import Sensitivity, sensitivity
from sentei.storage.atomic import write_file
from sentei.tasks import Dataset, evaluate

__all__ = ["picture", "sense", "sensitivity_table"]

_RATIOS = "10,25,50,75,90"


def sense(
    config: Config,
    out: str | os.PathLike[str],
    *,
    ratios: str | None = None,
    examples: int = 512,
) -> tuple[Sensitivity, Path]:
    """Cut each group alone by each ratio, and write figures and picture into `out`.

    Args:
        ratios: percentages with commas. examples: of the validation data, at most.
    Returns:
        the curves, and the SVG file; a JSON file of the same name lies beside it.
    Raises:
        PruneError: as `open_all`; ratios that are none.
    """
    shares = _parsed(ratios or _RATIOS)
    opened = open_all(config, need_data=True)
    data = opened.data
    assert data is not None
    judged = _first(data, examples)

    def metric(model: nn.Module) -> float:
        value = evaluate(model, judged, data).value
        return value if data.metric.higher_is_better else -value

    found = sensitivity(
        opened.model,
        **opened.inputs(),
        data=judged,
        metric=metric,
        loss=data.loss,
        ratios=shares,
        criterion=config.criterion,
        protect=config.protect,
        granularity=config.granularity,
        seed=config.seed,
    )
    found = _signed(found, data)
    home = Path(out)
    write_file(home / "sensitivity.json", found.to_json())
    return found, write_file(home / "sensitivity.svg", picture(found, str(opened.source)))


def _parsed(text: str) -> list[float]:
    try:
        shares = [float(part.strip().removesuffix("%")) / 100 for part in text.split(",")]
    except ValueError:
        raise PruneError(f"--ratios wants percentages such as 25,50,75; got {text!r}") from None
    if not all(0 < share < 1 for share in shares):
        raise PruneError(f"--ratios are percentages between 0 and 100; got {text!r}")
    return shares


def _first(data: Dataset, examples: int) -> Any:
    """The first validation examples, as many as are looked at."""
    if in_memory(data.validation):
        x, y = data.validation
        return x[:examples], y[:examples]
    found, seen = [], 0
    for batch in batches(data.validation):
        found.append(batch)
        seen += len(next(iter(batch.values())) if isinstance(batch, dict) else batch[0])
        if seen >= examples:
            break
    return found


def _signed(found: Sensitivity, data: Dataset) -> Sensitivity:
    """With the metric's own name and sign; it was turned over so that more is better."""
    from dataclasses import replace

    if data.metric.higher_is_better:
        return replace(found, metric=data.metric.name)
    curves = {
        name: replace(curve, values=tuple(-v for v in curve.values))
        for name, curve in found.curves.items()
    }
    return replace(
        found, metric=data.metric.name, higher_is_better=False, baseline=-found.baseline,
        curves=curves,
    )  # fmt: skip


def sensitivity_table(found: Sensitivity) -> Any:
    """A row for each group, the most sensitive first."""
    rows = []
    for curve in sorted(found.curves.values(), key=lambda c: -max(c.damage)):
        cells = []
        for ratio in found.ratios:
            near = min(range(len(curve.shares)), key=lambda i: abs(1 - curve.shares[i] - ratio))
            close = near and abs(1 - curve.shares[near] - ratio) <= 0.06
            cells.append(_value(found, curve.values[near]) if close else "")
        rows.append((show.elide(curve.group, 36), *cells))
    head = (f"{found.metric} without", *(f"{100 * r:g} %" for r in found.ratios))
    made = show.table(head, rows, right=tuple(range(1, len(head))))
    from rich.console import Group as Lines

    return Lines(made, f"whole model: {_value(found, found.baseline)}")


def _value(found: Sensitivity, value: float) -> str:
    return f"{100 * value:.1f} %" if found.metric == "accuracy" else f"{value:.4g}"


# -- the picture ----------------------------------------------------------------------------------
_WIDE, _HIGH, _LEFT, _TOP, _PLOT, _LINE = 860, 420, 64, 56, 430, 17
# Distinct in hue and in lightness, so that they differ without colour vision, too.
_COLOURS = ("#1f6feb", "#d1570a", "#2da44e", "#8250df", "#bf3989", "#0a7ea4", "#9a6700", "#57606a")
_DASHES = ("", "6 3", "2 2", "8 3 2 3")


def picture(found: Sensitivity, title: str) -> str:
    """An SVG: share removed across, the metric up, a line for each group."""
    curves = sorted(found.curves.values(), key=lambda c: -max(c.damage))
    values = [v for c in curves for v in c.values] + [found.baseline]
    low, high = min(values), max(values)
    if found.metric == "accuracy":
        low, high = 0.0, 1.0
    span = (high - low) or 1.0

    def x(share: float) -> float:
        return _LEFT + _PLOT * (1 - share)

    def y(value: float) -> float:
        return _TOP + (_HIGH - 2 * _TOP) * (1 - (value - low) / span)

    lines = list(_frame(found, title, low, span, x, y))
    for i, curve in enumerate(curves):
        colour, dash = _COLOURS[i % len(_COLOURS)], _DASHES[i // len(_COLOURS) % len(_DASHES)]
        points = " ".join(
            f"{x(s):.1f},{y(v):.1f}" for s, v in zip(curve.shares, curve.values, strict=True)
        )
        lines.append(
            f'<g><title>{escape(curve.group)}</title><polyline points="{points}" fill="none" '
            f'stroke="{colour}" stroke-width="1.8" stroke-dasharray="{dash}"/></g>'
        )
        row, left = _TOP + 8 + _LINE * i, _LEFT + _PLOT + 24
        lines.append(
            f'<line x1="{left}" x2="{left + 26}" y1="{row}" y2="{row}" stroke="{colour}" '
            f'stroke-width="2.4" stroke-dasharray="{dash}"/>'
            f'<text x="{left + 34}" y="{row + 4}">{escape(show.elide(curve.group, 38))}</text>'
        )
    tall = max(_HIGH, 2 * _TOP + _LINE * len(curves))
    body = "\n".join(lines)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDE} {tall}" role="img" '
        f'aria-label="{escape(found.metric)} against the share removed, by group" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="#24292f">\n'
        f'<rect width="{_WIDE}" height="{tall}" fill="#ffffff"/>\n{body}\n</svg>\n'
    )


def _frame(
    found: Sensitivity, title: str, low: float, span: float, x: Any, y: Any
) -> Iterator[str]:
    words = f"{found.metric} when each group is cut alone"
    yield f'<text x="{_LEFT}" y="22" font-size="15">{escape(title)}</text>'
    yield f'<text x="{_LEFT}" y="40" fill="#57606a">{escape(words)}</text>'
    for step in range(5):
        value = low + span * step / 4
        yield (
            f'<line x1="{_LEFT}" x2="{_LEFT + _PLOT}" y1="{y(value):.1f}" y2="{y(value):.1f}" '
            f'stroke="#d0d7de"/><text x="{_LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">'
            f"{escape(_value(found, value))}</text>"
        )
    for share in (0, 25, 50, 75, 100):
        at = x(1 - share / 100)
        yield (f'<text x="{at:.1f}" y="{_HIGH - _TOP + 20}" text-anchor="middle">{share} %</text>')
    yield (
        f'<text x="{_LEFT + _PLOT / 2}" y="{_HIGH - 14}" text-anchor="middle" fill="#57606a">'
        "share of the group removed</text>"
    )
    yield (
        f'<line x1="{_LEFT}" x2="{_LEFT + _PLOT}" y1="{y(found.baseline):.1f}" '
        f'y2="{y(found.baseline):.1f}" stroke="#57606a" stroke-dasharray="3 3"/>'
    )
