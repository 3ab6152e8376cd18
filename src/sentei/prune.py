"""One call: find the groups, score their units, plan for a budget, remove, verify."""

from __future__ import annotations

import copy
import fnmatch
import operator
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sentei import huggingface
from sentei.allocation import Curve, Plan, Seconds, Target, movable, plan
from sentei.allocation.latency import Latency, Timing
from sentei.allocation.movable import togethers
from sentei.allocation.planner import OutOfReach, highest
from sentei.allocation.table import LatencyTable
from sentei.allocation.target import in_units
from sentei.criteria import Criterion, Evidence, score
from sentei.depth import absolute, choose
from sentei.graph.analysis import UNUSED
from sentei.graph.axis import Dim, dims, resolve
from sentei.graph.blueprint import without_cache
from sentei.graph.capture import unwrap
from sentei.graph.cost import Cost
from sentei.graph.errors import PruneError, closest
from sentei.graph.groups import Group, Groups, analyze, call_arguments, protect_names
from sentei.graph.layers import Layer, delete_layer
from sentei.graph.layers.change import all_or_nothing
from sentei.graph.surgery import Mismatch, Surgery, _Transaction, remove
from sentei.graph.verify import Verification
from sentei.sensitivity import curves_of

if TYPE_CHECKING:
    from sentei.methods.base import Method

__all__ = ["Result", "delete_units", "prune"]


@dataclass(frozen=True)
class Result:
    """What was done, and what it gave. Prints as a table.

    model: the pruned network (with `dry_run`, the network as it was).
    groups: the groups before.
    plan: kept units and widths; surgery: what was changed, None after a dry run.
    before, after: cost on the example input.
    held: groups that a first plan would have cut but the model's own code does not allow, with
        the reason; the plan leaves them whole.
    seconds: time by stage.
    timing: of a forward pass before and after, predicted and measured; None where nobody asked.
    layers: that were taken out, in this order, each checked by itself; `groups`, `plan` and
        `verification` speak of the network without them, costs of all of it.
    seed: what `prune` was given; None after `delete_units`, which draws nothing.
    """

    model: nn.Module = field(repr=False)
    groups: Groups = field(repr=False)
    plan: Plan = field(repr=False)
    surgery: Surgery | None = field(repr=False)
    before: Cost
    after: Cost
    held: dict[str, str]
    seconds: dict[str, float]
    seed: int | None = None
    timing: Timing | None = None
    layers: tuple[Layer, ...] = ()

    @property
    def keep(self) -> dict[str, Tensor]:
        """group name -> kept unit indices, ascending."""
        return self.plan.keep

    @property
    def asked(self) -> dict[str, float]:
        """What the target bounds -> ceiling; shares for width, seconds for latency, numbers."""
        return self.plan.asked

    @property
    def reached(self) -> dict[str, float]:
        """What the target bounds -> outcome; at most `asked`. Latency is measured."""
        return self.plan.reached

    @property
    def verification(self) -> Verification | None:
        """What was compared with what, and how close; None if nothing was."""
        return None if self.surgery is None else self.surgery.verification

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(width=100, color_system=None, highlight=False)
        with console.capture() as captured:
            console.print(self)
        return captured.get().rstrip()

    def __rich__(self) -> Any:
        from rich.console import Group as Lines
        from rich.markup import escape
        from rich.table import Table

        costs = Table(title=None if self.surgery is not None else "dry run: nothing was removed")
        costs.add_column("cost")
        for name in ("before", "after", "left", "asked"):
            costs.add_column(name, justify="right")
        for name, label in _COSTS.items():
            old, new = getattr(self.before, name), getattr(self.after, name)
            asked = f"{self.asked[name]:,}" if name in self.asked else ""
            costs.add_row(label, f"{old:,}", f"{new:,}", _percent(new, old), asked)
        if self.timing is not None:
            _add_times(costs, self.timing, self.asked.get("latency"))
        if "units" in self.asked:
            limit, kept = self.asked["units"], self.reached["units"]
            costs.add_row("units that can move", "", f"{kept:,}", "", f"{limit:,}")
        if "width" in self.asked:
            limit, kept = self.asked["width"], self.reached["width"]
            costs.add_row(
                "widest share", "100.0 %", "", f"{100 * kept:.1f} %", f"{100 * limit:g} %"
            )

        widths = Table(title="what lost most", title_justify="left")
        widths.add_column("group", overflow="fold", max_width=52)
        widths.add_column("kind")
        for name in ("units", "kept", "left"):
            widths.add_column(name, justify="right")
        groups = self.groups
        lost = sorted(self.plan.widths.items(), key=lambda w: w[1] / groups[w[0]].size)
        for name, kept in lost[:_SHOWN]:
            group = groups[name]
            widths.add_row(
                escape(name), group.kind, str(group.size), str(kept), _percent(kept, group.size)
            )
        if len(lost) > _SHOWN:
            widths.add_row(f"… and {len(lost) - _SHOWN} more", "", "", "", "")
        lines: list[Any] = [costs]
        if lost:
            lines.append(widths)
        whole = len(groups) - len(lost)
        lines.append(f"{len(lost)} groups lost units, {whole} kept all of theirs.")
        if self.layers:
            gone = ", ".join(layer.name for layer in self.layers)
            lines.append(escape(f"{len(self.layers)} layers taken out: {gone}."))
        lines += [escape(f"Held: {name}: {why}") for name, why in self.held.items()]
        idle = _idle(self.groups)
        if idle and lost:
            more = f" and {len(idle) - 5} more" if len(idle) > 5 else ""
            lines.append(escape(
                f"Not run on the example input, and left whole: {', '.join(idle[:5])}{more}. "
                "Where other inputs run them, they may not fit what is around them any more."
            ))  # fmt: skip
        if self.verification is not None:
            lines.append(escape(str(self.verification)))
        spent = ", ".join(f"{stage} {t:.2f} s" for stage, t in self.seconds.items())
        lines.append(f"Time: {spent}.")
        return Lines(*lines)


_COSTS = {
    "params": "parameters",
    "macs": "MACs",
    "activations": "activations",
    "bytes": "stored bytes",
    "memory": "bytes at the peak",
}
_SHOWN = 12
# Plans to try before giving up on a model whose code keeps contradicting them.
_ROUNDS = 8
# Plans to time before a latency is called out of reach, how far to aim below it after a miss, and
# how near is near enough.
_TIMED = 5
_AIM = 0.97
_NEAR = 0.9
_NARROW = 1e-9


def _add_times(table: Any, timing: Timing, asked: float | None) -> None:
    def row(label: str, seconds: float, limit: str) -> None:
        before = f"{1e3 * timing.before:.3f} ms"
        left = _percent(seconds, timing.before)
        table.add_row(label, before, f"{1e3 * seconds:.3f} ms", left, limit)

    limit = f"{1e3 * asked:.3f} ms" if asked is not None else ""
    row("latency, predicted", timing.predicted, limit if timing.after is None else "")
    if timing.after is not None:
        row("latency, measured", timing.after, limit)


def _idle(groups: Groups) -> list[str]:
    """The modules whose parameters the captured pass did not use."""
    names = {
        part.parameter.rpartition(".")[0]: None
        for group in groups.pinned.values()
        if group.pinned == UNUSED
        for part in group.slices
        if groups.analysis.origins[part.parameter] == "parameter"
    }
    return [name for name in names if name]


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "–"


def prune(
    model: nn.Module,
    example_inputs: Any = None,
    *,
    args: tuple[Any, ...] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    target: Target | None = None,
    criterion: str | Criterion = "l2",
    allocation: str = "global",
    normalise: str = "none",
    granularity: str = "auto",
    data: Any = None,
    loss: Callable[..., Tensor] | None = None,
    protect: Iterable[str | nn.Module] = (),
    round_to: int | str | None = None,
    min_units: int = 1,
    min_fraction: float = 0.05,
    uniform: bool = False,
    depth: bool = False,
    latency_table: LatencyTable | None = None,
    dry_run: bool = False,
    verify: bool = True,
    optimizer: torch.optim.Optimizer | None = None,
    seed: int = 0,
    inplace: bool = True,
    method: str | Method | None = None,
    **method_arguments: Any,
) -> Any:
    """Remove the units that are worth least until `target` holds; or carry out a named method.

    Args:
        example_inputs: a tensor, a tuple of positional arguments, or a dict of keyword arguments;
            `args` and `kwargs` give both at once. Costs are those of this input.
        target: the budget, a ceiling; see `Target`.
        criterion: a name in `sentei.criteria.CRITERIA`, or a function (group, evidence) -> scores.
        allocation: how the budget is spread: "global" by score over all groups, "isomorphic" by
            score among groups of equal structure, "sensitivity" by the loss on `data` when each
            group is cut alone, "local" an equal share everywhere, "uniform" exactly equal shares,
            "fastest" whichever is predicted to run fastest on this machine; see
            `sentei.allocation.orders`.
        normalise: how scores of different groups are made comparable before they are ranked
            together: "none" takes them as they are, "mean" divides by the mean of the group; see
            `sentei.allocation.normalise`. The defaults of `allocation` and `normalise` are what
            kept most accuracy on average in `benchmarks/allocation.py` (a residual network and a
            transformer on digits, 1/2 to 1/8 of the MACs, after a short fine-tuning) without
            needing data; at 1/8 of the residual network others were slightly better.
        granularity: of nested groups such as heads and their width, which shrink: "blocks",
            "width", "both" or "auto" (blocks where there are at least four).
        data, loss: for criteria that need gradients, and for "sensitivity": `(inputs, targets)` or
            an iterable of such batches, and `loss(outputs, targets)`.
        protect: group names, patterns, module names or modules that keep all their units.
        round_to: kept widths are multiples of this where a group has so many positions. "auto":
            of what the device likes, found out by measuring, and no width that is slower than a
            larger one; this is the default where the target bounds latency, and with the
            allocation "fastest".
        min_units, min_fraction: what every group keeps at least; ranking over all groups may
            otherwise leave a layer with one unit.
        uniform: all layers of a kind keep equal widths, so that a configuration can state them.
            A Hugging Face model's configuration is written, and widths it cannot state are kept,
            so that `save_pretrained` gives what `from_pretrained` reads without Sentei; see
            `sentei.huggingface`.
        depth: take out whole layers and residual branches, too, where that keeps more than cutting
            widths further: less loss on `data`, or without it more of the score; with the
            allocation "fastest", less time. See `sentei.depth`. What went is in `result.layers`;
            widths are of what is left.
        latency_table: where times of operators come from; by default they are measured where the
            model lies, and kept in the user's cache folder.
        dry_run: plan only; the model is not touched.
        verify: compare with the original whose removed units are silenced, on the example input.
        optimizer: its state follows the parameters.
        seed: for criteria that draw; the same seed gives the same plan.
        inplace: False leaves the model alone and prunes a copy.
        method: an id in `sentei.methods.METHODS`, such as "snip" or "lth-imp". The method then
            chooses what goes and how the rest is trained on `data`; `sparsity=0.9` is the budget of
            methods that keep zeros, `target` that of methods that remove units. More arguments are
            those of `sentei.methods.by_method`: training, tuning, initial, options.
    Returns:
        a Result; `result.model` is the pruned network. With `method`, an Outcome
        (`sentei.methods.Outcome`).
    Raises:
        PruneError: the request cannot be carried out; says why and what could be.
        VerificationError: the result would not compute what the silenced original computes.
        In both cases the model is as before.

    >>> net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
    >>> result = prune(net, torch.randn(3, 4), target=Target(macs=0.5))
    >>> net[0].out_features, result.reached
    (8, {'macs': 144})
    """
    if method is not None:
        from sentei.methods.call import by_method  # methods build on this module

        return by_method(
            method, model, call_arguments(example_inputs, args, kwargs), target=target, data=data,
            loss=loss, protect=protect, seed=seed, inplace=inplace, **method_arguments,
        )  # fmt: skip
    if method_arguments:
        unknown = next(iter(method_arguments))
        raise TypeError(
            f"prune() got an unexpected argument {unknown!r}; "
            f"sparsity=, training=, tuning=, initial= and options= go with method="
        )
    _check_optimizer(optimizer, model, inplace)
    if not isinstance(target, Target):
        raise PruneError(f"target must be a Target, such as Target(macs=0.5); got {target!r}")
    if depth:
        return _with_depth(
            model, target, call_arguments(example_inputs, args, kwargs), optimizer,
            inplace=inplace, dry_run=dry_run, protect=protect, verify=verify,
            criterion=criterion, allocation=allocation, normalise=normalise,
            granularity=granularity, data=data, loss=loss, round_to=round_to,
            min_units=min_units, min_fraction=min_fraction, uniform=uniform,
            latency_table=latency_table, seed=seed,
        )  # fmt: skip
    seconds: dict[str, float] = {}
    call = without_cache(model, *call_arguments(example_inputs, args, kwargs))
    if not inplace and not dry_run:
        model = copy.deepcopy(model)
    with _timed(seconds, "analyse"):
        groups = analyze(model, args=call[0], kwargs=call[1], protect=protect)
    words: huggingface.Wording | None = None
    if uniform and huggingface.configured(model):
        with _timed(seconds, "configuration"):
            words = huggingface.wording(model, groups, call, granularity)
            groups = words.groups
    evidence = Evidence.of(model, groups, data=data, loss=loss, seed=seed, example=call)
    options = {
        "allocation": allocation, "normalise": normalise, "round_to": round_to,
        "min_units": min_units, "min_fraction": min_fraction, "granularity": granularity,
        "uniform": uniform,
    }  # fmt: skip
    job = _Job(model, groups, call, evidence, criterion, words, options, seconds)
    timing: Timing | None = None
    if target.latency is None and round_to != "auto" and allocation != "fastest":
        planned, surgery = job.carry_out(model, target, optimizer, verify=verify, dry_run=dry_run)
    else:
        planned, surgery, timing = _on_time(
            job, target, latency_table, optimizer, verify=verify, dry_run=dry_run
        )
    return Result(
        model, groups, planned, surgery, planned.before, planned.after, dict(job.held), seconds,
        seed, timing,
    )  # fmt: skip


def _with_depth(
    model: nn.Module,
    target: Target,
    call: Any,
    optimizer: torch.optim.Optimizer | None,
    *,
    inplace: bool,
    dry_run: bool,
    verify: bool,
    **options: Any,
) -> Result:
    """`prune` where layers may go as well."""
    seconds: dict[str, float] = {}
    given = model
    call = without_cache(model, *call)
    if not inplace or dry_run:
        model = copy.deepcopy(model)
    options["protect"] = protect_names(unwrap(model), options["protect"])
    table = options["latency_table"]
    with _timed(seconds, "analyse"):
        groups = analyze(model, args=call[0], kwargs=call[1])
        classes = movable(groups, options["granularity"])
        units = sum(g.size for members in classes for g in members)
        wanted = absolute(target, groups, units)
    timed: float | None = None
    if target.latency is not None:
        home = next((p.device for p in model.parameters()), torch.device("cpu"))
        options["latency_table"] = table = table or LatencyTable(home)
        with _timed(seconds, "measure"):
            (timed,) = table.stopwatch.models([model], call)
        limit = target.limits({"latency": timed})["latency"]
        wanted = replace(wanted, latency=Seconds(limit))

    def surviving(candidate: nn.Module) -> dict[str, Any]:
        """The options, without patterns that protect nothing that is left."""
        names = {n for n, _ in [*candidate.named_modules(), *candidate.named_parameters()]}
        own = [p for p in options["protect"] if any(fnmatch.fnmatch(n, p) for n in names)]
        return {**options, "protect": own}

    fastest = options["allocation"] == "fastest"
    by_loss = options["data"] is not None and options["loss"] is not None and not fastest
    if fastest:
        home = next((p.device for p in model.parameters()), torch.device("cpu"))
        options["latency_table"] = table = table or LatencyTable(home)

    def predicted(groups: Groups, widths: Mapping[str, int]) -> float:
        assert table is not None
        kept = {groups[name].dim: n for name, n in widths.items()}
        return Latency(groups, table).of(lambda dim: kept.get(dim, dim.size))

    def smaller(candidate: nn.Module) -> tuple[nn.Module, Groups, Mapping[str, Any]]:
        done = prune(
            candidate, args=call[0], kwargs=call[1], target=wanted, verify=False, inplace=False,
            dry_run=not by_loss, **surviving(candidate),
        )  # fmt: skip
        return done.model, done.groups, done.keep

    with _timed(seconds, "depth"):
        mixture = choose(
            unwrap(model), call, smaller, predicted=predicted if fastest else None,
            **{k: options[k] for k in ("criterion", "data", "loss", "protect", "seed", "uniform")},
        )[0]  # fmt: skip
    with all_or_nothing(unwrap(model)):
        with _timed(seconds, "surgery"):
            gone = tuple(
                delete_layer(
                    model, name, args=call[0], kwargs=call[1],
                    verify=verify and not dry_run, optimizer=optimizer,
                )
                for name in mixture.names
            )  # fmt: skip
        done = prune(
            model, args=call[0], kwargs=call[1], target=wanted, dry_run=dry_run, verify=verify,
            optimizer=optimizer, **surviving(model),
        )  # fmt: skip
    for stage, spent in done.seconds.items():
        seconds[stage] = seconds.get(stage, 0.0) + spent
    timing = done.timing
    if timing is not None and timed is not None:
        timing = replace(timing, before=timed)
    return replace(
        done, model=given if dry_run else model, before=groups.cost(), seconds=seconds,
        timing=timing, layers=gone, plan=replace(done.plan, target=target, before=groups.cost()),
    )  # fmt: skip


@dataclass(eq=False)
class _Job:
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
        with _timed(self.seconds, "score"):
            classes = movable(self.groups, granularity, self.held)
            moving = [g for members in classes for g in members]
            new = [g for g in moving if g.name not in self.scores]
            self.scores |= score(self.criterion, new, self.evidence)
        if self.options["allocation"] == "sensitivity" and not self.curves:
            with _timed(self.seconds, "sensitivity"):
                self.curves = curves_of(
                    self.model, self.groups, self.call,
                    togethers(classes, self.options["uniform"]), self.scores, self.evidence,
                ).by_member()  # fmt: skip
        with _timed(self.seconds, "plan"):
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
                with _timed(self.seconds, "surgery"), _all_or_nothing(model, optimizer):
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


def _on_time(
    job: _Job,
    target: Target,
    table: LatencyTable | None,
    optimizer: torch.optim.Optimizer | None,
    *,
    verify: bool,
    dry_run: bool,
) -> tuple[Plan, Surgery | None, Timing]:
    """Plan with measured times; time the pruned model, and plan anew while it is too slow."""
    model = job.model
    home = next((p.device for p in model.parameters()), torch.device("cpu"))
    if home.type == "meta":
        raise PruneError("a model on the meta device has no latency: load it where it is to run")
    if table is None:
        table = LatencyTable(home)
    with _timed(job.seconds, "measure"):
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
        with _timed(job.seconds, "measure"):
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


def _by_outer(keep: Mapping[str, Tensor], orders: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Ranks kept -> units kept for each outer index, where a group is free in another."""
    return {
        name: orders[name][:, ranks].sort(dim=1).values if name in orders else ranks
        for name, ranks in keep.items()
    }


def delete_units(
    model: nn.Module,
    name: str | Mapping[str, Sequence[int] | Tensor],
    units: Sequence[int] | Tensor | None = None,
    example_inputs: Any = None,
    *,
    args: tuple[Any, ...] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    protect: Iterable[str | nn.Module] = (),
    verify: bool = True,
    optimizer: torch.optim.Optimizer | None = None,
    inplace: bool = True,
) -> Result:
    """Remove these units, and everything that goes with them.

    Args:
        name: a group, or a module whose output is one group. Or a mapping from names to units, to
            remove from several at once (groups whose widths are tied must keep equal shares).
        units: which, from 0; left out after a mapping.
        others: as in `prune`.
    Raises:
        PruneError: there is no such group, it is pinned (says why), a unit is out of range, none
            would be left, or the widths would contradict one another. The model is as before.

    >>> net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
    >>> _ = delete_units(net, "0", [0, 5], torch.randn(3, 4))
    >>> net[0].out_features
    14
    """
    _check_optimizer(optimizer, model, inplace)
    if isinstance(name, str):
        if units is None:
            raise PruneError(f"delete_units({name!r}): which units? Give their numbers, from 0")
        wanted: Mapping[str, Any] = {name: units}
    else:
        wanted = name
        if example_inputs is None and units is not None:
            example_inputs = units  # delete_units(model, {...}, x): a mapping says which units
    seconds: dict[str, float] = {}
    call = without_cache(model, *call_arguments(example_inputs, args, kwargs))
    if not inplace:
        model = copy.deepcopy(model)
    with _timed(seconds, "analyse"):
        groups = analyze(model, args=call[0], kwargs=call[1], protect=protect)
    gone: dict[str, set[int]] = {}
    for given, chosen in wanted.items():
        group = group_of(groups, given)
        gone.setdefault(group.name, set()).update(_numbers(given, group, chosen))
    keep = {}
    for own, drop in gone.items():
        group = groups[own]
        if len(drop) == group.size:
            raise PruneError(f"{own}: cannot remove all {group.size} units; one must stay")
        if drop:
            keep[own] = torch.tensor([u for u in range(group.size) if u not in drop])
    _check_ties(groups, keep)
    widths = {own: len(kept) for own, kept in keep.items()}
    before, after = groups.cost(), groups.cost(widths)
    planned = Plan(_ANYTHING, keep, widths, {}, {}, before, after)
    with _timed(seconds, "surgery"):
        surgery = remove(model, groups, keep, call, optimizer=optimizer, verify=verify)
    return Result(model, groups, planned, surgery, before, after, {}, seconds)


def _check_optimizer(
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


_ANYTHING = Target(width=1.0)


def group_of(groups: Groups, name: str) -> Group:
    """The group of that name, or the one group that a module's output dimension is.

    Raises:
        PruneError: no such group or module; or the output is pinned, or several groups.
    """
    if name in groups or name in groups.pinned:
        return groups[name]  # speaks for itself where pinned
    nodes = [n for n in groups.analysis.tapes[0].nodes if n.module == name and n.outputs]
    if not nodes:
        known = [*groups, *groups.pinned]
        raise PruneError(f"no group or module {name!r}; {closest(name, known)}")
    axes = [resolve(axis) for axis in groups.analysis.axes(nodes[-1].outputs[0])]
    found = {d: groups.by_dim[d] for a in axes for d in dims(a) if d in groups.by_dim}
    free = [g for g in found.values() if g.pinned is None]
    if len(free) == 1 and any(isinstance(a, Dim) and a is free[0].dim for a in axes):
        return free[0]
    if free:
        raise PruneError(
            f"the output of {name!r} is not one group of units; name the group: "
            f"{', '.join(repr(g.name) for g in free[:6])}"
        )
    if found:
        group = next(iter(found.values()))
        raise PruneError(f"the output of {name!r} is pinned: {group.pinned}")
    raise PruneError(f"the output of {name!r} has no units that a parameter makes")


def _numbers(name: str, group: Group, units: Any) -> set[int]:
    if isinstance(units, Tensor):
        units = units.tolist()
    try:
        if any(isinstance(u, bool) for u in units):
            raise PruneError(f"{name}: units are given by number, from 0; got a mask of booleans")
        numbers = {operator.index(u) for u in units}
    except TypeError:
        raise PruneError(f"{name}: units must be a sequence of integers; got {units!r}") from None
    wrong = sorted(u for u in numbers if not 0 <= u < group.size)
    if wrong:
        raise PruneError(f"{name}: no unit {wrong[0]}; units are numbered 0 to {group.size - 1}")
    return numbers


def _check_ties(groups: Groups, keep: Mapping[str, Tensor]) -> None:
    for members in groups.classes():
        if not any(g.name in keep for g in members):
            continue
        kept = {g.name: len(keep[g.name]) if g.name in keep else g.size for g in members}
        first = members[0]
        # Equal shares, cross-multiplied: no rounding.
        if any(kept[g.name] * first.size != kept[first.name] * g.size for g in members):
            got = ", ".join(f"{g.name} {kept[g.name]} of {g.size}" for g in members)
            steps = ", ".join(f"{g.name} {g.step}" for g in members)
            raise PruneError(
                f"the model's code computes one of these widths from another, so they must keep "
                f"equal shares; this would keep: {got}. Units to remove together: {steps}, or a "
                f"multiple. delete_units takes a mapping of several names, prune does it by itself"
            )


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
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - start
