"""Sentences that methods are made of."""

from __future__ import annotations

import math
from collections.abc import Mapping

from sentei.allocation.weights import select
from sentei.criteria.weights import Saliency, weigh
from sentei.graph.errors import PruneError
from sentei.hooks.gradual import GradualHook, updates
from sentei.methods.setting import Setting
from sentei.recovery.train import Recipe
from sentei.schedules import Schedule
from sentei.structures import Masks

__all__ = ["gradual", "one_shot", "planned_steps", "ranked", "window"]


def one_shot(
    setting: Setting, saliency: str | Saliency, scope: str | Mapping[str, float] = "global"
) -> Masks:
    """Score once, keep the setting's density of the best, and set the others to zero."""
    masks = select(weigh(saliency, setting.evidence()), setting.keep, scope)
    masks.apply_(setting.model)
    return masks


def ranked(
    setting: Setting,
    saliency: str | Saliency,
    density: float,
    scope: str | Mapping[str, float],
    masks: Masks | None = None,
) -> Masks:
    """Like `one_shot` with a density of its own, among the survivors of `masks`; applies nothing.

    What is masked ranks below everything that is not, whatever its score.
    """
    scores = weigh(saliency, setting.evidence())
    if masks is not None:
        scores = {n: s.masked_fill(~masks[n], -math.inf) for n, s in scores.items()}
    return select(scores, density, scope)


def planned_steps(setting: Setting, recipe: Recipe) -> int:
    """Optimiser steps of a training by `recipe`.

    Raises:
        PruneError: the number of batches cannot be known.
    """
    setting.need_data()
    steps = recipe.steps(setting.data)
    if not steps:
        raise PruneError(
            f"this method prunes on the way and must know how many steps there are: give data with "
            f"a length, and at least one epoch (got {recipe.epochs})"
        )
    return steps


def window(steps: int, begin: float, end: float) -> tuple[int, int]:
    """Steps at these shares of a training; the end after the begin.

    >>> window(100, 0.1, 0.6), window(4, 0.0, 0.1)
    ((10, 60), (0, 1))
    """
    if not 0 <= begin <= end <= 1:
        raise PruneError(f"begin and end are shares of the training, 0 <= begin <= end <= 1; got "
                         f"{begin:g} and {end:g}")  # fmt: skip
    first = round(begin * steps)
    return first, max(round(end * steps), first + 1)


def gradual(
    setting: Setting,
    schedule: Schedule,
    span: tuple[int, int],
    every: int,
    saliency: str | Saliency = "magnitude",
    scope: str | Mapping[str, float] = "uniform",
) -> GradualHook:
    """A hook that keeps the density 1 - schedule(step), chosen anew every so many steps."""
    if every < 1:
        raise PruneError(f"every: masks are updated every so many steps, at least 1; got {every}")

    def choose(step: int, masks: Masks) -> Masks:
        return ranked(setting, saliency, 1 - schedule(step), scope, masks)

    return GradualHook(Masks.full(setting.weights), choose, updates(*span, every))
