"""Groups as a table: in a terminal, with rich, in a notebook.

Each group shows what it carries: the parameters in its slices, and the multiply-adds that would
vanish with it. Shares of several groups overlap (a weight lies between two widths), so they do
not add up to the total. What is pinned is summed up by reason.
"""

from __future__ import annotations

import html as _html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Group as RichGroup

    from sentei.graph.axis import Dim
    from sentei.graph.groups import Group, Groups
    from sentei.graph.ties import Poly

__all__ = ["carried", "elide", "html", "reasons", "rich_table", "short", "text"]

WIDTH = 100
_NAME, _NOTES, _EXAMPLE = 36, 26, 36
_ROWS, _REASONS = 60, 8  # a longer table is no longer read
_HEAD = ("group", "kind", "units", "slices", "params", "MACs", "notes")
_RIGHT = {2, 3, 4, 5}


@dataclass(frozen=True)
class _Row:
    name: str
    cells: tuple[str, ...]


def short(n: int) -> str:
    """A count in at most five characters.

    >>> [short(n) for n in (0, 999, 1000, 25_557_032, 4_089_184_256)]
    ['0', '999', '1.00k', '25.6M', '4.09G']
    """
    value, unit = float(n), 0
    while abs(value) >= 999.5 and unit < 5:
        value, unit = value / 1000, unit + 1
    if unit == 0:
        return str(n)
    digits = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:.{digits}f}{'kMGTP'[unit - 1]}"


def elide(name: str, width: int) -> str:
    """`name` in at most `width` characters; a long one loses its middle.

    >>> elide("model.layers.11.self_attn.q_proj", 20)
    'model.laye…tn.q_proj'
    """
    if len(name) <= width:
        return name
    head = width // 2
    tail = width - head - 1
    return f"{name[:head]}…{name[len(name) - tail :] if tail > 0 else ''}"


def carried(poly: Poly) -> dict[Dim, int]:
    """dim -> cost at full widths, less the cost with that dim at zero; one pass for all dims."""
    out: dict[Dim, int] = {}
    for monomial, coefficient in poly.terms:
        value = coefficient * prod(dim.size for dim in monomial)
        for dim in dict.fromkeys(monomial):
            out[dim] = out.get(dim, 0) + value
    return out


def reasons(groups: Groups) -> list[tuple[str, list[str]]]:
    """(reason, names of the groups pinned for it), most frequent first; the place in the model is
    left out of the reason, so that one cause in many layers is one line."""
    modules = {node.module for tape in groups.analysis.tapes for node in tape.nodes if node.module}
    found: dict[str, list[str]] = {}
    for group in groups.pinned.values():
        found.setdefault(_general(group.pinned or "", modules), []).append(group.name)
    return sorted(found.items(), key=lambda item: -len(item[1]))


def _general(why: str, modules: set[str]) -> str:
    def place(match: re.Match[str]) -> str:
        return "" if match[1] in modules else match[0]

    first, _, rest = why.partition(" ")
    if first in modules:
        why = f"a module {rest}"
    return re.sub(r" in ([^\s:]+)", place, why)


def _rows(groups: Groups) -> Iterator[_Row]:
    params, macs = carried(groups.costs.params), carried(groups.costs.macs)
    for group in groups.values():
        cells = (
            group.kind,
            str(group.size),
            str(len(group.slices)),
            short(params.get(group.dim, 0)),
            short(macs.get(group.dim, 0)),
        )
        yield _Row(group.name, cells)


def _notes(group: Group, width: int) -> str:
    """Ties first: they are what a plan must heed."""
    notes: list[str] = []
    if group.step > 1:
        notes.append(f"by {group.step}")
    if group.tied:
        more = f" +{len(group.tied) - 1}" if len(group.tied) > 1 else ""
        left = width - sum(len(n) + 2 for n in notes) - len("tied to ") - len(more)
        notes.append(f"tied to {elide(group.tied[0], max(left, 8))}{more}")
    if group.normalised:
        notes.append("normalised")
    out = ""
    for note in notes:
        longer = f"{out}, {note}" if out else note
        if len(longer) > width:
            return out or elide(longer, width)
        out = longer
    return out


def _title(groups: Groups) -> str:
    cost = groups.cost()
    noun = "group" if len(groups) == 1 else "groups"
    return (
        f"{len(groups)} prunable {noun}, {len(groups.pinned)} pinned; "
        f"{short(cost.params)} parameters, {short(cost.macs)} MACs"
    )


def _pinned_rows(groups: Groups, limit: int) -> Iterator[tuple[str, str, str]]:
    found = reasons(groups)
    for why, names in found[:limit]:
        more = f" +{len(names) - 1}" if len(names) > 1 else ""
        yield str(len(names)), why, elide(names[0], _EXAMPLE - len(more)) + more
    if len(found) > limit:
        count = sum(len(names) for _, names in found[limit:])
        yield str(count), f"… {len(found) - limit} more reasons", ""


def _align(table: Sequence[Sequence[str]], right: set[int]) -> list[str]:
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    return [
        "  ".join(
            cell.rjust(w) if i in right else cell.ljust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]


def _unknown(groups: Groups) -> str:
    if not groups.unknown:
        return ""
    names = list(dict.fromkeys(name.partition(" (")[0] for name in groups.unknown))
    listed = ", ".join(names[:4])
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return elide(f"operators without a rule, so pinned: {listed}{more}", WIDTH)


def text(groups: Groups) -> str:
    """The table as plain text, at most 100 columns wide.

    >>> import torch
    >>> from sentei.graph.groups import analyze
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> print(text(analyze(net, torch.randn(3, 4))))
    1 prunable group, 2 pinned; 58 parameters, 144 MACs
    group  kind      units  slices  params  MACs  notes
    0      channels      8       3      56   144
    <BLANKLINE>
    pinned  because       such as
         1  model input   0.weight[1]
         1  model output  2
    """
    lines = [_title(groups)]
    rows = list(_rows(groups))
    if rows:
        table: list[Sequence[str]] = [_HEAD]
        for row in rows[:_ROWS]:
            group = groups[row.name]
            table.append((elide(row.name, _NAME), *row.cells, _notes(group, _NOTES)))
        lines += _align(table, _RIGHT)
        if len(rows) > _ROWS:
            lines.append(f"… and {len(rows) - _ROWS} more groups")
    if groups.pinned:
        room = WIDTH - _EXAMPLE - len("pinned") - 4
        pinned = [(n, elide(why, room), name) for n, why, name in _pinned_rows(groups, _REASONS)]
        lines += ["", *_align([("pinned", "because", "such as"), *pinned], {0})]
    if groups.unknown:
        lines += ["", _unknown(groups)]
    return "\n".join(lines)


def rich_table(groups: Groups) -> RichGroup:
    """The table for a `rich` console."""
    from rich.console import Group as RichGroup
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=_title(groups), title_justify="left", box=None, pad_edge=False)
    for i, name in enumerate(_HEAD):
        # A narrow console takes from the names and notes, never from a number.
        least = {0: 16, 1: 11}.get(i, len(name))
        table.add_column(name, justify="right" if i in _RIGHT else "left", min_width=least)
    rows = list(_rows(groups))
    for row in rows[:_ROWS]:
        notes = _notes(groups[row.name], _NOTES)
        table.add_row(*map(escape, (elide(row.name, _NAME), *row.cells, notes)))
    if len(rows) > _ROWS:
        table.add_row(f"… and {len(rows) - _ROWS} more")
    parts: list[Any] = [table]
    if groups.pinned:
        pinned = Table(title="pinned", title_justify="left", box=None, pad_edge=False)
        pinned.add_column("groups", justify="right", no_wrap=True)
        pinned.add_column("because")
        pinned.add_column("such as", no_wrap=True, max_width=_EXAMPLE)
        for cells in _pinned_rows(groups, _REASONS):
            pinned.add_row(*map(escape, cells))
        parts += ["", pinned]
    if groups.unknown:
        parts += ["", escape(_unknown(groups))]
    return RichGroup(*parts)


_CELL = "padding:2px 10px 2px 0;border-bottom:1px solid #8884;vertical-align:top"


def html(groups: Groups) -> str:
    """The table for a notebook: self-contained, everything escaped, names in full."""
    body: list[list[str]] = [
        [row.name, *row.cells, _notes(groups[row.name], 1000)] for row in _rows(groups)
    ]
    parts = [f"<p><b>{_html.escape(_title(groups))}</b></p>"]
    if body:
        parts.append(_html_table(_HEAD, body, _RIGHT))
    if groups.pinned:
        pinned = [list(cells) for cells in _pinned_rows(groups, len(groups.pinned))]
        parts.append(_html_table(("pinned", "because", "such as"), pinned, {0}))
    if groups.unknown:
        parts.append(f"<p>{_html.escape(_unknown(groups))}</p>")
    return f'<div style="font-size:13px;max-height:40em;overflow:auto">{"".join(parts)}</div>'


def _html_table(head: Sequence[str], body: Sequence[Sequence[str]], right: set[int]) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        return "".join(
            f'<{tag} style="{_CELL};text-align:{"right" if i in right else "left"}">'
            f"{_html.escape(cell)}</{tag}>"
            for i, cell in enumerate(cells)
        )

    lines = "".join(f"<tr>{row(cells, 'td')}</tr>" for cells in body)
    return (
        '<table style="border-collapse:collapse;margin:6px 0">'
        f"<thead><tr>{row(head, 'th')}</tr></thead><tbody>{lines}</tbody></table>"
    )
