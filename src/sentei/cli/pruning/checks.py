"""What can be refused before anything is built."""

from __future__ import annotations

from collections.abc import Iterable

from sentei.allocation import ALLOCATIONS, GRANULARITIES
from sentei.cli.config import Config
from sentei.cli.pruning.healing import HEALS
from sentei.cli.pruning.targets import check_rounds
from sentei.criteria import criterion
from sentei.graph.errors import PruneError, closest
from sentei.methods import by_name
from sentei.recovery.train import OPTIMIZERS, SCHEDULES

__all__ = ["check", "check_data"]

# Structures that say themselves how much goes, or may.
_FIXED = ("n:m", "block")
# What has no effect without data. (No epochs are none with or without.)
_BY_DATA = (
    "heal", "distill", "train_epochs", "epochs", "lr", "train_lr", "batch_size",
    "optimizer", "weight_decay", "schedule", "calibration", "augment", "workers", "image_size",
    "length", "checkpoint",
)  # fmt: skip
# What a method decides by itself.
_BY_CRITERION = (
    "criterion", "allocation", "granularity", "round_to", "min_fraction", "uniform", "depth",
    "rounds", "round_epochs", "heal", "distill", "distill_features", "distill_weight",
    "distill_temperature",
)  # fmt: skip


def check(config: Config) -> None:
    """Whether the options of a configuration are known, and go together.

    Raises:
        PruneError: one is unknown (names the closest), lacks another, or would have no effect.
    """
    _known("optimizer", config.optimizer, OPTIMIZERS)
    _known("schedule", config.schedule, SCHEDULES)
    if config.method is not None:
        _check_method(config)
    else:
        _check_criterion(config)


def check_data(config: Config) -> None:
    """Whether data is given where an option would have no effect without.

    Raises:
        PruneError: it is not; says which option wants it.
    """
    if config.data is None and (idle := _given(config, _BY_DATA)):
        raise PruneError(f"{idle} needs data: give --data, such as --data digits")


def _check_method(config: Config) -> None:
    method = by_name(config.method or "")
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
            f"method {method.id!r} removes {method.structure}s: give --target, such as macs=50%"
            + ("" if method.structure == "channel" else " (some count weights: --sparsity)")
        )
    other = "sparsity" if method.structure == "channel" else "target"
    if method.structure in ("channel", "weight") and getattr(config, other):
        raise PruneError(f"method {method.id!r} removes {method.structure}s: leave out --{other}")
    if idle := _given(config, _BY_CRITERION):
        raise PruneError(
            f"{idle} goes without --method; a method brings its own parts "
            f"(`sentei methods {method.id}` shows its options)"
        )


def _check_criterion(config: Config) -> None:
    criterion(config.criterion)
    if config.method_options:
        raise PruneError("--option goes with a --method")
    _known("allocation", config.allocation, ALLOCATIONS)
    _known("granularity", config.granularity, GRANULARITIES)
    for heal in config.heal:
        _known("heal", heal, HEALS)
    if config.budget is None:
        raise PruneError("how small? Give --target, such as --target macs=50%")
    if config.sparsity is not None:
        raise PruneError("--sparsity goes with a --method that removes single weights")
    distilling = ("distill_features", "distill_weight", "distill_temperature")
    if not config.distill and (idle := _given(config, distilling)):
        raise PruneError(f"{idle} goes with --distill")
    if config.rounds == 1 and (idle := _given(config, ["round_epochs"])):
        raise PruneError(f"{idle} goes with --rounds")
    check_rounds(config.budget, config.rounds)
    if config.distill and not config.epochs and (config.rounds == 1 or not config.round_epochs):
        raise PruneError("--distill is how to train after pruning, and --epochs is 0")
    if not config.train_epochs and (idle := _given(config, ["train_lr"])):
        raise PruneError(f"{idle} goes with --train-epochs")


def _known(what: str, value: str, known: Iterable[str]) -> None:
    if value not in known:
        raise PruneError(f"unknown {what} {value!r}; {closest(value, known)}")


def _given(config: Config, fields: Iterable[str]) -> str:
    """The first of these options that is not at its default, as it is written; else nothing."""
    for field in fields:
        value = getattr(config, field)
        if value != Config.model_fields[field].default and (value or field != "epochs"):
            return f"--{field.replace('_', '-')}"
    return ""
