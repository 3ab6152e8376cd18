"""What papers claim, measured here: `python -m benchmarks.claims --match 'A1*'`.

A claim is a function of a seed that gives figures, and checks on their means. Its outcome is
written down as it came: reproduced (all checks hold), partly, or not.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

__all__ = ["CLAIMS", "Claim", "claim", "load"]

Figures = Mapping[str, float]


@dataclass(frozen=True)
class Claim:
    """One card's claim.

    card: the card, such as "A1"; a second claim of a card is "A1-2".
    statement: what is said to hold, in one sentence; paper: the paper's own figures, and where.
    run: seed -> figures by name (accuracies in points).
    checks: what must hold, in words -> a function of the means over seeds.
    seeds: how many seeds the claim speaks of.
    why: what is known of the reason, where not all of it came out.
    """

    card: str
    statement: str
    paper: str
    run: Callable[[int], Figures] = field(repr=False)
    checks: Mapping[str, Callable[[Figures], bool]] = field(repr=False)
    seeds: int = 3
    why: str = ""


CLAIMS: dict[str, Claim] = {}


def claim(
    card: str,
    statement: str,
    paper: str,
    checks: Mapping[str, Callable[[Figures], bool]],
    seeds: int = 3,
    why: str = "",
) -> Callable[[Callable[[int], Figures]], Claim]:
    """Register the decorated function (seed -> figures) as the claim of a card."""

    def wrap(run: Callable[[int], Figures]) -> Claim:
        made = CLAIMS[card] = Claim(card, statement, paper, run, checks, seeds, why)
        return made

    return wrap


def load() -> dict[str, Claim]:
    """All claims; every module of this folder is one card's (or a few related ones')."""
    for module in pkgutil.iter_modules(__path__):
        if module.name not in ("__main__", "h0", "before", "surgery"):
            importlib.import_module(f"{__name__}.{module.name}")
    return CLAIMS
