"""`sentei plan`: what a target would do, without doing it."""

from __future__ import annotations

import dataclasses
from typing import Any

from rich.console import Group as Lines

from sentei.cli import show
from sentei.cli.config import Config
from sentei.cli.opened import open_all
from sentei.cli.pruning import check, cut, facts_of
from sentei.cli.pruning.names import originals, renumbering
from sentei.cli.rounding import unrounded, unrounded_words
from sentei.graph.errors import PruneError
from sentei.pruning import Result

__all__ = ["costs_table", "plan", "plan_json", "plan_table", "widths_table"]

_SHOWN = 16


def plan(config: Config) -> Result:
    """The result of a dry run; the model is as it was.

    Raises:
        PruneError: the model or data cannot be had, or the target cannot be met; says what can.
    """
    if config.method is not None:
        raise PruneError(
            f"method {config.method!r} decides while it runs; a plan is of --criterion and "
            "--allocation"
        )
    check(config)
    opened = open_all(config)
    return cut(config, opened, opened.model, config.budget, dry_run=True)


def plan_json(result: Result, round_to: int | str | None = None) -> dict[str, Any]:
    """The plan as plain JSON; `round_to` as it was asked for."""
    facts = facts_of(result, round_to)
    names = ("asked", "reached", "before", "after", "groups", "unrounded", "timing")
    return {name: facts[name] for name in names}


def plan_table(result: Result, round_to: int | str | None = None) -> Lines:
    """Costs, the groups that would lose most, and where `round_to` would not be kept to."""
    groups = len(result.groups)
    cut = len(result.plan.widths)
    more = f"… and {cut - _SHOWN} more groups. " if cut > _SHOWN else ""
    words = f"{more}{groups - cut} of {groups} groups would keep all their units."
    if result.layers:
        names = originals([layer.name for layer in result.layers], renumbering(result))
        words = f"Layers to go: {', '.join(names)}. {words}"
    held = [show.escape(f"left whole: {name}: {why}") for name, why in result.held.items()]
    if narrow := unrounded(result, round_to):
        held.insert(0, show.escape(unrounded_words(narrow, cut, round_to)))
    memory = (
        "Peak memory is of parameters, inputs and activations; what operators take for themselves "
        "meanwhile (a convolution's rearranged inputs, say) comes on top."
    )
    widths = widths_table(result, "would lose most")
    if not cut:
        widths = "The target holds already: nothing would go."
    return Lines(
        costs_table(result), "", widths, words, memory, *held, "Nothing was changed."
    )  # fmt: skip


def costs_table(result: Result, title: str = "plan") -> Any:
    """What the network costs before and after, and what was asked for."""
    before, after = dataclasses.asdict(result.before), dataclasses.asdict(result.after)
    labels = {"params": "parameters", "macs": "MACs", "memory": "peak memory", "bytes": "stored"}
    rows = [
        (
            label,
            show.amount(name, before[name]),
            show.amount(name, after[name]),
            show.percent(after[name], before[name]),
            show.amount(name, result.asked[name]) if name in result.asked else "",
        )
        for name, label in labels.items()
    ]
    timing = result.timing
    if timing is not None:
        limit = result.asked.get("latency")
        rows.append(
            (
                "forward pass",
                show.seconds(timing.before),
                f"{show.seconds(timing.predicted)} predicted",
                show.percent(timing.predicted, timing.before),
                "" if limit is None else show.seconds(limit),
            )
        )
    for name in ("width", "units"):
        if name in result.asked:
            rows.append(
                (name, "", show.amount(name, result.reached[name]), "",
                 show.amount(name, result.asked[name]))
            )  # fmt: skip
    return show.table((title, "before", "after", "left", "asked"), rows, right=(1, 2, 3, 4))


def widths_table(result: Result, title: str) -> Any:
    """The groups that lose most."""
    groups = result.groups
    cut = sorted(result.plan.widths.items(), key=lambda w: w[1] / groups[w[0]].size)
    return show.table(
        (title, "kind", "units", "kept", "left"),
        [
            (
                show.elide(name, 40), groups[name].kind, str(groups[name].size), str(kept),
                show.percent(kept, groups[name].size),
            )
            for name, kept in cut[:_SHOWN]
        ],
        right=(2, 3, 4),
    )  # fmt: skip
