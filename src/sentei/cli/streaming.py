"""`sentei stream`: a checkpoint pruned on disk."""

from __future__ import annotations

import os
from collections.abc import Callable

from rich.console import Console
from rich.console import Group as Lines

from sentei.cli import show
from sentei.cli.config import Config
from sentei.cli.planning import costs_table, widths_table
from sentei.cli.rounding import unrounded, unrounded_words
from sentei.graph.errors import PruneError
from sentei.sources import Source
from sentei.storage.files import few
from sentei.streaming import Streamed, prune_checkpoint

__all__ = ["stream", "stream_table"]


def stream(
    config: Config,
    out: str | os.PathLike[str],
    *,
    free: bool = False,
    screen: Console | None = None,
) -> Streamed:
    """`sentei.prune_checkpoint` with the options of a configuration.

    Args:
        free: layers may differ; the result is for `sentei.load`, whatever the network.
        screen: where a bar is shown; nowhere if None.
    """
    if config.budget is None:
        raise PruneError("how small? Give --target, such as --target params=50%")
    if config.round_to == "auto":
        raise PruneError(
            "--round-to auto measures the network as it runs; give a number, such as 8"
        )
    source = Source.of(config.model, **config.model_options)

    def run(wrote: Callable[[int, int], None] | None) -> Streamed:
        return prune_checkpoint(
            source, out, target=config.budget, weights=config.weights, criterion=config.criterion,
            allocation=config.allocation, granularity=config.granularity, protect=config.protect,
            round_to=config.round_to, min_fraction=config.min_fraction,
            uniform=False if free else None, seed=config.seed, wrote=wrote,
        )  # fmt: skip

    if screen is None:
        return run(None)
    with show.bar(screen) as progress:
        task = show.task(progress, "writing", 1.0, "MB")

        def wrote(count: int, total: int) -> None:
            progress.update(task, total=total / 1e6, advance=count / 1e6)

        return run(wrote)


def stream_table(done: Streamed, round_to: int | str | None = None) -> Lines:
    """Costs, the widths that went down most, and where the result is."""
    narrow = unrounded(done.result, round_to)
    words = unrounded_words(narrow, len(done.result.plan.widths), round_to) if narrow else ""
    left = f"Left behind, for the model has no such tensors: {few(done.ignored)}."
    return Lines(
        costs_table(done.result, "cost"),
        "",
        widths_table(done.result, "lost most"),
        *([show.escape(words)] if words else []),
        show.escape(
            f"{show.amount('bytes', done.read)} of weights became "
            f"{show.amount('bytes', done.written)} in {done.folder}. Values were cut, not compared."
        ),
        show.escape(f"Read it with {done.loads}."),
        *([show.escape(left)] if done.ignored else []),
    )
