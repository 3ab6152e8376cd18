"""Plan and carry out; where the model's own code contradicts, plan again."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from sentei import huggingface
from sentei.allocation import Curve, Plan, Target, movable, plan
from sentei.allocation.latency import Latency
from sentei.allocation.movable import togethers
from sentei.allocation.planner import highest
from sentei.criteria import Criterion, Evidence, score
from sentei.graph.capture import unwrap
from sentei.graph.errors import PruneError
from sentei.graph.groups import Groups
from sentei.graph.surgery import Mismatch, Surgery, _Transaction, remove
from sentei.sensitivity import curves_of

__all__ = ["Job", "check_optimizer", "timed"]

# Plans to try before giving up on a model whose code keeps contradicting them.
_ROUNDS = 8


@dataclass(eq=False)
class Job:
    """What pruning needs to know, and what it has found out so far."""

    model: nn.Module
    groups: Groups
    call: Any
    evidence: Evidence
    criterion: str | Criterion
    words: huggingface.Wording | None
    options: dict[str, Any]
    seconds: dict[str, float]
    scores: dict[str, Tensor] = field(default_factory=dict)
    held: dict[str, str] = field(default_factory=dict)
    latency: Latency | None = None
    curves: dict[str, Curve] = field(default_factory=dict)

    def plan(self, target: Target) -> Plan:
        granularity = self.options["granularity"]
        with timed(self.seconds, "score"):
            classes = movable(self.groups, granularity, self.held)
            moving = [g for members in classes for g in members]
            new = [g for g in moving if g.name not in self.scores]
            self.scores |= score(self.criterion, new, self.evidence)
        if self.options["allocation"] == "sensitivity" and not self.curves:
            with timed(self.seconds, "sensitivity"):
                self.curves = curves_of(
                    self.model, self.groups, self.call,
                    togethers(classes, self.options["uniform"]), self.scores, self.evidence,
                ).by_member()  # fmt: skip
        with timed(self.seconds, "plan"):
            return plan(
                self.groups, self.scores, target, hold=self.held, latency=self.latency,
                curves=self.curves or None, **self.options,
            )  # fmt: skip

    def carry_out(
        self,
        model: nn.Module,
        target: Target,
        optimizer: torch.optim.Optimizer | None = None,
        *,
        verify: bool,
        dry_run: bool = False,
        final: bool = True,
    ) -> tuple[Plan, Surgery | None]:
        """Plan for the target and do it to `model`; where its code contradicts, plan again.

        final: write the configuration, too.
        """
        groups, words = self.groups, self.words
        mismatch: Mismatch | None = None
        for _ in range(_ROUNDS):
            try:
                planned = self.plan(target)
            except PruneError as error:
                if mismatch is None:
                    raise
                raise PruneError(
                    f"{error}. Left whole, because {mismatch}: {', '.join(sorted(self.held)[:5])}"
                ) from mismatch
            config = None
            if words is not None:
                planned = _lowered(planned, groups, self.scores, words.fit(planned.widths))
                config = words.config(planned.widths)
            if dry_run:
                return planned, None
            try:
                with timed(self.seconds, "surgery"), _all_or_nothing(model, optimizer):
                    keep = _by_outer(planned.keep, self.evidence.orders)
                    surgery = remove(
                        model, groups, keep, self.call, optimizer=optimizer, verify=verify
                    )
                    if words is not None and final:
                        words.settle(model, config, self.call, verify=verify)
            except Mismatch as found:
                # What the analysis could not foresee, the trial run inside surgery has found. The
                # model is as before: leave whole what does not fit, and plan again.
                mismatch = found
                more = _held(groups, planned, found)
                if not more or len(more) == len(planned.keep) > 1:
                    raise
                self.held |= more
                continue
            return planned, surgery
        assert mismatch is not None
        raise mismatch


def _by_outer(keep: Mapping[str, Tensor], orders: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Ranks kept -> units kept for each outer index, where a group is free in another."""
    return {
        name: orders[name][:, ranks].sort(dim=1).values if name in orders else ranks
        for name, ranks in keep.items()
    }


def _held(groups: Groups, planned: Plan, mismatch: Mismatch) -> dict[str, str]:
    """The groups of the plan that a mismatch speaks of, with what it says."""
    reason = str(mismatch).partition("\n")[0]
    found = {}
    for dim in mismatch.dims:
        group = groups.by_dim.get(dim)
        if group is not None and group.name in planned.keep:
            found[group.name] = reason
    return found


def _lowered(
    planned: Plan, groups: Groups, scores: Mapping[str, Tensor], widths: Mapping[str, int]
) -> Plan:
    """The plan with these widths, none of them larger."""
    if widths == planned.widths:
        return planned
    keep = {name: highest(scores[name], n) for name, n in widths.items()}
    after = groups.cost(widths)
    reached = dict(planned.reached)
    for name in reached:
        if name == "units":
            reached[name] -= sum(planned.widths.values()) - sum(widths.values())
        elif name not in ("width", "latency"):
            reached[name] = getattr(after, name)
    return replace(planned, keep=keep, widths=dict(widths), after=after, reached=reached)


@contextmanager
def _all_or_nothing(model: nn.Module, optimizer: torch.optim.Optimizer | None) -> Iterator[None]:
    """The model and the optimiser's state as before if anything inside raises."""
    with _Transaction(unwrap(model), optimizer) as transaction:
        if optimizer is not None:
            transaction.state += [(s, dict(s)) for s in optimizer.state.values()]
        yield
        transaction.commit()


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - start


def check_optimizer(
    optimizer: torch.optim.Optimizer | None, model: nn.Module, inplace: bool
) -> None:
    if optimizer is None:
        return
    if not inplace:
        raise PruneError(
            "optimizer= holds the parameters of the original, but inplace=False prunes a copy; "
            "drop one of the two"
        )
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise PruneError(f"optimizer must be a torch optimizer; got a {type(optimizer).__name__}")
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if isinstance(model, nn.Module) and held.isdisjoint(map(id, model.parameters())):
        raise PruneError("the optimizer holds no parameter of this model, so it cannot follow it")
