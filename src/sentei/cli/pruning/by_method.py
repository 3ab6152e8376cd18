"""By a published method: it decides what goes and when to train; the run gives it the means."""

from __future__ import annotations

import itertools
from typing import Any

from torch import nn

from sentei.cli import show
from sentei.cli.folder import Facts
from sentei.cli.pruning.facts import facts_of
from sentei.cli.pruning.training import recipe, resumable
from sentei.cli.pruning.work import Work
from sentei.methods import Outcome, Setting, apply, by_name
from sentei.recovery.train import Log, Recipe
from sentei.storage.checkpoint import load_checkpoint

__all__ = ["prune_by_method"]


def prune_by_method(work: Work) -> None:
    """Carry the method out.

    After a kill it begins anew, and each of its trainings that was finished is put in place rather
    than done again.
    """
    if "save" in work.run:
        return
    method = by_name(work.config.method or "")
    outcome = apply(method, _setting(work), **work.config.method_options)
    work.team.agree(work.model)
    work.masks = outcome.masks
    if "method" not in work.run:
        work.run.record("method", _facts(method.id, outcome))
    if outcome.masks is not None and work.team.main:
        outcome.masks.save(work.run.folder / "masks.safetensors")
    _tell(work)


def _setting(work: Work) -> Setting:
    config, data = work.config, work.opened.data
    return Setting(
        work.model,
        data.train if data is not None else None,
        data.loss if data is not None else None,
        density=None if config.sparsity is None else 1 - config.sparsity,
        target=config.budget,
        example=work.opened.example,
        recipe=recipe(config, config.train_epochs or config.epochs, config.train_lr),
        tuning=recipe(config, config.epochs, config.lr),
        initial=load_checkpoint(work.run.work("initial")),
        calibration=config.calibration,
        protect=tuple(config.protect),
        seed=config.seed,
        trainer=_trainer(work),
    )


def _trainer(work: Work) -> Any:
    """How the method's trainings are done: by number, so that each finds its own state again."""
    numbers = itertools.count(1)

    def train(model: nn.Module, data: Any, how: Recipe, **options: Any) -> Log:
        for name in ("progress", "accelerator"):  # the run's own
            options.pop(name, None)
        return resumable(work, f"training-{next(numbers)}", model, data, how, **options)

    return train


def _facts(name: str, outcome: Outcome) -> Facts:
    facts: Facts = {
        "method": name,
        "weights": outcome.weights,
        "kept": outcome.kept,
        "params": outcome.params,
        "nonzeros": outcome.nonzeros,
        "seconds": outcome.seconds,
        "steps": outcome.steps,
        "losses": [list(log.losses) for log in outcome.logs],
    }
    if outcome.result is not None:
        facts["removed"] = facts_of(outcome.result)
    return facts


def _tell(work: Work) -> None:
    facts = work.run.stages["method"]
    if work.masks is not None:
        text = (
            f"{facts['kept']:,} of {facts['weights']:,} weights stay "
            f"({show.percent(facts['kept'], facts['weights'])}), the others are zero"
        )
    else:
        before, after = facts["removed"]["before"], facts["removed"]["after"]
        text = f"{show.short(before['macs'])} → {show.short(after['macs'])} MACs"
    work.report.line("method", f"{facts['method']}: {text}", facts["seconds"])
