"""One pruning as a configuration wants it, and the examples it may look at."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import sentei
from sentei.allocation import Target
from sentei.batches import batches, to_device
from sentei.cli.config import Config
from sentei.cli.opened import Opened

__all__ = ["calibration", "cut"]


def cut(
    config: Config,
    opened: Opened,
    model: nn.Module,
    target: Target | None,
    *,
    dry_run: bool = False,
) -> sentei.Result:
    """`sentei.prune` with the options of a configuration."""
    return sentei.prune(
        model,
        **opened.inputs(),
        target=target,
        criterion=config.criterion,
        allocation=config.allocation,
        granularity=config.granularity,
        protect=config.protect,
        round_to=config.round_to,
        min_fraction=config.min_fraction,
        uniform=config.uniform,
        depth=config.depth,
        data=calibration(config, opened),
        loss=opened.data.loss if opened.data is not None else None,
        seed=config.seed,
        dry_run=dry_run,
    )


def calibration(config: Config, opened: Opened) -> list[Any] | None:
    """Some training examples in batches, the same ones every time; None without data."""
    if opened.data is None:
        return None
    found, seen, size = [], 0, min(64, config.calibration)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        order = torch.Generator().manual_seed(config.seed)
        for batch in batches(opened.data.train, size, order):
            found.append(to_device(batch, opened.device))
            seen += size
            if seen >= config.calibration:
                break
    return found
