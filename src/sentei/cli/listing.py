"""`sentei methods`: the registry of published methods."""

from __future__ import annotations

import inspect
import textwrap
from typing import Any

from rich.console import Group as Lines
from rich.text import Text

from sentei.cli import show
from sentei.graph.errors import PruneError, closest
from sentei.methods import METHODS, Method
from sentei.methods.base import FAMILIES

__all__ = ["method_details", "method_facts", "methods", "methods_table"]


def methods(family: str | None = None) -> list[Method]:
    """All methods, or those of a family: by family, then year.

    Raises:
        PruneError: there is no such family.

    >>> {m.family for m in methods("lottery")}
    {'lottery'}
    """
    if family is not None and family not in FAMILIES:
        raise PruneError(f"no family {family!r}; {closest(family, FAMILIES)}")
    chosen = [m for m in METHODS.values() if family in (None, m.family)]
    return sorted(chosen, key=lambda m: (FAMILIES.index(m.family), m.year, m.id))


def method_facts(method: Method) -> dict[str, Any]:
    """A method as plain JSON."""
    names = ("id", "title", "authors", "venue", "year", "arxiv", "family", "structure", "timing",
             "starts", "needs", "card", "lineage", "summary")  # fmt: skip
    facts = {name: getattr(method, name) for name in names}
    return facts | {
        "needs": list(method.needs),
        "lineage": list(method.lineage),
        "options": {n: _plain(v) for n, v in method.options.items()},
    }


def methods_table(listed: list[Method]) -> Any:
    """One line a method, families apart."""
    names = max((len(m.id) for m in listed), default=0)
    kinds = max((len(m.structure) for m in listed), default=0)
    lines: list[Any] = []
    for family in dict.fromkeys(m.family for m in listed):
        lines.append(Text(f"{family:{names}}  year  {'removes':{kinds}}  when", "bold"))
        for m in (m for m in listed if m.family == family):
            fixed = f"{m.id:{names}}  {m.year}  {m.structure:{kinds}}  {m.timing:6}"
            room = show.WIDTH - len(fixed) - 2
            lines.append(Text(f"{fixed}  {textwrap.shorten(m.summary, room, placeholder=' …')}"))
        lines.append("")
    noun = "method" if len(listed) == 1 else "methods"
    end = f"{len(listed)} {noun}, before, during or after training. All about one: sentei methods"
    return Lines(*lines, f"{end} NAME")


def method_details(method: Method) -> Any:
    """Everything about one method."""
    paper = f"{method.title}. {method.authors}, {method.venue} {method.year}"
    rows = [
        ("paper", paper.replace("-, - ", "")),
        *([("arXiv", method.arxiv)] if method.arxiv else []),
        ("family", method.family),
        ("removes", method.structure),
        ("when", f"{_when(method)}; starts from {_starts(method)}"),
        ("needs", ", ".join(method.needs) or "nothing but the model"),
        *([("builds on", ", ".join(method.lineage))] if method.lineage else []),
        *(
            ("option", f"{name}={'(needed)' if value is inspect.Parameter.empty else value}")
            for name, value in method.options.items()
        ),
    ]
    head, body = method.summary, inspect.getdoc(method.run) or ""
    rest = body.partition("\n")[2].strip()
    budget = "--sparsity 0.9" if method.masks else "-t macs=50%"
    return Lines(
        f"[bold]{show.escape(method.id)}[/bold]: {show.escape(head)}",
        "",
        show.table(("", ""), rows, names=(1,)),
        *(["", show.escape(show.reflow(rest))] if rest else []),
        "",
        f"sentei prune MODEL --data DATA --method {method.id} {budget} --out DIR",
    )


def _when(method: Method) -> str:
    return f"{method.timing} training"


def _starts(method: Method) -> str:
    return "untrained weights" if method.starts == "initial" else "trained weights"


def _plain(value: Any) -> Any:
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)
