"""What was done, and what it gave."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from sentei.allocation import Plan
from sentei.allocation.latency import Timing
from sentei.graph.analysis import UNUSED
from sentei.graph.cost import Cost
from sentei.graph.groups import Groups
from sentei.graph.layers import Layer
from sentei.graph.surgery import Surgery
from sentei.graph.verify import Verification

__all__ = ["Result"]

_COSTS = {
    "params": "parameters",
    "macs": "MACs",
    "activations": "activations",
    "bytes": "stored bytes",
    "memory": "bytes at the peak",
}

_SHOWN = 12


@dataclass(frozen=True)
class Result:
    """What was done, and what it gave. Prints as a table.

    model: the pruned network (with `dry_run`, the network as it was).
    groups: the groups before.
    plan: kept units and widths; surgery: what was changed, None after a dry run.
    before, after: cost on the example input.
    held: groups that a first plan would have cut but the model's own code does not allow, with
        the reason; the plan leaves them whole.
    seconds: time by stage.
    timing: of a forward pass before and after, predicted and measured; None where nobody asked.
    layers: that were taken out, in this order, each checked by itself; `groups`, `plan` and
        `verification` speak of the network without them, costs of all of it.
    seed: what `prune` was given; None after `delete_units`, which draws nothing.
    """

    model: nn.Module = field(repr=False)
    groups: Groups = field(repr=False)
    plan: Plan = field(repr=False)
    surgery: Surgery | None = field(repr=False)
    before: Cost
    after: Cost
    held: dict[str, str]
    seconds: dict[str, float]
    seed: int | None = None
    timing: Timing | None = None
    layers: tuple[Layer, ...] = ()

    @property
    def keep(self) -> dict[str, Tensor]:
        """group name -> kept unit indices, ascending."""
        return self.plan.keep

    @property
    def asked(self) -> dict[str, float]:
        """What the target bounds -> ceiling; shares for width, seconds for latency, numbers."""
        return self.plan.asked

    @property
    def reached(self) -> dict[str, float]:
        """What the target bounds -> outcome; at most `asked`. Latency is measured."""
        return self.plan.reached

    @property
    def verification(self) -> Verification | None:
        """What was compared with what, and how close; None if nothing was."""
        return None if self.surgery is None else self.surgery.verification

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(width=100, color_system=None, highlight=False)
        with console.capture() as captured:
            console.print(self)
        return captured.get().rstrip()

    def __rich__(self) -> Any:
        from rich.console import Group as Lines
        from rich.markup import escape
        from rich.table import Table

        costs = Table(title=None if self.surgery is not None else "dry run: nothing was removed")
        costs.add_column("cost")
        for name in ("before", "after", "left", "asked"):
            costs.add_column(name, justify="right")
        for name, label in _COSTS.items():
            old, new = getattr(self.before, name), getattr(self.after, name)
            asked = f"{self.asked[name]:,}" if name in self.asked else ""
            costs.add_row(label, f"{old:,}", f"{new:,}", _percent(new, old), asked)
        if self.timing is not None:
            _add_times(costs, self.timing, self.asked.get("latency"))
        if "units" in self.asked:
            limit, kept = self.asked["units"], self.reached["units"]
            costs.add_row("units that can move", "", f"{kept:,}", "", f"{limit:,}")
        if "width" in self.asked:
            limit, kept = self.asked["width"], self.reached["width"]
            costs.add_row(
                "widest share", "100.0 %", "", f"{100 * kept:.1f} %", f"{100 * limit:g} %"
            )

        widths = Table(title="what lost most", title_justify="left")
        widths.add_column("group", overflow="fold", max_width=52)
        widths.add_column("kind")
        for name in ("units", "kept", "left"):
            widths.add_column(name, justify="right")
        groups = self.groups
        lost = sorted(self.plan.widths.items(), key=lambda w: w[1] / groups[w[0]].size)
        for name, kept in lost[:_SHOWN]:
            group = groups[name]
            widths.add_row(
                escape(name), group.kind, str(group.size), str(kept), _percent(kept, group.size)
            )
        if len(lost) > _SHOWN:
            widths.add_row(f"… and {len(lost) - _SHOWN} more", "", "", "", "")
        lines: list[Any] = [costs]
        if lost:
            lines.append(widths)
        whole = len(groups) - len(lost)
        lines.append(f"{len(lost)} groups lost units, {whole} kept all of theirs.")
        if self.layers:
            gone = ", ".join(layer.name for layer in self.layers)
            lines.append(escape(f"{len(self.layers)} layers taken out: {gone}."))
        lines += [escape(f"Held: {name}: {why}") for name, why in self.held.items()]
        idle = _idle(self.groups)
        if idle and lost:
            more = f" and {len(idle) - 5} more" if len(idle) > 5 else ""
            lines.append(escape(
                f"Not run on the example input, and left whole: {', '.join(idle[:5])}{more}. "
                "Where other inputs run them, they may not fit what is around them any more."
            ))  # fmt: skip
        if self.verification is not None:
            lines.append(escape(str(self.verification)))
        spent = ", ".join(f"{stage} {t:.2f} s" for stage, t in self.seconds.items())
        lines.append(f"Time: {spent}.")
        return Lines(*lines)


def _add_times(table: Any, timing: Timing, asked: float | None) -> None:
    def row(label: str, seconds: float, limit: str) -> None:
        before = f"{1e3 * timing.before:.3f} ms"
        left = _percent(seconds, timing.before)
        table.add_row(label, before, f"{1e3 * seconds:.3f} ms", left, limit)

    limit = f"{1e3 * asked:.3f} ms" if asked is not None else ""
    row("latency, predicted", timing.predicted, limit if timing.after is None else "")
    if timing.after is not None:
        row("latency, measured", timing.after, limit)


def _idle(groups: Groups) -> list[str]:
    """The modules whose parameters the captured pass did not use."""
    names = {
        part.parameter.rpartition(".")[0]: None
        for group in groups.pinned.values()
        if group.pinned == UNUSED
        for part in group.slices
        if groups.analysis.origins[part.parameter] == "parameter"
    }
    return [name for name in names if name]


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "–"
