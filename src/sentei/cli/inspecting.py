"""`sentei inspect`: groups, what is pinned and why, and where parameters and MACs sit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from rich.console import Group as Lines

import sentei
from sentei.cli import show
from sentei.cli.config import Config
from sentei.cli.opened import open_all, shapes
from sentei.graph.axis import Dim
from sentei.graph.cost import node_macs
from sentei.graph.groups import Groups
from sentei.graph.table import carried, reasons
from sentei.graph.ties import Poly, size_of

__all__ = ["Inspection", "Share", "inspect"]

_ROWS = 24


@dataclass(frozen=True)
class Share:
    """What a module costs, with everything inside it."""

    module: str
    params: int
    macs: int


@dataclass(frozen=True)
class Inspection:
    """What there is to know before pruning. Prints as tables.

    shares: cost of modules, in the model's own order, outer before inner.
    layers: names of whole layers and branches that could be removed.
    """

    model: str
    input: str
    groups: Groups = field(repr=False)
    shares: tuple[Share, ...]

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON."""
        params, macs = carried(self.groups.costs.params), carried(self.groups.costs.macs)
        cost = self.groups.cost()
        return {
            "model": self.model,
            "input": self.input,
            "params": cost.params,
            "macs": cost.macs,
            "memory": cost.memory,
            "groups": [
                {
                    "name": g.name, "kind": g.kind, "units": g.size, "step": g.step,
                    "tied": list(g.tied), "normalised": g.normalised,
                    "params": params.get(g.dim, 0), "macs": macs.get(g.dim, 0),
                    "slices": [{"parameter": s.parameter, "dim": s.dim} for s in g.slices],
                }
                for g in self.groups.values()
            ],
            "pinned": [{"because": why, "groups": names} for why, names in reasons(self.groups)],
            "modules": [{"name": s.module, "params": s.params, "macs": s.macs}
                        for s in self.shares],
        }  # fmt: skip

    def __rich__(self) -> Any:
        return Lines(*self._lines())

    def _lines(self) -> Iterator[Any]:
        cost = self.groups.cost()
        yield (
            f"[bold]{show.escape(self.model)}[/bold] on {self.input}: "
            f"{show.short(cost.params)} parameters, {show.short(cost.macs)} MACs, "
            f"{show.amount('memory', cost.memory)} at the peak of a forward pass"
        )
        yield ""
        yield show.table(
            ("where the cost sits", "parameters", "", "MACs", ""),
            [
                (
                    "  " * s.module.count(".") + show.tail(s.module, 40 - 2 * s.module.count(".")),
                    show.short(s.params), show.percent(s.params, cost.params),
                    show.short(s.macs), show.percent(s.macs, cost.macs),
                )
                for s in self.shares[:_ROWS]
            ],
            right=(1, 2, 3, 4),
        )  # fmt: skip
        if len(self.shares) > _ROWS:
            yield f"… and {len(self.shares) - _ROWS} more modules; --levels 1 shows fewer"
        yield ""
        yield from self._groups()
        yield from self._pinned()

    def _groups(self) -> Iterator[Any]:
        params, macs = carried(self.groups.costs.params), carried(self.groups.costs.macs)
        names = show.tails([g.name for g in self.groups.values()], 28)
        rows = [
            (
                name, g.kind.replace("block width", "width"), str(g.size),
                show.short(params.get(g.dim, 0)), show.short(macs.get(g.dim, 0)), _notes(g),
            )
            for name, g in zip(names, self.groups.values(), strict=True)
        ]  # fmt: skip
        yield show.table(
            (f"{len(rows)} groups can shrink", "kind", "units", "params", "MACs", "notes"),
            rows[:_ROWS],
            right=(2, 3, 4),
            names=(5,),
        )
        if len(rows) > _ROWS:
            yield f"… and {len(rows) - _ROWS} more; --json lists all"
        yield "A weight lies between two groups: their shares overlap."
        if any(g.tied for g in self.groups.values()):
            yield "Tied groups keep equal shares."

    def _pinned(self) -> Iterator[Any]:
        found = reasons(self.groups)
        if found:
            yield ""
            yield show.table(
                ("pinned", "because", "such as"),
                [(str(len(names)), why, show.tail(names[0], 28)) for why, names in found[:10]],
                right=(0,),
                names=(1,),
            )
        if self.groups.unknown:
            names = list(dict.fromkeys(n.partition(" (")[0] for n in self.groups.unknown))
            yield show.escape(f"Operators without a rule, so pinned: {', '.join(names[:6])}")


def inspect(config: Config, *, levels: int = 2) -> Inspection:
    """What can be pruned in a model, and where its cost sits.

    Args:
        levels: of modules to list the cost of.
    Raises:
        PruneError: the model cannot be had or does not run.
    """
    opened = open_all(config)
    groups = sentei.analyze(opened.model, **opened.inputs(), protect=config.protect)
    return Inspection(str(opened.source), shapes(opened.example), groups, _shares(groups, levels))


def _shares(groups: Groups, depth: int) -> tuple[Share, ...]:
    tape, axes = groups.analysis.tapes[0], groups.analysis.axes
    full: Callable[[Dim], int] = lambda dim: dim.size  # noqa: E731
    params: dict[str, int] = {}
    macs: dict[str, int] = {}
    for name, value in tape.parameters.items():
        if value.origin == "parameter":
            size = 1
            for axis in groups.analysis.parameters[name]:
                size *= size_of(axis).value(full)
            _add(params, name.rpartition(".")[0], size, depth)
    for node in tape.nodes:
        for coefficient, factors in node_macs(node, axes):
            poly = Poly.constant(coefficient)
            for axis in factors:
                poly = poly * size_of(axis)
            _add(macs, node.module, poly.value(full), depth)
    names = dict.fromkeys([*params, *macs])
    ordered = sorted(names, key=_place(list(names)))
    return tuple(Share(n, params.get(n, 0), macs.get(n, 0)) for n in ordered if n)


def _add(into: dict[str, int], module: str, value: int, depth: int) -> None:
    parts = module.split(".") if module else []
    for level in range(1, min(depth, len(parts)) + 1):
        name = ".".join(parts[:level])
        into[name] = into.get(name, 0) + value


def _place(names: list[str]) -> Callable[[str], tuple[int, ...]]:
    """Outer modules before what is in them, each level in the order of first use."""
    first = {name: i for i, name in enumerate(names)}

    def key(name: str) -> tuple[int, ...]:
        parts = name.split(".")
        return tuple(first.get(".".join(parts[: i + 1]), len(first)) for i in range(len(parts)))

    return key


def _notes(group: Any) -> str:
    notes = [f"tied to {len(group.tied)}"] if group.tied else []
    if group.step > 1:
        notes.append(f"by {group.step}")
    if group.normalised:
        notes.append("normalised")
    return ", ".join(notes)
