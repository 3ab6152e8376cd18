"""From a configuration and a folder to a run; its stages, in order."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from sentei.cli.config import Config, absolute
from sentei.cli.folder import CONFIG, RESULT, Facts, Run, read_result
from sentei.cli.opened import device_of, open_all
from sentei.cli.pruning.after import finish, save, take_time, verify
from sentei.cli.pruning.before import introduce, rehearse, start
from sentei.cli.pruning.by_method import prune_by_method
from sentei.cli.pruning.checks import check, check_data
from sentei.cli.pruning.evaluating import evaluate_as
from sentei.cli.pruning.rounds import prune_in_rounds
from sentei.cli.pruning.telling import Quiet
from sentei.cli.pruning.training import train_first
from sentei.cli.pruning.work import Work
from sentei.cli.team import team_of, world
from sentei.graph.errors import PruneError

__all__ = ["prune"]


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
    if config is None and not resume:
        raise PruneError("which model? Give MODEL, or --config")
    if config is not None:
        check(config)
        check_data(config)
    resolved = None if config is None else _resolved(config)
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
                return _carry_out(run, report)
            except Exception:
                if not run.stages:  # nothing was done yet: leave nothing behind
                    run.undo()
                raise


def _carry_out(run: Run, report: Quiet) -> Facts:
    """The stages, in order. Those that are done already only tell what they found."""
    opened = run.team.together(lambda: open_all(run.config))
    work = Work(run, report, opened, opened.model)
    if "start" not in run:
        run.team.lead(lambda: rehearse(work))
    introduce(work)
    start(work)
    train_first(work)
    evaluate_as(work, "baseline")
    if run.config.method is not None:
        prune_by_method(work)
    else:
        prune_in_rounds(work)
    evaluate_as(work, "final")
    save(work)
    verify(work)
    take_time(work)
    return finish(work)


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
