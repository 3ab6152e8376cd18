"""What can be repaired right after a pruning, before any training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

import sentei
from sentei.cli.config import Config
from sentei.recovery import compensate, merge, recalibrate, reconstruct, soften

__all__ = ["HEALS", "Wound", "heal"]


@dataclass(frozen=True, eq=False)
class Wound:
    """What a healing sees: the network before and after a pruning, and what that did.

    data: batches of training examples. softened: is `soften` to follow?
    """

    before: nn.Module
    after: nn.Module
    result: sentei.Result
    data: Any
    seed: int
    softened: bool = False


HEALS: dict[str, Callable[[Wound], object]] = {
    "compensate": lambda w: compensate(w.before, w.after, w.result.surgery, w.data),
    "merge": lambda w: merge(w.before, w.after, w.result),
    "reconstruct": lambda w: reconstruct(
        w.before, w.after, w.result.surgery, w.data, seed=w.seed, keep_norms=w.softened
    ),
    "soften": lambda w: soften(w.after, w.data),
    "recalibrate": lambda w: recalibrate(w.after, w.data),
}  # fmt: skip
"""The values of `--heal`; see `sentei.recovery`. Each changes `after` in place."""


def heal(
    config: Config, before: nn.Module, after: nn.Module, result: sentei.Result, data: Any
) -> list[str]:
    """Repair `after` in all the ways that a configuration names, in its order.

    Each draws from the seed alone. Returns what was done.
    """
    wound = Wound(before, after, result, data, config.seed, "soften" in config.heal)
    for name in config.heal:
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            HEALS[name](wound)
    return list(config.heal)
