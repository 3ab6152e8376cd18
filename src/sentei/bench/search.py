"""Hyper-parameters of a method, chosen on held-out training data with Optuna."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sentei.bench.runs import Run, execute_on
from sentei.bench.store import Store
from sentei.graph.errors import PruneError, closest
from sentei.methods import by_name
from sentei.tasks import task

__all__ = ["SAMPLERS", "Found", "search"]

SAMPLERS = ("tpe", "cma-es", "random")


@dataclasses.dataclass(frozen=True)
class Found:
    """What a search gave: the best options, their validation accuracy, and every trial."""

    options: dict[str, Any]
    accuracy: float
    trials: tuple[tuple[dict[str, Any], float], ...]


def search(
    run: Run,
    space: Mapping[str, Any],
    store: Store,
    *,
    trials: int = 20,
    sampler: str = "tpe",
    share: float = 0.2,
) -> Found:
    """Search a method's options for the best accuracy on held-out training examples.

    The test set is never looked at (Blalock et al. 2020: hyper-parameters are tuned on validation
    data). Trials are kept in the store's folder, so an interrupted search goes on.

    Args:
        run: task, model, method, target and seed; its options are the ones that stay fixed.
        space: option name -> (low, high) for numbers, (low, high, "log") for a logarithmic scale,
            or a list of choices. Integers give integers.
        trials: how many in all, those of earlier searches counted.
        share: of the training examples that are held out.
    Raises:
        PruneError: Optuna is missing, or an option is unknown.

    >>> from sentei.bench.search import _suggest  # how the space is read
    >>> class Trial:
    ...     def suggest_float(self, name, low, high, log): return low
    ...     def suggest_categorical(self, name, choices): return choices[0]
    >>> _suggest(Trial(), {"lr": (0.01, 1.0, "log"), "scope": ["global", "uniform"]})
    {'lr': 0.01, 'scope': 'global'}
    """
    try:
        import optuna
    except ModuleNotFoundError as missing:
        raise PruneError(
            "Optuna is not installed. Install it with: pip install 'sentei[bench]'"
        ) from missing
    if sampler not in SAMPLERS:
        raise PruneError(f"unknown sampler {sampler!r}; {closest(sampler, SAMPLERS)}")
    by_name(run.method).check_options({**run.options, **space})
    _check_space(space)
    held = task(run.task).hold_out(share, run.seed)
    held = dataclasses.replace(held, name=f"{held.name}-held-out-{share:g}", test=held.validation)

    def objective(trial: Any) -> float:
        options = {**run.options, **_suggest(trial, space)}
        chosen = dataclasses.replace(run, options=options, task=held.name)
        accuracy = execute_on(chosen, held, store)["accuracy"]
        return float(accuracy) if math.isfinite(accuracy) else 0.0

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    samplers = {
        "tpe": optuna.samplers.TPESampler,
        "cma-es": optuna.samplers.CmaEsSampler,
        "random": optuna.samplers.RandomSampler,
    }
    file = Path(store.folder) / "searches.journal"
    study = optuna.create_study(
        study_name=f"{run.key}-{sampler}",
        storage=optuna.storages.JournalStorage(
            optuna.storages.journal.JournalFileBackend(str(file))
        ),
        sampler=samplers[sampler](seed=run.seed),
        direction="maximize",
        load_if_exists=True,
    )
    over = [t for t in study.trials if t.state == optuna.trial.TrialState.COMPLETE]
    study.optimize(objective, n_trials=max(0, trials - len(over)), catch=(PruneError,))
    over = [t for t in study.trials if t.state == optuna.trial.TrialState.COMPLETE]
    if not over:
        raise PruneError(f"{run.label}: no trial came through; the target may be out of reach")
    return Found(
        {**run.options, **study.best_params},
        float(study.best_value),
        tuple((dict(t.params), float(t.value)) for t in over),
    )


def _check_space(space: Mapping[str, Any]) -> None:
    for name, given in space.items():
        numbers = isinstance(given, tuple) and len(given) in (2, 3)
        if not numbers and not (isinstance(given, list) and given):
            raise PruneError(
                f"search: {name} must be (low, high), (low, high, 'log') or a list of choices; "
                f"got {given!r}"
            )


def _suggest(trial: Any, space: Mapping[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, given in space.items():
        if isinstance(given, list):
            out[name] = trial.suggest_categorical(name, given)
            continue
        low, high = given[:2]
        whole = isinstance(low, int) and isinstance(high, int)
        suggest = trial.suggest_int if whole else trial.suggest_float
        out[name] = suggest(name, low, high, log=len(given) == 3)
    return out
