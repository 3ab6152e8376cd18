"""By a criterion: prune, heal and recover, in one round or several."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Iterable

import torch
from torch import Tensor, nn

import sentei
from sentei.allocation import Target
from sentei.cli import show
from sentei.cli.comparing import timed
from sentei.cli.folder import Facts
from sentei.cli.pruning.cutting import calibration, cut
from sentei.cli.pruning.evaluating import evaluate_as
from sentei.cli.pruning.facts import facts_of, verdict
from sentei.cli.pruning.figures import groups_of, layers_gone, removals
from sentei.cli.pruning.floors import cut_above, floors_of
from sentei.cli.pruning.healing import heal
from sentei.cli.pruning.targets import round_target
from sentei.cli.pruning.training import recipe, train_as
from sentei.cli.pruning.work import Work
from sentei.cli.rounding import unrounded_words
from sentei.graph.history import history
from sentei.hooks import Distill

__all__ = ["features_left", "prune_in_rounds"]


def prune_in_rounds(work: Work) -> None:
    """All rounds, or those that an earlier process has left to do."""
    if "save" in work.run:
        return
    config, run = work.config, work.run
    teacher = copy.deepcopy(work.model) if config.distill else None
    numbers = range(1, config.rounds + 1)
    done = max((n for n in numbers if f"prune-{n}" in run), default=0)
    for number in numbers:
        if number < done:
            _tell(work, number)
            continue
        if number > done:
            run.once(f"prune-{number}", lambda number=number: _prune(work, number))
            # What came before is not gone back to any more.
            run.drop(f"pruned-{number - 1}", f"recover-{number - 1}")
            if teacher is None:
                run.drop("train")
        if number == done or not work.team.main:
            work.model = work.load(run.work(f"pruned-{number}"))
        _tell(work, number)
        evaluate_as(work, f"pruned-{number}")
        _recover(work, number, teacher)


def _target(work: Work, number: int) -> Target:
    """The budget of a round, of what the unpruned model costs."""
    target = work.config.budget
    assert target is not None
    if work.config.rounds == 1:
        return target
    first = work.run.stages.get("prune-1")
    whole = first["before"] if first is not None else _cost(work)
    return round_target(target, whole, number, work.config.rounds)


def _cost(work: Work) -> dict[str, int]:
    groups = sentei.analyze(work.model, **work.opened.inputs(), protect=work.config.protect)
    return dataclasses.asdict(groups.cost())


def _prune(work: Work, number: int) -> Facts:
    """Prune the model for this round, heal it, and save it as it is then."""
    config, opened = work.config, work.opened
    before = copy.deepcopy(work.model) if config.heal else None
    target = _target(work, number)
    if number == 1:
        result = cut(config, opened, work.model, target)
    else:
        floors = floors_of(groups_of(work.run), config.min_fraction)
        gone = [name for step in removals(work.run) for name in step.get("renumbering", ())]
        result = cut_above(config, opened, work.model, target, floors, gone)
        work.model = result.model
    facts = facts_of(result, config.round_to)
    began = time.perf_counter()
    facts["healed"] = (
        heal(config, before, work.model, result, calibration(config, opened))
        if before is not None
        else []
    )
    facts["seconds"]["heal"] = time.perf_counter() - began
    sentei.save(result, work.run.work(f"pruned-{number}"))
    return facts


def _recover(work: Work, number: int, teacher: nn.Module | None) -> None:
    """Train what is left, and let it learn from the unpruned model, if there is one to teach."""
    config = work.config
    last = number == config.rounds
    epochs = config.epochs if last else config.round_epochs if config.data else 0
    if epochs:
        hooks = [] if teacher is None else [_distillation(work, teacher)]
        train_as(work, f"recover-{number}", recipe(config, epochs, config.lr), hooks, number)


def _distillation(work: Work, teacher: nn.Module) -> Distill:
    config = work.config
    return Distill(
        teacher,
        weight=config.distill_weight,
        temperature=config.distill_temperature,
        features=config.distill_features,
        kept=features_left(teacher, work.model, config.distill_features),
    )


def features_left(
    teacher: nn.Module, student: nn.Module, names: Iterable[str]
) -> dict[str, Tensor]:
    """Module -> positions of the teacher's outputs that the student, pruned from it, still has.

    Both may have been pruned from something larger before. Modules without a weight of their own,
    and those that lost nothing, are left out.
    """
    found = {}
    past, more = history(teacher).kept, history(student).kept
    for name in names:
        weight = f"{name}.weight"
        if 0 not in more.get(weight, {}):
            continue
        size, kept = more[weight][0]
        before = past[weight][0][1] if 0 in past.get(weight, {}) else torch.arange(size)
        if len(kept) < len(before):
            found[name] = torch.searchsorted(before, kept)
    return found


def _tell(work: Work, number: int) -> None:
    facts, say = work.run.stages[f"prune-{number}"], work.report.line
    before, after = facts["before"], facts["after"]
    text = (
        f"{show.short(before['macs'])} → {show.short(after['macs'])} MACs, "
        f"{show.short(before['params'])} → {show.short(after['params'])} parameters"
    )
    if facts["verification"] is not None:
        text += f"; {verdict(facts['verification'])}"
    say("prune", text, sum(facts["seconds"].values()))
    if facts["timing"] is not None:
        say("", timed(facts["timing"]))
    if went := len(facts["layers"]):
        past = sum(len(work.run.stages[f"prune-{n}"]["layers"]) for n in range(1, number))
        names = layers_gone(work.run)[past : past + went]
        say("", f"whole layers taken out: {', '.join(names)}")
    for name, why in list(facts["held"].items())[:3]:
        say("", f"{name} left whole: {why}")
    if narrow := facts.get("unrounded"):
        cut_groups = sum(width["after"] < width["before"] for width in facts["groups"].values())
        say("", unrounded_words(narrow, cut_groups, work.config.round_to))
