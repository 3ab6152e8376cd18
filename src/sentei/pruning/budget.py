"""One call: find the groups, score their units, plan for a budget, remove, verify."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sentei import huggingface
from sentei.allocation import Target
from sentei.allocation.latency import Timing
from sentei.allocation.table import LatencyTable
from sentei.criteria import Criterion, Evidence
from sentei.graph.blueprint import without_cache
from sentei.graph.errors import PruneError
from sentei.graph.groups import analyze, call_arguments
from sentei.pruning.clock import on_time
from sentei.pruning.depth import with_depth
from sentei.pruning.job import Job, check_optimizer, timed
from sentei.pruning.result import Result

if TYPE_CHECKING:
    from sentei.methods.base import Method

__all__ = ["prune"]


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
            allocation "fastest", less time. See `sentei.pruning.depth`. What went is in
            `result.layers`; widths are of what is left.
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
    check_optimizer(optimizer, model, inplace)
    if not isinstance(target, Target):
        raise PruneError(f"target must be a Target, such as Target(macs=0.5); got {target!r}")
    if depth:
        return with_depth(
            prune, model, target, call_arguments(example_inputs, args, kwargs), optimizer,
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
    with timed(seconds, "analyse"):
        groups = analyze(model, args=call[0], kwargs=call[1], protect=protect)
    words: huggingface.Wording | None = None
    if uniform and huggingface.configured(model):
        with timed(seconds, "configuration"):
            words = huggingface.wording(model, groups, call, granularity)
            groups = words.groups
    evidence = Evidence.of(model, groups, data=data, loss=loss, seed=seed, example=call)
    options = {
        "allocation": allocation, "normalise": normalise, "round_to": round_to,
        "min_units": min_units, "min_fraction": min_fraction, "granularity": granularity,
        "uniform": uniform,
    }  # fmt: skip
    job = Job(model, groups, call, evidence, criterion, words, options, seconds)
    timing: Timing | None = None
    if target.latency is None and round_to != "auto" and allocation != "fastest":
        planned, surgery = job.carry_out(model, target, optimizer, verify=verify, dry_run=dry_run)
    else:
        planned, surgery, timing = on_time(
            job, target, latency_table, optimizer, verify=verify, dry_run=dry_run
        )
    return Result(
        model, groups, planned, surgery, planned.before, planned.after, dict(job.held), seconds,
        seed, timing,
    )  # fmt: skip
