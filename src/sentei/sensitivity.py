"""How much each group can lose: the metric against the share removed, group by group."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sentei.allocation.curves import Curve
from sentei.allocation.movable import Together, movable, togethers
from sentei.allocation.planner import highest
from sentei.batches import batches, forward, loss_of, size
from sentei.criteria import Criterion, Evidence, score
from sentei.graph.blueprint import without_cache
from sentei.graph.capture import unwrap
from sentei.graph.errors import PruneError, closest
from sentei.graph.groups import Groups, analyze, call_arguments
from sentei.graph.surgery import Mismatch, remove

__all__ = ["Sensitivity", "curves_of", "mean_loss", "sensitivity"]

Metric = Callable[[nn.Module], float]


@dataclass(frozen=True)
class Sensitivity:
    """Curves by group; prints as a table.

    metric: what `values` are; higher_is_better: which way it goes.
    baseline: of the whole model. ratios: shares removed, as asked.
    curves: group name -> its curve; groups that move together have one curve, under the name of
        the first.
    """

    metric: str
    higher_is_better: bool
    baseline: float
    ratios: tuple[float, ...]
    curves: dict[str, Curve] = field(repr=False)

    def by_member(self) -> dict[str, Curve]:
        """Every group that was cut -> its curve."""
        return {name: curve for curve in self.curves.values() for name in curve.members}

    def to_json(self) -> str:
        """The numbers, as `from_json` reads them."""
        return json.dumps(asdict(self), indent=2)

    @staticmethod
    def from_json(text: str) -> Sensitivity:
        """What `to_json` wrote.

        Raises:
            PruneError: it is something else.
        """
        try:
            content = json.loads(text)
            curves = {
                str(name): Curve(
                    str(c["group"]),
                    tuple(map(str, c["members"])),
                    *(tuple(map(float, c[key])) for key in ("shares", "values", "damage")),
                )
                for name, c in content["curves"].items()
            }
            return Sensitivity(
                str(content["metric"]),
                bool(content["higher_is_better"]),
                float(content["baseline"]),
                tuple(map(float, content["ratios"])),
                curves,
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise PruneError(f"this is no sensitivity report: {error}") from None

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(width=110, color_system=None, highlight=False)
        with console.capture() as captured:
            console.print(self)
        return captured.get().rstrip()

    def __rich__(self) -> Any:
        from rich.markup import escape
        from rich.table import Table

        table = Table(title=f"{self.metric} by share removed; whole model: {self.baseline:.4f}")
        table.add_column("group", overflow="fold", max_width=48)
        for ratio in self.ratios:
            table.add_column(f"-{100 * ratio:g} %", justify="right")
        for curve in sorted(self.curves.values(), key=lambda c: -max(c.damage)):
            table.add_row(escape(curve.group), *(_cell(curve, r) for r in self.ratios))
        return table


def _cell(curve: Curve, ratio: float) -> str:
    """The value where about `ratio` was removed; empty where units are too few for that."""
    i = min(range(len(curve.shares)), key=lambda i: abs(1 - curve.shares[i] - ratio))
    near = i and abs(1 - curve.shares[i] - ratio) <= 0.06
    return f"{curve.values[i]:.4f}" if near else ""


def sensitivity(
    model: nn.Module,
    example_inputs: Any = None,
    *,
    data: Any,
    args: tuple[Any, ...] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    metric: str | Metric = "loss",
    loss: Callable[..., Tensor] | None = None,
    ratios: Sequence[float] = (0.1, 0.25, 0.5, 0.75, 0.9),
    criterion: str | Criterion = "l2",
    protect: Iterable[str | nn.Module] = (),
    granularity: str = "auto",
    uniform: bool = False,
    seed: int = 0,
    batch_size: int = 256,
    progress: bool = True,
) -> Sensitivity:
    """Cut one group after the other by each ratio, and see what the metric says.

    Each group (with those that must move together) is cut alone, on a copy, by real surgery; the
    units with the lowest scores go. The model is not touched.

    Args:
        example_inputs, args, kwargs, protect, granularity, uniform, criterion, seed: as in `prune`.
        data: `(inputs, targets)`, a mapping of keyword arguments, or an iterable of such batches.
        metric: "loss" (mean over examples), "accuracy" (share of largest logits that are the
            target's), or a function model -> float where more is better.
        loss: `loss(outputs, targets)`; not needed for models that return one.
        ratios: shares of units to remove, in (0, 1).
        progress: show a bar.
    Returns:
        a Sensitivity.
    Raises:
        PruneError: unknown metric, ratios out of range, no data, or nothing to prune.
    Source: Li et al. 2017, arXiv:1608.08710, section 3.2: layers cut alone, by magnitude, without
        training in between.

    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> data = torch.randn(16, 4), torch.randint(2, (16,))
    >>> found = sensitivity(net, data[0], data=data, metric="accuracy", ratios=[0.5])
    >>> found.curves["0"].shares
    (1.0, 0.5)
    """
    call = without_cache(model, *call_arguments(example_inputs, args, kwargs))
    groups = analyze(model, args=call[0], kwargs=call[1], protect=protect)
    evidence = Evidence.of(model, groups, data=data, loss=loss, seed=seed, example=call)
    moving = togethers(movable(groups, granularity), uniform)
    scores = score(criterion, [g for t in moving for g in t.members], evidence)
    return curves_of(
        model, groups, call, moving, scores, evidence,
        metric=metric, ratios=ratios, batch_size=batch_size, progress=progress,
    )  # fmt: skip


def curves_of(
    model: nn.Module,
    groups: Groups,
    call: tuple[tuple[Any, ...], Mapping[str, Any]],
    moving: Sequence[Together],
    scores: Mapping[str, Tensor],
    evidence: Evidence,
    *,
    metric: str | Metric = "loss",
    ratios: Sequence[float] = (0.1, 0.25, 0.5, 0.75, 0.9),
    batch_size: int = 256,
    progress: bool = True,
) -> Sensitivity:
    """The curves of these classes; see `sensitivity`."""
    if not ratios or any(not 0 < r < 1 for r in ratios):
        raise PruneError(f"ratios are shares to remove, between 0 and 1; got {list(ratios)!r}")
    measure, name, higher = _metric(metric, evidence, batch_size)
    model = unwrap(model)
    baseline = measure(model)
    if not math.isfinite(baseline):
        raise PruneError(f"the {name} of the whole model is {baseline}: it says nothing")
    kept: dict[int, list[int]] = {
        i: _widths(together.shares, ratios) for i, together in enumerate(moving)
    }
    curves: dict[str, Curve] = {}
    with _bar(sum(map(len, kept.values())), progress) as tick:
        for i, together in enumerate(moving):
            values = [baseline]
            for shares in kept[i]:
                values.append(
                    _cut(model, groups, call, together, shares, scores, evidence.orders, measure)
                )
                tick()
            worse = [baseline - v if higher else v - baseline for v in values]
            # What did not run or diverged is as bad as it gets, and stays a number in JSON.
            worse = [max(0.0, w) if math.isfinite(w) else _HOPELESS for w in worse]
            curves[together.name] = Curve(
                together.name,
                tuple(g.name for g in together.members),
                (1.0, *(n / together.shares for n in kept[i])),
                tuple(v if math.isfinite(v) else _HOPELESS for v in values),
                tuple(worse),
            )
    return Sensitivity(name, higher, baseline, tuple(ratios), curves)


_HOPELESS = 1e9


def _widths(shares: int, ratios: Sequence[float]) -> list[int]:
    """Numbers of shares to keep, falling; each once, none of them all or nothing."""
    found = {max(1, shares - round(r * shares)) for r in ratios}
    return sorted(found - {shares}, reverse=True)


def _cut(
    model: nn.Module,
    groups: Groups,
    call: tuple[tuple[Any, ...], Mapping[str, Any]],
    together: Together,
    shares: int,
    scores: Mapping[str, Tensor],
    orders: Mapping[str, Tensor],
    measure: Metric,
) -> float:
    keep = {}
    for group in together.members:
        ranks = highest(scores[group.name], shares * (group.size // together.shares))
        order = orders.get(group.name)
        keep[group.name] = ranks if order is None else order[:, ranks].sort(dim=1).values
    smaller = copy.deepcopy(model)
    try:
        remove(smaller, groups, keep, call, verify=False)
    except Mismatch:  # the model's code does not allow this width: a plan must not choose it
        return math.inf
    return measure(smaller)


def _metric(metric: str | Metric, evidence: Evidence, batch_size: int) -> tuple[Metric, str, bool]:
    """The metric as a function of a model, its name, and whether more is better."""
    if callable(metric):
        return metric, getattr(metric, "__name__", "metric"), True
    known: dict[str, Callable[[nn.Module, Any], tuple[float, int]]] = {
        "loss": lambda m, b: (float(_loss(m, b, evidence.loss)) * size(b), size(b)),
        "accuracy": _right,
    }
    if metric not in known:
        raise PruneError(f"unknown metric {metric!r}; {closest(str(metric), known)}")
    if evidence.data is None:
        raise PruneError("sensitivity needs data=(inputs, targets), or an iterable of such batches")

    def mean(model: nn.Module) -> float:
        return _mean(model, evidence.data, batch_size, known[metric])

    return mean, metric, metric == "accuracy"


def mean_loss(
    model: nn.Module, data: Any, loss: Callable[..., Tensor] | None, batch_size: int = 256
) -> float:
    """The loss of a model, in eval mode, as the mean over examples."""
    return _mean(
        model, data, batch_size, lambda m, b: (float(_loss(m, b, loss)) * size(b), size(b))
    )


def _mean(
    model: nn.Module,
    data: Any,
    batch_size: int,
    part_of: Callable[[nn.Module, Any], tuple[float, int]],
) -> float:
    """Sums over batches divided by counts; training flags are as before."""
    total, count = 0.0, 0
    flags = [(m, m.training) for m in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            for batch in batches(data, batch_size):
                part, n = part_of(model, batch)
                total, count = total + part, count + n
    finally:
        for module, flag in flags:
            module.training = flag
    if not count:
        raise PruneError("data holds no batch; give at least one (inputs, targets)")
    return total / count


def _loss(model: nn.Module, batch: Any, loss: Callable[..., Tensor] | None) -> Tensor:
    try:
        return loss_of(model, batch, loss)
    except ValueError as error:
        raise PruneError(str(error)) from None


def _right(model: nn.Module, batch: Any) -> tuple[float, int]:
    outputs = forward(model, batch)
    logits = outputs if isinstance(outputs, Tensor) else getattr(outputs, "logits", outputs[0])
    targets = batch["labels"] if isinstance(batch, Mapping) else batch[1]
    return float((logits.argmax(1) == targets).sum()), targets.numel()


@contextmanager
def _bar(total: int, progress: bool) -> Iterator[Callable[[], None]]:
    if not progress:
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("cutting groups one by one"),
        BarColumn(bar_width=24),
        TextColumn("{task.completed}/{task.total}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)
