"""Every training of a run. Its state is on disk: after a kill it goes on from there."""

from __future__ import annotations

from typing import Any

from torch import nn

from sentei.cli.config import Config
from sentei.cli.folder import Facts
from sentei.cli.pruning.work import Work
from sentei.methods import by_name
from sentei.recovery.resumable import train_resumably
from sentei.recovery.train import Log, Recipe
from sentei.tasks import failing

__all__ = ["recipe", "resumable", "train_as", "train_first"]

# What a training is called while its bar runs, by the head of its stage's name.
_CALLED = {"train": "training", "training": "training", "recover": "recovering"}


def train_first(work: Work) -> None:
    """Train the unpruned model, where that is asked for and its weights are still needed."""
    config = work.config
    starts = by_name(config.method).starts if config.method is not None else "trained"
    if config.train_epochs and starts != "initial" and not _past_it(work):
        train_as(work, "train", recipe(config, config.train_epochs, config.train_lr))


def _past_it(work: Work) -> bool:
    """Whether the weights of what is next come from a later stage.

    A run that distils wants the trained model again, to learn from.
    """
    return "save" in work.run or ("prune-1" in work.run and not work.config.distill)


def recipe(config: Config, epochs: int, lr: float) -> Recipe:
    """How a configuration wants to train."""
    return Recipe(
        epochs,
        lr,
        config.batch_size,
        optimizer=config.optimizer,
        weight_decay=config.weight_decay,
        schedule=config.schedule,
    )


def train_as(work: Work, stage: str, how: Recipe, hooks: Any = (), number: int = 0) -> None:
    """Train the model as a stage of its own, and tell how it went.

    Args:
        number: of the round, so that each draws other orders and noise.
    """
    data = work.opened.data
    assert data is not None
    seed = 1000 * number + work.config.seed
    log = resumable(
        work, stage, work.model, data.train, how, loss=data.loss, hooks=hooks, seed=seed
    )
    found: Facts = {"losses": list(log.losses), "steps": log.steps, "seconds": log.seconds}
    facts = work.run.once(stage, lambda: found)
    losses = facts["losses"]
    work.report.line(
        stage.partition("-")[0],
        f"{len(losses)} epochs, loss {losses[0]:.4f} → {losses[-1]:.4f}"
        if len(losses) > 1
        else f"1 epoch, loss {losses[0]:.4f}",
        facts["seconds"],
    )


def resumable(
    work: Work, name: str, model: nn.Module, data: Any, how: Recipe, **options: Any
) -> Log:
    """Train a model in place, from the state of that name where there is one.

    All processes come out with the same weights.
    """
    team = work.team
    assert work.opened.data is not None
    what = _CALLED[name.partition("-")[0]]
    words = f"{what} on {work.opened.data.name}"
    with work.report.bar(what, how.steps(data), "steps") as tick, failing(words):
        log = train_resumably(
            work.run.work(name),
            model,
            data,
            how,
            every=work.config.checkpoint,
            tick=lambda done, total, note: tick(done, note),
            accelerator=team.accelerator,
            sharded=team.sharded,
            **options,
        )
    if team.accelerator is not None:
        team.accelerator.free_memory()  # wrappers and optimisers of this training
        team.agree(model)
    return log
