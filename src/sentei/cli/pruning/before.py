"""What comes first: what would be refused later is refused now, and the start is written down."""

from __future__ import annotations

import dataclasses
import time

from sentei.cli import show
from sentei.cli.folder import Facts
from sentei.cli.opened import shapes
from sentei.cli.pruning.cutting import cut
from sentei.cli.pruning.work import Work
from sentei.cli.team import lonely
from sentei.graph.errors import PruneError, closest
from sentei.storage.checkpoint import load_checkpoint, save_checkpoint

__all__ = ["introduce", "rehearse", "start"]

_FEW = 64  # examples show whether a criterion can score this model at all


def rehearse(work: Work) -> None:
    """What would be refused after hours of training is refused now.

    Raises:
        PruneError: a module that is not there, weights that are no numbers or are all frozen, a
            target out of reach, a criterion that cannot score this model.
    """
    config, modules = work.config, dict(work.model.named_modules())
    for name in config.distill_features:
        if name not in modules:
            raise PruneError(
                f"--distill-features: there is no module {name!r}; {closest(name, modules)}"
            )
    for name, tensor in work.model.named_parameters():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise PruneError(f"parameter {name!r} holds NaN or infinite values; mend it first")
    trains = config.data is not None and (config.epochs or config.train_epochs)
    if trains and not any(p.requires_grad for p in work.model.parameters()):
        raise PruneError(
            f"{work.opened.source} has nothing to train: no parameter has requires_grad=True; "
            "--epochs 0 prunes it as it is"
        )
    if config.method is None and not config.depth:  # with layers, more can be reached
        few = {"allocation": "global", "calibration": min(config.calibration, _FEW)}
        cut(config.model_copy(update=few), work.opened, work.model, config.budget, dry_run=True)


def introduce(work: Work) -> None:
    """Tell what is being worked on."""
    opened, say = work.opened, work.report.line
    count = sum(p.numel() for p in opened.model.parameters())
    say(
        "model", f"{opened.source}, {show.short(count)} parameters, input "
        f"{shapes(opened.example)}, on {opened.device}"
    )  # fmt: skip
    if opened.data is not None:
        train, validation, test = opened.data.counts
        say(
            "data", f"{opened.data.name}: {train:,} to train on, {validation:,} to choose by, "
            f"{test:,} to test on"
        )  # fmt: skip
    else:
        say("data", "none given: nothing is evaluated, and nothing trained")
    for note in opened.notes:
        if not note.startswith("validation:"):  # the counts say it
            say("", note)
    if lonely():
        say(
            "", "accelerate launch has started one process of those it was asked for: give it "
            "--multi_gpu (on CPUs, too), or use --processes"
        )  # fmt: skip


def start(work: Work) -> None:
    """Keep the weights everything starts from, whatever the builder draws next time.

    Raises:
        PruneError: a run is gone on with, and its model or data are not what they were.
    """
    run, opened, path = work.run, work.opened, work.run.work("initial")
    found = {
        "source": dataclasses.asdict(opened.source),
        "examples": None if opened.data is None else list(opened.data.counts),
    }

    def begin() -> Facts:
        save_checkpoint(path, work.model.state_dict())
        return {"began": time.time(), "inputs": found}

    new = "start" not in run
    first = run.once("start", begin)["inputs"]

    def compare() -> None:
        for what, words in (("source", "the model"), ("examples", "the data")):
            if first[what] != found[what]:
                raise PruneError(
                    f"{words} is not what it was when the run in {run.folder} was started; put it "
                    "back, or begin anew in another --out"
                )

    work.team.together(compare)
    if (not new or not work.team.main) and path.exists():
        work.model.load_state_dict(load_checkpoint(path))
