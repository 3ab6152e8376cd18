"""The budget of one round of several."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sentei.allocation import Seconds, Target
from sentei.allocation.target import share_of
from sentei.graph.errors import PruneError

__all__ = ["check_rounds", "round_target"]

_COUNTED = ("params", "macs", "bytes", "memory")


def round_target(target: Target, whole: Mapping[str, int], number: int, rounds: int) -> Target:
    """The budget of one round of several: each takes the same share of what is left.

    limit(r) = whole · (limit / whole)^(r / rounds)

    Args:
        whole: params, macs, bytes and memory of the unpruned model.
        number: of the round, from 1; the last has the target itself.
    Raises:
        PruneError: an absolute latency, which says nothing about earlier rounds.

    >>> round_target(Target(macs=0.25), {"macs": 1000}, 1, 2)
    Target(macs=500)
    >>> round_target(Target(macs=0.25), {"macs": 1000}, 2, 2)
    Target(macs=250)
    """
    if rounds == 1:
        return target
    changed: dict[str, Any] = {}
    for field in dataclasses.fields(target):
        name, value = field.name, getattr(target, field.name)
        if value is None:
            continue
        if name in whole:
            limit = share_of(value, whole[name]) if isinstance(value, float) else value
            if number < rounds:
                ratio = min(limit / whole[name], 1.0)
                limit = math.floor(whole[name] * ratio ** (number / rounds))
            changed[name] = max(limit, 2)
        elif isinstance(value, Seconds) or not isinstance(value, float):
            raise PruneError(f"several rounds want {name} as a share, such as {name}=50%")
        else:
            # Of what the round before has left.
            changed[name] = value ** (1 / rounds)
    return replace(target, **changed)


def check_rounds(target: Target, rounds: int) -> None:
    """Whether a target can be cut into rounds, of whatever model.

    Raises:
        PruneError: it cannot; see `round_target`.
    """
    round_target(target, dict.fromkeys(_COUNTED, 1 << 40), 1, rounds)
