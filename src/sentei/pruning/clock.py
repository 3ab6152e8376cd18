"""Plans for a measured time: the pruned model is timed, and planned anew while it is too slow."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import torch

from sentei.allocation import Plan, Seconds, Target
from sentei.allocation.latency import Latency, Timing
from sentei.allocation.planner import OutOfReach
from sentei.allocation.table import LatencyTable
from sentei.allocation.target import in_units
from sentei.batches import home_of
from sentei.graph.axis import Dim
from sentei.graph.errors import PruneError
from sentei.graph.surgery import Surgery
from sentei.pruning.job import Job, timed

__all__ = ["on_time"]

# Plans to time before a latency is called out of reach, how far to aim below it after a miss, and
# how near is near enough.
_TIMED = 5

_AIM = 0.97

_NEAR = 0.9

_NARROW = 1e-9


def on_time(
    job: Job,
    target: Target,
    table: LatencyTable | None,
    optimizer: torch.optim.Optimizer | None,
    *,
    verify: bool,
    dry_run: bool,
) -> tuple[Plan, Surgery | None, Timing]:
    """Plan with measured times; time the pruned model, and plan anew while it is too slow."""
    model = job.model
    home = home_of(model)
    if home.type == "meta":
        raise PruneError("a model on the meta device has no latency: load it where it is to run")
    if table is None:
        table = LatencyTable(home)
    with timed(job.seconds, "measure"):
        (before,) = table.stopwatch.models([model], job.call)
        job.latency = latency = Latency(job.groups, table, before)
        if job.options["round_to"] in (None, "auto"):
            job.options["round_to"] = latency.multiples()
    limit = target.limits({"latency": before}).get("latency")
    relative = not isinstance(target.latency, Seconds)
    trials: list[_Trial] = []
    now = target
    whole = job.groups.cost().macs
    ceiling = int(target.limits({"macs": whole}).get("macs", whole))
    between: tuple[int, int] | None = None
    for turn in range(1, _TIMED + 1):
        line = latency.line
        trial = None if dry_run else copy.deepcopy(model)
        try:
            planned, _ = job.carry_out(
                trial or model, now, verify=False, dry_run=dry_run, final=False
            )
        except OutOfReach as error:
            if any(t.fits for t in trials):
                break
            if dry_run or [*error.nearest] != ["latency"]:
                raise
            # By prediction only: time the smallest model that there is before giving up, then
            # look between it and the whole one.
            now, between = replace(target, latency=None, width=_NARROW), (0, ceiling)
            try:
                planned, _ = job.carry_out(trial or model, now, verify=False, final=False)
            except PruneError:
                raise error from None
        widths = {job.groups[name].dim: n for name, n in planned.widths.items()}

        def kept(dim: Dim, widths: dict[Dim, int] = widths) -> int:
            return widths.get(dim, dim.size)

        predicted = latency.of(kept)
        if trial is None:
            timing = Timing(before, predicted, None, turn, table.machine)
            return _timed_plan(planned, target, limit, predicted), None, timing
        with timed(job.seconds, "measure"):
            old, after = table.stopwatch.models([model, trial], job.call)
        if relative:  # a machine that has become slower since slows both alike
            after *= before / old
        seen = any(t.widths == planned.widths for t in trials)
        fits = limit is None or after <= limit
        trials.append(_Trial(now, line, planned.widths, predicted, after, fits))
        if limit is None or seen or (between is not None and not between[0] and not fits):
            break
        if fits and (after >= _NEAR * limit or not planned.widths):
            break
        latency.calibrate(kept, after)
        if between is None:
            now = replace(target, latency=Seconds(limit if fits else _AIM * limit))
        else:
            macs = planned.after.macs
            between = (macs, between[1]) if fits else (between[0], macs)
            now = replace(target, latency=None, macs=max(2, sum(between) // 2))
    fitting = [t for t in trials if t.fits]
    if not fitting:
        assert limit is not None
        raise _too_slow(limit, before, min(t.after for t in trials))
    chosen = max(fitting, key=lambda t: t.after)
    latency.line = chosen.line  # so that the same plan comes out
    planned, surgery = job.carry_out(model, chosen.target, optimizer, verify=verify)
    timing = Timing(before, chosen.predicted, chosen.after, len(trials), table.machine)
    return _timed_plan(planned, target, limit, chosen.after), surgery, timing


@dataclass(frozen=True)
class _Trial:
    """A plan that was timed. line: of the prediction when it was made."""

    target: Target
    line: tuple[float, float]
    widths: dict[str, int]
    predicted: float
    after: float
    fits: bool


def _timed_plan(planned: Plan, target: Target, limit: float | None, seconds: float) -> Plan:
    """The plan in the words of the target as it was asked."""
    if limit is None:
        return replace(planned, target=target)
    asked = {n: value for n, value in planned.asked.items() if getattr(target, n) is not None}
    reached = {n: planned.reached[n] for n in asked}
    asked["latency"], reached["latency"] = limit, seconds
    return replace(planned, target=target, asked=asked, reached=reached)


def _too_slow(limit: float, before: float, best: float) -> PruneError:
    return PruneError(
        f"budget out of reach: latency {in_units('latency', limit)} ({limit / before:.2%}) is "
        f"below what was measured. Nearest: latency={in_units('latency', best)!r} "
        f"({best / before:.2%})"
    )
