"""`sentei prune`: one run from the unpruned model to the saved, verified and timed small one.

Every stage leaves its files, then is written into the journal. What is done is never done again;
what was under way when the process died is repeated from the last state on disk, and comes out the
same: orders, noise and scores depend on the seed alone.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn

import sentei
from sentei.allocation import Seconds, Target
from sentei.allocation.stopwatch import WallClock
from sentei.allocation.table import machine
from sentei.allocation.target import share_of
from sentei.batches import batches, to_device
from sentei.cli import show
from sentei.cli.comparing import timed
from sentei.cli.config import Config
from sentei.cli.folder import ANSWERS, CONFIG, MODEL, RESULT, Facts, Run, read_result
from sentei.cli.opened import Opened, open_all, shapes
from sentei.cli.team import lonely, team_of, world
from sentei.graph.errors import PruneError, closest
from sentei.graph.history import history
from sentei.graph.table import reasons
from sentei.hooks import Distill
from sentei.methods import Setting, apply, by_name
from sentei.recovery import compensate, merge, recalibrate, reconstruct
from sentei.recovery.resumable import train_resumably
from sentei.recovery.train import OPTIMIZERS, SCHEDULES, Log, Recipe
from sentei.report import describe, layer_seconds
from sentei.report import write as write_page
from sentei.storage.checkpoint import load_checkpoint, save_checkpoint
from sentei.storage.recipe import encode
from sentei.tasks import evaluate, failing

__all__ = [
    "HEALS", "Quiet", "Talking", "answers", "check", "cut", "facts_of", "features_left", "inputs",
    "prune", "round_target",
]  # fmt: skip


class Quiet:
    """Tells nobody. What `prune` uses when it is called from Python."""

    show_bars = False

    def line(self, label: str, text: str, spent: float | None = None) -> None:
        """A stage is done."""

    @contextmanager
    def bar(self, what: str, total: float, unit: str) -> Iterator[Callable[[float, str], None]]:
        """Something long begins; call what is given with how much is done, and a note."""
        yield lambda done, note="": None


class Talking(Quiet):
    """Tells a person: a line for each stage, a bar for what takes long."""

    def __init__(self, screen: Console) -> None:
        self.screen = screen
        self.progress: Progress | None = None

    def line(self, label: str, text: str, spent: float | None = None) -> None:
        show.line(self.screen, label, text, spent)

    @contextmanager
    def bar(self, what: str, total: float, unit: str) -> Iterator[Callable[[float, str], None]]:
        with show.bar(self.screen) as progress:
            task = show.task(progress, what, total, unit)
            yield lambda done, note="": progress.update(task, completed=done, note=note)


def prune(
    config: Config | None,
    out: str | os.PathLike[str],
    *,
    resume: bool = False,
    report: Quiet | None = None,
) -> Facts:
    """Prune a model as a configuration says, in a folder that can be gone on with.

    Trace, baseline evaluation, score, allocate, prune, recover, evaluate, verify, time, save,
    report. See `sentei.cli.folder` for what is in the folder afterwards.

    Args:
        config: what to do; not needed to resume.
        out: the folder; new or empty, or with `resume` one of an earlier run.
        report: who is told how it goes; nobody by default.
    Returns:
        what `OUT/result.json` holds.
    Raises:
        PruneError: it cannot be done as asked; says why.
    """
    resolved = None if config is None else _resolved(config)
    if resolved is not None:
        check(resolved)
    elif not resume:
        raise PruneError("which model? Give MODEL, or --config")
    with team_of(resolved or Run.configuration(out)) as team:
        if report is None or not team.main:
            report = Quiet()
        mine: list[Run] = []  # the lock is the main process's

        def begin() -> Facts:
            mine.append(_open(resolved, out, resume))
            return mine[0].told()

        told = team.lead(begin)
        run = mine[0] if mine else Run.following(told)
        run.team = team
        with run:
            if "done" in run and (run.folder / RESULT).is_file():
                return team.lead(lambda: read_result(out))
            try:
                return _Work(run, report).go()
            except Exception:
                if not run.stages:  # nothing was done yet: leave nothing behind
                    run.undo()
                raise


def _open(config: Config | None, out: str | os.PathLike[str], resume: bool) -> Run:
    if not (resume and (config is None or (Path(out) / CONFIG).exists())):
        assert config is not None
        return Run.start(out, config)
    run = Run.resume(out)
    differs = [
        n for n in Config.model_fields
        if config is not None and getattr(config, n) != getattr(run.config, n)
    ]  # fmt: skip
    if differs:
        run.close()
        raise PruneError(
            f"the run in {out} was started with other options ({', '.join(differs)}); "
            "leave them out to go on with it, or give another --out"
        )
    return run


def _resolved(config: Config) -> Config:
    """With everything filled in that the machine or the launcher decides, and paths that hold from
    anywhere."""
    from sentei.cli.config import absolute
    from sentei.cli.opened import device_of

    sharded = os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"
    return config.model_copy(
        update={
            "model": absolute(config.model),
            "data": absolute(config.data),
            "weights": absolute(config.weights),
            "device": str(device_of(config.device)),
            "threads": config.threads or torch.get_num_threads(),
            "epochs": config.epochs if config.data else 0,
            "precision": config.precision or os.environ.get("ACCELERATE_MIXED_PRECISION") or "no",
            "processes": world() if config.processes == 1 else config.processes,
            "parallel": config.parallel or ("fsdp" if sharded else "ddp"),
        }
    )


# Structures that say themselves how much goes, or may.
_FIXED = ("n:m", "block")
_COUNTED = ("params", "macs", "bytes", "memory")
HEALS = ("compensate", "merge", "reconstruct", "recalibrate")


# What a method decides by itself.
_BY_CRITERION = (
    "criterion", "allocation", "granularity", "round_to", "min_fraction", "uniform", "depth",
    "rounds", "round_epochs", "heal", "distill", "distill_features", "distill_weight",
    "distill_temperature",
)  # fmt: skip


def _given(config: Config, fields: Iterable[str]) -> str:
    """The first of these options that is not at its default, as it is written; else nothing."""
    for field in fields:
        if getattr(config, field) != Config.model_fields[field].default:
            return f"--{field.replace('_', '-')}"
    return ""


def check(config: Config) -> None:
    """What can be said before anything is built."""
    for what, value, known in (
        ("optimizer", config.optimizer, OPTIMIZERS),
        ("schedule", config.schedule, SCHEDULES),
    ):
        if value not in known:
            raise PruneError(f"unknown {what} {value!r}; {closest(value, known)}")
    if config.method is not None:
        method = by_name(config.method)
        method.check_options(config.method_options)
        if "graph" in method.needs:
            raise PruneError(
                f"{method.id} prunes the edges of a graph as well, which a model's folder cannot "
                f"hold: use sentei.prune(..., method={method.id!r}) in Python"
            )
        if "data" in method.needs and config.data is None:
            raise PruneError(f"method {method.id!r} needs data: give --data, such as --data digits")
        if config.sparsity is None and method.structure == "weight":
            raise PruneError(
                f"method {method.id!r} removes single weights: give --sparsity, the share of "
                "weights to remove, such as --sparsity 0.9"
            )
        if config.budget is None and (
            method.structure == "channel"
            or (config.sparsity is None and method.structure not in _FIXED)
        ):
            raise PruneError(
                f"method {method.id!r} removes {method.structure}s: give --target, such as "
                "macs=50%"
                + ("" if method.structure == "channel" else " (some count weights: --sparsity)")
            )
        other = "sparsity" if method.structure == "channel" else "target"
        if method.structure in ("channel", "weight") and getattr(config, other):
            raise PruneError(
                f"method {method.id!r} removes {method.structure}s: leave out --{other}"
            )
        if idle := _given(config, _BY_CRITERION):
            raise PruneError(
                f"{idle} goes without --method; a method brings its own parts "
                f"(`sentei methods {method.id}` shows its options)"
            )
        return
    from sentei.allocation import ALLOCATIONS, GRANULARITIES
    from sentei.criteria import criterion

    criterion(config.criterion)
    if config.method_options:
        raise PruneError("--option goes with a --method")
    for what, value, known in (
        ("allocation", config.allocation, ALLOCATIONS),
        ("granularity", config.granularity, GRANULARITIES),
        *(("heal", heal, HEALS) for heal in config.heal),
    ):
        if value not in known:
            raise PruneError(f"unknown {what} {value!r}; {closest(str(value), known)}")
    if config.budget is None:
        raise PruneError("how small? Give --target, such as --target macs=50%")
    if config.sparsity is not None:
        raise PruneError("--sparsity goes with a --method that removes single weights")
    distilling = ("distill_features", "distill_weight", "distill_temperature")
    if not config.distill and (idle := _given(config, distilling)):
        raise PruneError(f"{idle} goes with --distill")
    if config.rounds == 1 and (idle := _given(config, ["round_epochs"])):
        raise PruneError(f"{idle} goes with --rounds")
    if config.rounds > 1:  # whether all targets can be cut into rounds
        round_target(config.budget, dict.fromkeys(_COUNTED, 1 << 40), 1, config.rounds)
    for what, given in (("--heal", config.heal), ("--distill", config.distill)):
        if given and config.data is None:
            raise PruneError(f"{what} needs data: give --data, such as --data digits")
    if config.train_epochs and config.data is None:
        raise PruneError("--train-epochs needs data: give --data, such as --data digits")


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
        **inputs(opened),
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


class _Work:
    """The stages, in order."""

    def __init__(self, run: Run, report: Quiet) -> None:
        self.run, self.config, self.report, self.team = run, run.config, report, run.team

    def go(self) -> Facts:
        self.opened = self.team.together(lambda: open_all(self.config))
        self.model = self.opened.model
        if "start" not in self.run:
            self.team.lead(self._rehearse)
        self._introduce()
        self._start()
        self._train()
        self._evaluate("baseline")
        if self.config.method is not None:
            self._method()
        else:
            self._rounds()
        self._evaluate("final")
        self._save()
        self._verify()
        self._time()
        return self._finish()

    # -- before pruning -------------------------------------------------------------------------
    def _rehearse(self) -> None:
        """What would be refused after hours of training is refused now."""
        config, modules = self.config, dict(self.model.named_modules())
        for name in config.distill_features:
            if name not in modules:
                raise PruneError(
                    f"--distill-features: there is no module {name!r}; {closest(name, modules)}"
                )
        for name, tensor in self.model.named_parameters():
            if tensor.is_floating_point() and not tensor.isfinite().all():
                raise PruneError(f"parameter {name!r} holds NaN or infinite values; mend it first")
        if config.method is None and not config.depth:  # with layers, more can be reached
            plain = {"criterion": "l2", "allocation": "global"}
            cut(
                config.model_copy(update=plain), replace(self.opened, data=None), self.model,
                self._target(1), dry_run=True,
            )  # fmt: skip

    def _introduce(self) -> None:
        opened = self.opened
        count = sum(p.numel() for p in opened.model.parameters())
        self.report.line(
            "model", f"{opened.source}, {show.short(count)} parameters, input "
            f"{shapes(opened.example)}, on {opened.device}"
        )  # fmt: skip
        if opened.data is not None:
            train, validation, test = opened.data.counts
            self.report.line(
                "data", f"{opened.data.name}: {train:,} to train on, {validation:,} to choose by, "
                f"{test:,} to test on"
            )  # fmt: skip
        notes = [n for n in opened.notes if not n.startswith("validation:")]  # the counts say it
        if lonely():
            notes.append(
                "accelerate launch has started one process of those it was asked for: give it "
                "--multi_gpu (on CPUs, too), or use --processes"
            )
        for note in notes:
            self.report.line("", note)

    def _start(self) -> None:
        """The weights everything starts from: built once, whatever the builder draws next time."""
        path = self.run.work("initial")
        opened = self.opened
        inputs = {
            "source": dataclasses.asdict(opened.source),
            "examples": None if opened.data is None else list(opened.data.counts),
        }

        def begin() -> Facts:
            save_checkpoint(path, self.model.state_dict())
            return {"began": time.time(), "inputs": inputs}

        new = "start" not in self.run
        before = self.run.once("start", begin)["inputs"]

        def compare() -> None:
            for what, words in (("source", "the model"), ("examples", "the data")):
                if before[what] != inputs[what]:
                    raise PruneError(
                        f"{words} is not what it was when the run in {self.run.folder} was "
                        "started; put it back, or begin anew in another --out"
                    )

        self.team.together(compare)
        if (not new or not self.team.main) and path.exists():
            self.model.load_state_dict(load_checkpoint(path))

    def _train(self) -> None:
        config = self.config
        starts = by_name(config.method).starts if config.method is not None else "trained"
        if not config.train_epochs or starts == "initial" or self._past_recovery():
            return
        log = self._training("train", self._recipe(config.train_epochs, config.train_lr))
        self._trained("train", log)

    def _past_recovery(self) -> bool:
        """Whether the weights of what is next come from a later stage than training."""
        return "save" in self.run or ("prune-1" in self.run and not self._wants_original())

    def _wants_original(self) -> bool:
        return bool(self.config.distill)

    def _evaluate(self, stage: str) -> Facts:
        if self.opened.data is None:
            return {}
        data, began, old = self.opened.data, time.perf_counter(), stage in self.run

        def do() -> Facts:
            total = data.counts[2]
            with self.report.bar("evaluating", total, "examples") as tick:
                seen = 0

                def count(n: int) -> None:
                    nonlocal seen
                    seen += n
                    tick(seen)

                with failing(f"evaluating on {data.name}"):
                    score = evaluate(self.model, data.test, data, tick=count)
            return dataclasses.asdict(score)

        found = self.run.once(stage, do)
        words = f"{data.metric.name} {data.metric.words(found['value'])}, loss {found['loss']:.4f}"
        label = stage.partition("-")[0]
        self.report.line(label, words, None if old else time.perf_counter() - began)
        return found

    # -- by a criterion -------------------------------------------------------------------------
    def _rounds(self) -> None:
        config = self.config
        if "save" in self.run:
            return
        self.original = copy.deepcopy(self.model) if config.distill else None
        done = max((r for r in range(1, config.rounds + 1) if f"prune-{r}" in self.run), default=0)
        for number in range(1, config.rounds + 1):
            stage = f"prune-{number}"
            if number == done:
                self.model = self._load(self.run.work(f"pruned-{number}"))
            elif number > done:
                self.run.once(stage, lambda number=number: self._prune(number))
                if not self.team.main:
                    self.model = self._load(self.run.work(f"pruned-{number}"))
                # What came before is not gone back to any more.
                self.run.drop(f"pruned-{number - 1}", f"recover-{number - 1}")
                if not config.distill:
                    self.run.drop("train")
            self._tell_pruned(stage)
            if number < done:
                continue
            self._evaluate(f"pruned-{number}")
            last = number == config.rounds
            epochs = config.epochs if last else config.round_epochs if config.data else 0
            if epochs:
                hooks = [self._distillation()] if self.original is not None else []
                log = self._training(
                    f"recover-{number}", self._recipe(epochs, config.lr), hooks, seed=number
                )
                self._trained(f"recover-{number}", log)

    def _prune(self, number: int) -> Facts:
        config, opened = self.config, self.opened
        before = copy.deepcopy(self.model) if config.heal else None
        result = cut(config, opened, self.model, self._target(number))
        began = time.perf_counter()
        healed = self._heal(before, result) if before is not None else []
        facts = facts_of(result) | {"healed": healed}
        facts["seconds"]["heal"] = time.perf_counter() - began
        sentei.save(result, self.run.work(f"pruned-{number}"))
        return facts

    def _distillation(self) -> Distill:
        config = self.config
        assert self.original is not None
        return Distill(
            self.original,
            weight=config.distill_weight,
            temperature=config.distill_temperature,
            features=config.distill_features,
            kept=features_left(self.original, self.model, config.distill_features),
        )

    def _target(self, number: int) -> Target:
        target = self.config.budget
        assert target is not None
        first = self.run.stages.get("prune-1")
        if self.config.rounds == 1:
            return target
        if first is None:
            whole = dataclasses.asdict(
                sentei.analyze(
                    self.model, **inputs(self.opened), protect=self.config.protect
                ).cost()
            )
        else:
            whole = first["before"]
        return round_target(target, whole, number, self.config.rounds)

    def _heal(self, before: nn.Module, result: sentei.Result) -> list[str]:
        data = calibration(self.config, self.opened)
        for heal in self.config.heal:
            with torch.random.fork_rng():
                torch.manual_seed(self.config.seed)
                if heal == "compensate":
                    compensate(before, self.model, result.surgery, data)
                elif heal == "merge":
                    merge(before, self.model, result)
                elif heal == "reconstruct":
                    reconstruct(before, self.model, result.surgery, data, seed=self.config.seed)
                else:
                    recalibrate(self.model, data)
        return list(self.config.heal)

    def _tell_pruned(self, stage: str) -> None:
        facts = self.run.stages[stage]
        before, after = facts["before"], facts["after"]
        text = (
            f"{show.short(before['macs'])} → {show.short(after['macs'])} MACs, "
            f"{show.short(before['params'])} → {show.short(after['params'])} parameters"
        )
        check = facts["verification"]
        if check is not None:
            text += f"; {_verdict(check)}"
        self.report.line("prune", text, sum(facts["seconds"].values()))
        if facts["timing"] is not None:
            self.report.line("", timed(facts["timing"]))
        if facts["layers"]:
            self.report.line("", f"whole layers taken out: {', '.join(facts['layers'])}")
        for name, why in list(facts["held"].items())[:3]:
            self.report.line("", f"{name} left whole: {why}")

    # -- by a method ----------------------------------------------------------------------------
    def _method(self) -> None:
        if "save" in self.run:
            return
        config, opened = self.config, self.opened
        method = by_name(config.method or "")
        self.number = 0
        epochs = config.train_epochs or config.epochs
        setting = Setting(
            self.model,
            opened.data.train if opened.data is not None else None,
            opened.data.loss if opened.data is not None else None,
            density=None if config.sparsity is None else 1 - config.sparsity,
            target=config.budget,
            example=opened.example,
            recipe=self._recipe(epochs, config.train_lr),
            tuning=self._recipe(config.epochs, config.lr),
            initial=load_checkpoint(self.run.work("initial")),
            calibration=config.calibration,
            protect=tuple(config.protect),
            seed=config.seed,
            trainer=self._trainer,
        )
        old = "method" in self.run
        outcome = apply(method, setting, **config.method_options)
        self.team.agree(self.model)
        self.masks = outcome.masks
        facts: Facts = {
            "method": method.id,
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
        if not old:
            self.run.record("method", facts)
        if outcome.masks is not None:
            if self.team.main:
                outcome.masks.save(self.run.folder / "masks.safetensors")
            text = (
                f"{method.id}: {outcome.kept:,} of {outcome.weights:,} weights stay "
                f"({show.percent(outcome.kept, outcome.weights)}), the others are zero"
            )
        else:
            removed = facts["removed"]
            text = (
                f"{method.id}: {show.short(removed['before']['macs'])} → "
                f"{show.short(removed['after']['macs'])} MACs"
            )
        self.report.line("method", text, self.run.stages["method"]["seconds"])

    def _trainer(self, model: nn.Module, data: Any, recipe: Recipe, **options: Any) -> Log:
        """A method's trainings, one after the other; those that are done are put in place."""
        for name in ("progress", "accelerator"):
            options.pop(name, None)
        self.number += 1
        return self._resumable(f"training-{self.number}", model, data, recipe, **options)

    # -- training -------------------------------------------------------------------------------
    def _recipe(self, epochs: int, lr: float) -> Recipe:
        config = self.config
        return Recipe(
            epochs,
            lr,
            config.batch_size,
            optimizer=config.optimizer,
            weight_decay=config.weight_decay,
            schedule=config.schedule,
        )

    def _training(self, name: str, recipe: Recipe, hooks: Any = (), seed: int = 0) -> Log:
        data = self.opened.data
        assert data is not None
        seed = 1000 * seed + self.config.seed
        return self._resumable(
            name, self.model, data.train, recipe, loss=data.loss, hooks=hooks, seed=seed
        )

    def _resumable(
        self, name: str, model: nn.Module, data: Any, recipe: Recipe, **options: Any
    ) -> Log:
        what = {"train": "training", "training": "training"}.get(name.split("-")[0], "recovering")
        team = self.team
        assert self.opened.data is not None
        words = f"{what} on {self.opened.data.name}"
        with self.report.bar(what, recipe.steps(data), "steps") as tick, failing(words):
            log = train_resumably(
                self.run.work(name),
                model,
                data,
                recipe,
                every=self.config.checkpoint,
                tick=lambda done, total, note: tick(done, note),
                accelerator=team.accelerator,
                sharded=team.sharded,
                **options,
            )
        if team.accelerator is not None:
            team.accelerator.free_memory()  # wrappers and optimisers of this training
            team.agree(model)
        return log

    def _trained(self, stage: str, log: Log) -> None:
        facts = {"losses": list(log.losses), "steps": log.steps, "seconds": log.seconds}
        facts = self.run.once(stage, lambda: facts)
        losses = facts["losses"]
        self.report.line(
            stage.partition("-")[0],
            f"{len(losses)} epochs, loss {losses[0]:.4f} → {losses[-1]:.4f}"
            if len(losses) > 1
            else f"1 epoch, loss {losses[0]:.4f}",
            facts["seconds"],
        )

    # -- afterwards -----------------------------------------------------------------------------
    def _save(self) -> None:
        folder = self.run.folder / MODEL

        def do() -> Facts:
            self.model.eval()
            masks = getattr(self, "masks", None)
            sentei.save(self.model, folder, source=self.opened.source.origin(), masks=masks or ())
            args, kwargs = self.opened.call()
            inputs = [list(args), dict(kwargs)]
            # What was saved is compared with this, today and by `sentei verify` later.
            save_checkpoint(
                self.run.folder / ANSWERS,
                {"inputs": inputs, "outputs": answers(self.model, inputs)},
            )
            return {"stored": (folder / "model.safetensors").stat().st_size}

        facts = self.run.once("save", do)
        self.report.line("save", f"{folder}, {show.amount('stored', facts['stored'])}")

    def _verify(self) -> None:
        def do() -> Facts:
            again = self._load(self.run.folder / MODEL)
            stored = load_checkpoint(self.run.folder / ANSWERS)
            wanted, given = stored["outputs"], answers(again, stored["inputs"])
            equal = len(wanted) == len(given) and all(
                torch.equal(a, b) for a, b in zip(wanted, given, strict=True)
            )
            if not equal:
                raise PruneError(
                    f"the model saved in {self.run.folder / MODEL} does not answer as it did "
                    "before saving; please report this model"
                )
            return {"same": True}

        self.run.once("verify", do)
        self.report.line("verify", "loaded into a fresh model it answers the same, bit for bit")

    def _time(self) -> None:
        def do() -> Facts:
            small = self._load(self.run.folder / MODEL)
            whole = self.opened.before()
            call = self.opened.call()
            before, after = WallClock().models([whole, small], call)
            groups = sentei.analyze(whole, **inputs(self.opened), protect=self.config.protect)
            widths = {name: width["after"] for name, width in groups_of(self.run).items()}
            return {
                "before": before,
                "after": after,
                "threads": torch.get_num_threads(),
                "layers": layer_seconds([whole, small], call),
                "network": describe(groups, {n: w for n, w in widths.items() if n in groups}),
                "zeros": sentei.zeros_report(small).verdict if _masked(self.run) else None,
            }

        facts = self.run.once("time", do)
        text = (
            f"{show.seconds(facts['before'])} → {show.seconds(facts['after'])} for one forward pass"
        )
        if facts.get("zeros") is None:
            text += f", {facts['before'] / facts['after']:.2f} times as fast"
        else:
            text += "; zeros are computed like other numbers"
        self.report.line("time", text)

    def _load(self, folder: Path) -> nn.Module:
        return sentei.load(folder, model=self.opened.fresh()).to(self.opened.device).eval()

    def _finish(self) -> Facts:
        def do() -> Facts:
            result = result_of(self.run, self.opened)
            self.run.finish(result)
            self.report.line("report", str(write_page(self.run.folder)))
            return result

        return self.team.lead(do)


def facts_of(result: sentei.Result) -> Facts:
    """What a pruning did, as plain JSON."""
    widths = {
        name: {"kind": g.kind, "before": g.size, "after": result.plan.widths.get(name, g.size)}
        for name, g in result.groups.items()
    }
    check, timing = result.verification, result.timing
    return {
        "asked": {k: float(v) for k, v in result.asked.items()},
        "reached": {k: float(v) for k, v in result.reached.items()},
        "before": dataclasses.asdict(result.before),
        "after": dataclasses.asdict(result.after),
        "groups": widths,
        "pinned": [{"because": why, "groups": names} for why, names in reasons(result.groups)],
        "held": dict(result.held),
        "layers": [layer.name for layer in result.layers],
        "units": _units(result.surgery.units) if result.surgery is not None else {},
        "verification": None if check is None else _checked(check),
        "timing": None if timing is None else dataclasses.asdict(timing),
        "seconds": dict(result.seconds),
    }


def _units(units: Mapping[str, Tensor]) -> dict[str, Any]:
    """group -> kept units as runs; a list of them where each outer unit keeps others."""
    return {
        name: encode(kept) if kept.dim() == 1 else [encode(row) for row in kept]
        for name, kept in units.items()
    }


def _checked(check: Any) -> Facts:
    return dataclasses.asdict(check) | {"passed": check.passed}


def _verdict(check: Mapping[str, Any]) -> str:
    close = f"within {check['error']:.0e}" if check["error"] else "to the last digit"
    words = f"equal to the silenced original {close}"
    return (
        words if check["conclusive"] else f"{words} (the example does not show the removed units)"
    )


def calibration(config: Config, opened: Opened) -> Any:
    """Some training examples for criteria, the same ones every time; None without data."""
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


def _masked(run: Run) -> bool:
    """Whether a method kept zeros."""
    return "removed" not in run.stages.get("method", {"removed": None})


def removals(run: Run) -> list[Facts]:
    """What each removal of units did, in order."""
    method = run.stages.get("method", {})
    if "removed" in method:
        return [method["removed"]]
    return [run.stages[s] for s in _numbered(run.stages, "prune")]


def groups_of(run: Run) -> Facts:
    """group -> its kind, and its width before the first removal and after the last."""
    groups: Facts = {}
    for step in removals(run):
        for name, width in step["groups"].items():
            groups.setdefault(name, dict(width))["after"] = width["after"]
    return groups


def result_of(run: Run, opened: Opened) -> Facts:
    """All figures of a run."""
    stages, config = run.stages, run.config
    removed = removals(run)
    cost: Facts = {}
    if removed:
        cost = {"before": removed[0]["before"], "after": removed[-1]["after"]}
    else:
        count = sum(p.numel() for p in opened.model.parameters())
        cost = {"before": {"params": count}, "after": {"params": count}}
    training = [
        {"stage": name, "losses": stages[name]["losses"]}
        for name in ("train", *_numbered(stages, "recover"))
        if name in stages
    ]
    data = opened.data
    return {
        "format": "sentei-result",
        "version": 1,
        "model": str(opened.source),
        "data": None if data is None else data.name,
        "notes": list(opened.notes),
        "metric": None if data is None else {
            "name": data.metric.name,
            "higher_is_better": data.metric.higher_is_better,
            "percent": data.metric.percent,
        },
        "config": config.model_dump(),
        "asked": removed[-1]["asked"] if removed else {},
        "reached": removed[-1]["reached"] if removed else {},
        "baseline": stages.get("baseline"),
        "pruned": [stages[s] for s in _numbered(stages, "pruned")],
        "final": stages.get("final"),
        "cost": cost,
        "masks": {k: stages["method"][k] for k in ("weights", "kept", "params", "nonzeros")}
        if _masked(run) else None,
        "zeros": stages["time"].get("zeros"),
        "latency": {k: stages["time"][k] for k in ("before", "after", "threads")},
        "layer_seconds": stages["time"]["layers"],
        "network": stages["time"]["network"],
        "stored": stages["save"]["stored"],
        "groups": groups_of(run),
        "timing": [step["timing"] for step in removed],
        "pinned": removed[0]["pinned"] if removed else [],
        "held": {k: v for step in removed for k, v in step["held"].items()},
        "layers": [step["layers"] for step in removed],
        "units": [step["units"] for step in removed],
        "verification": [step["verification"] for step in removed],
        "training": training + [
            {"stage": f"training-{i}", "losses": losses}
            for i, losses in enumerate(stages.get("method", {}).get("losses", []), 1)
        ],
        "seconds": time.time() - stages["start"]["began"],
        "machine": {
            "device": config.device,
            "threads": config.threads,
            "processes": config.processes,
            "precision": config.precision,
            "processor": machine(torch.device(config.device))["processor"],
            "system": platform.platform(terse=True),
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "sentei": sentei.__version__,
        },
    }  # fmt: skip


def _numbered(stages: Mapping[str, Any], head: str) -> list[str]:
    """The stages `head-1`, `head-2`, …, in order."""
    found = [s for s in stages if s.rpartition("-")[0] == head]
    return sorted(found, key=lambda s: int(s.rpartition("-")[2]))


def inputs(opened: Opened) -> dict[str, Any]:
    args, kwargs = opened.call()
    return {"args": args, "kwargs": kwargs}


def answers(model: nn.Module, inputs: Any) -> list[Tensor]:
    """The tensors a model answers to `[args, kwargs]`, in order, on the CPU."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    args, kwargs = to_device(list(inputs), device)
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(0)
        return [t.cpu().clone() for t in _leaves(model.eval()(*args, **kwargs))]


def _leaves(tree: Any) -> list[Tensor]:
    """The tensors in inputs or outputs, in order."""
    from torch.utils import _pytree

    if hasattr(tree, "to_tuple"):  # Hugging Face outputs
        tree = tree.to_tuple()
    return [t for t in _pytree.tree_leaves(tree) if isinstance(t, Tensor)]
