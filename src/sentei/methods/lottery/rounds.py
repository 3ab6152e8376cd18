"""Train, prune a share, go back, again: what every search for a winning ticket is made of.

A *ticket* is a mask and the weights at step k of training. It wins if, trained alone from there,
it reaches what the dense network reaches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import prod

import torch
from torch import Tensor

from sentei.allocation.weights import top
from sentei.graph.errors import PruneError
from sentei.hooks.base import Hook
from sentei.hooks.snapshot import Snapshot
from sentei.methods.setting import Setting, State
from sentei.structures import Masks

__all__ = ["Score", "Ticket", "Trainer", "cut", "large_final", "path", "search", "step_of"]

Score = Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], dict[str, Tensor]]
"""(weights at the rewinding point, weights after training) -> scores; larger is worth more."""

Trainer = Callable[[Setting, list[Hook], Masks | None, int], None]
"""(setting, hooks, masks to hold, step to start at): trains `setting.model` to the end."""


@dataclass(frozen=True)
class Ticket:
    """What a search found.

    masks: which weights stay. start: parameters and buffers at step `step`, unmasked.
    dense: those after dense training. history: the masks after each round, `masks` the last.
    """

    masks: Masks
    start: State = field(repr=False)
    step: int
    dense: State = field(repr=False)
    history: tuple[Masks, ...] = field(repr=False)


def path(
    shapes: Mapping[str, tuple[int, ...]],
    density: float,
    *,
    rate: float = 0.2,
    rounds: int | None = None,
    output_rate: float | None = None,
) -> list[dict[str, float]]:
    """Densities by parameter after each round: (1 - rate)^r, until `density` of all is left.

    The last round removes less where a whole one would overshoot. With `rounds`, that many equal
    steps of the exponent are taken instead.

    Args:
        output_rate: the rate of the last parameter; as the others by default.
    Raises:
        PruneError: a rate outside (0, 1), or a density outside (0, 1].

    >>> [round(d["w"], 3) for d in path({"w": (10, 100)}, 0.5, rate=0.2)]
    [0.8, 0.64, 0.512, 0.5]
    >>> path({"w": (10, 100)}, 1.0)
    []
    """
    if not 0 < density <= 1:
        raise PruneError(f"density is the share of weights to keep, above 0; got {density!r}")
    rates = dict.fromkeys(shapes, rate)
    if output_rate is not None:
        rates[list(shapes)[-1]] = output_rate
    for name, r in rates.items():
        if not 0 < r < 1:
            raise PruneError(f"the share to remove a round must lie in (0, 1); got {r!r} ({name})")
    if rounds is not None and rounds < 1:
        raise PruneError(f"rounds must be at least 1; got {rounds!r}")

    sizes = {n: prod(s) for n, s in shapes.items()}
    whole = sum(sizes.values())

    def at(time: float) -> dict[str, float]:
        return {n: (1 - r) ** time for n, r in rates.items()}

    def left(time: float) -> float:
        return sum(d * sizes[n] for n, d in at(time).items()) / whole

    if density == 1:
        return []
    low, high = 0.0, math.log(density) / math.log(1 - min(rates.values()))
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if left(middle) > density else (low, middle)
    end = high
    if rounds is not None:
        return [at(end * r / rounds) for r in range(1, rounds + 1)]
    # Rates that meet the density in whole rounds must not get one more of next to nothing.
    return [at(r) for r in range(1, math.ceil(end - 1e-9))] + [at(end)]


def cut(
    scores: Mapping[str, Tensor],
    masks: Masks,
    densities: Mapping[str, float],
    scope: str | Mapping[str, str] = "layer",
    density: float | None = None,
) -> Masks:
    """The best of the weights that are alive; what is gone never returns.

    Args:
        scores: parameter name -> scores; larger is worth more.
        densities: by parameter, of all its weights.
        scope: "layer" keeps these densities inside each parameter, "global" ranks all together;
            or parameter name -> group, to rank inside groups.
        density: of all weights; as `densities` say by default. The count is `round(density * N)`.
    Raises:
        PruneError: an unknown scope.

    >>> masks = Masks({"w": torch.tensor([True, True, False, True])})
    >>> cut({"w": torch.tensor([3., 1., 9., 2.])}, masks, {"w": 0.5})["w"].tolist()
    [True, False, False, True]
    """
    if isinstance(scope, str):
        if scope not in ("layer", "global"):
            raise PruneError(f"scope is 'layer' or 'global'; got {scope!r}")
        scope = {n: n if scope == "layer" else "" for n in masks}
    groups: dict[str, list[str]] = {}
    for name in masks:
        groups.setdefault(scope[name], []).append(name)
    exact = {g: sum(densities[n] * masks[n].numel() for n in names) for g, names in groups.items()}
    alive = {g: sum(int(masks[n].sum()) for n in names) for g, names in groups.items()}
    total = round(sum(exact.values()) if density is None else density * masks.total)
    kept = _quotas(exact, alive, total)
    found: dict[str, Tensor] = {}
    for group, names in groups.items():
        standing = [scores[n].double().masked_fill(~masks[n], -math.inf).flatten() for n in names]
        parts = top(torch.cat(standing), kept[group]).split([len(s) for s in standing])
        found |= {n: part.view_as(masks[n]) for n, part in zip(names, parts, strict=True)}
    return Masks({n: found[n] for n in masks})


def _quotas(exact: Mapping[str, float], alive: Mapping[str, int], total: int) -> dict[str, int]:
    """Whole numbers near `exact` that sum to `total`, none above what is alive.

    >>> _quotas({"a": 1.5, "b": 2.5}, {"a": 1, "b": 3}, 4)
    {'a': 1, 'b': 3}
    """
    kept = {n: min(int(x + 1e-9), alive[n]) for n, x in exact.items()}
    missing = total - sum(kept.values())
    while missing > 0:
        room = [n for n in kept if kept[n] < alive[n]]
        for name in sorted(room, key=lambda n: kept[n] - exact[n])[:missing]:
            kept[name] += 1
        missing = total - sum(kept.values())
    return kept


def large_final(start: Mapping[str, Tensor], final: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """score = |w| after training: the lottery tickets' own."""
    return {name: weight.abs() for name, weight in final.items()}


def step_of(setting: Setting, when: float) -> int:
    """A number of steps, or a share of the recipe's, as steps.

    >>> from sentei.recovery.train import Recipe
    >>> x = torch.zeros(64, 1)
    >>> given = Setting(torch.nn.Linear(1, 1), (x, x), recipe=Recipe(epochs=10, batch_size=16))
    >>> step_of(given, 7), step_of(given, 0.25), step_of(given, 1.0)
    (7, 10, 40)
    """
    steps = setting.recipe.steps(setting.data)
    found = when if isinstance(when, int) else round(when * steps)
    if not 0 <= found <= steps:
        raise PruneError(f"cannot rewind to step {found}: training has {steps} steps")
    return found


def search(
    setting: Setting,
    densities: list[dict[str, float]],
    *,
    scope: str | Mapping[str, str] = "layer",
    step: int = 0,
    score: Score = large_final,
    rewind: bool = True,
    names: Iterable[str] | None = None,
    trainer: Trainer | None = None,
) -> Ticket:
    """Iterative pruning: train densely, then for each round prune, rewind, train on.

    The model ends trained with the last masks. Each retraining starts at step k with weights,
    buffers, schedule and data order as they were there and a fresh optimiser.

    Args:
        densities: the densities after each round; see `path`.
        scope: see `cut`.
        step: k, the step to rewind to.
        rewind: False keeps the trained weights and rewinds the schedule alone.
        names: of the weights to prune; all of the setting's by default.
        trainer: how to train, where `setting.train` is not it.
    """
    setting.need_data()
    chosen = list(setting.weights if names is None else names)
    train = trainer or _train
    kept = Snapshot(step)
    train(setting, [kept], None, 0)
    start: State = kept.state
    dense = setting.state()
    masks = Masks.full({n: setting.weights[n] for n in chosen})
    history: list[Masks] = []
    asked = setting.keep if setting.density is not None else None
    for number, share in enumerate(densities, 1):
        last = number == len(densities)
        final = {n: setting.weights[n].detach() for n in chosen}
        scores = score({n: start[n] for n in chosen}, final)
        masks = cut(scores, masks, share, scope, asked if last else None)
        history.append(masks)
        setting.rewind(start if rewind else setting.state(), masks)
        train(setting, [], masks, step)
    return Ticket(masks, start, step, dense, tuple(history))


def _train(setting: Setting, hooks: list[Hook], masks: Masks | None, start: int) -> None:
    setting.train(hooks, masks=masks, start=start)
