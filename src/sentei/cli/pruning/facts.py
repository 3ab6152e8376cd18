"""What one pruning did, as plain JSON: for the journal, `sentei plan --json` and the result."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import Tensor

import sentei
from sentei.cli.folder import Facts
from sentei.cli.pruning.names import renumbering
from sentei.cli.rounding import unrounded
from sentei.graph.table import reasons
from sentei.graph.verify import Verification
from sentei.storage.recipe import encode

__all__ = ["facts_of", "verdict"]


def facts_of(result: sentei.Result, round_to: int | str | None = None) -> Facts:
    """What a pruning did, as plain JSON.

    Args:
        round_to: the multiple that was asked for; the groups that do not keep to it are named.
    """
    check, timing = result.verification, result.timing
    return {
        "asked": {k: float(v) for k, v in result.asked.items()},
        "reached": {k: float(v) for k, v in result.reached.items()},
        "before": dataclasses.asdict(result.before),
        "after": dataclasses.asdict(result.after),
        "groups": {
            name: {"kind": g.kind, "before": g.size, "after": result.plan.widths.get(name, g.size)}
            for name, g in result.groups.items()
        },
        "pinned": [{"because": why, "groups": names} for why, names in reasons(result.groups)],
        "held": dict(result.held),
        "unrounded": unrounded(result, round_to),
        "layers": [layer.name for layer in result.layers],
        "renumbering": renumbering(result),
        "units": _units(result.surgery.units) if result.surgery is not None else {},
        "verification": None if check is None else _checked(check),
        "timing": None if timing is None else dataclasses.asdict(timing),
        "seconds": dict(result.seconds),
    }


def verdict(check: Mapping[str, Any]) -> str:
    """A verification among the facts, in words."""
    close = f"within {check['error']:.0e}" if check["error"] else "to the last digit"
    words = f"equal to the silenced original {close}"
    return (
        words if check["conclusive"] else f"{words} (the example does not show the removed units)"
    )


def _units(units: Mapping[str, Tensor]) -> dict[str, Any]:
    """group -> kept units as runs; a list of them where each outer unit keeps others."""
    return {
        name: encode(kept) if kept.dim() == 1 else [encode(row) for row in kept]
        for name, kept in units.items()
    }


def _checked(check: Verification) -> Facts:
    return dataclasses.asdict(check) | {"passed": check.passed}
