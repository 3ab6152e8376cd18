"""Errors that speak: what, where, what was got, what to try."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["PruneError", "VerificationError", "closest"]


class PruneError(ValueError):
    """A request that cannot be carried out; the model and files are as they were."""


class VerificationError(PruneError):
    """The pruned network does not compute what the silenced original computes."""


def closest(name: str, known: Iterable[str]) -> str:
    """A hint that names the nearest of the known names.

    >>> closest("tailor", ["taylor", "l1"])
    "closest: 'taylor'"
    """
    known = list(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    if near:
        return "closest: " + ", ".join(map(repr, near))
    shown = ", ".join(map(repr, known[:8]))
    return f"known: {shown}{', …' if len(known) > 8 else ''}" if known else "there are none"
