from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from torch import nn

from sentei.allocation.curves import Curve
from sentei.allocation.scan import equally_missed, largest_qualities, scan
from sentei.allocation.weights import counts, top
from sentei.criteria.inputs import first_user
from sentei.graph.capture import unwrap
from sentei.graph.errors import PruneError
from sentei.methods.base import method
from sentei.methods.parts import ranked
from sentei.methods.setting import Setting
from sentei.recovery.finetune import evaluate
from sentei.structures import Masks
from sentei.structures.removal import shrink

__all__ = ["han_magnitude", "scanned", "thresholded"]


@method(
    "han-magnitude",
    title="Learning both Weights and Connections for Efficient Neural Networks",
    authors="Han, Pool, Tran, Dally",
    venue="NIPS",
    year=2015,
    arxiv="1506.02626",
    family="magnitude",
    structure="weight",
    timing="after",
    starts="trained",
    needs=("data", "labels", "training"),
    card="A1",
)
def han_magnitude(
    setting: Setting,
    *,
    scope: str = "global",
    rounds: int = 1,
    between: int | None = None,
    quality: float | str | Mapping[str, float] | None = None,
    tolerance: float | None = None,
    dropout: bool = True,
    alternate: bool = False,
    remove_dead: bool = False,
) -> Masks:
    """Remove the smallest weights of a trained network, train the rest on from where they are.

    |w| > q_l std(W_l) stays (section 3), or equally the `round(d_l n_l)` largest; survivors keep
    their trained values. Iteratively: densities d^(k/K) for k = 1 … K, training on after each.
    Dropout is weaker while retraining: p' = p sqrt(C_after / C_before) (eq. 3).

    Args:
        scope: over what weights are ranked; see `sentei.allocation.weights.select`.
        rounds: K; between: epochs of training after each round but the last, by default half of
            the recovery's.
        quality: q, one for all or by parameter; the density then follows from it (K = 1). "scan"
            finds one for each layer by pruning it alone and looking at the accuracy on the
            calibration examples (section 3.1): layers get the densities at which each alone would
            lose as much (`sentei.allocation.scan`), the density asked for in all.
        tolerance: with "scan", each layer gets the largest q of `QUALITIES` at which it alone loses
            no more accuracy than this, such as 0.01; the density then follows.
        dropout: rescale dropout while retraining.
        alternate: retrain the convolutions with the linear layers frozen, then the other way round,
            half of the recovery each (the paper does so in deep networks).
        remove_dead: remove neurons without incoming or outgoing weights physically, their bias
            folded into what they fed; needs the setting's `example`.
    """
    if rounds < 1 or (quality is not None and rounds > 1):
        raise PruneError(f"rounds must be at least 1, and 1 with quality=; got {rounds}")
    if isinstance(quality, str) and quality != "scan":
        raise PruneError(f"quality is a number, numbers by parameter or 'scan'; got {quality!r}")
    if tolerance is not None and (quality != "scan" or tolerance < 0):
        raise PruneError(
            f"tolerance goes with quality='scan' and is a loss of accuracy, at least 0; got "
            f"{tolerance!r} with quality={quality!r}"
        )
    if quality is not None:
        masks = _by_quality(setting, quality, tolerance)
        _retrain(setting, masks, setting.tuning.epochs, dropout, alternate)
    else:
        masks = Masks.full(setting.weights)
        short = max(setting.tuning.epochs // 2, 1) if between is None else between
        for k in range(1, rounds + 1):
            masks = ranked(setting, "magnitude", setting.keep ** (k / rounds), scope, masks)
            epochs = setting.tuning.epochs if k == rounds else min(short, setting.tuning.epochs)
            _retrain(setting, masks, epochs, dropout, alternate)
    if remove_dead:
        if setting.example is None:
            raise PruneError("remove_dead runs the model to find neurons: give example inputs")
        shrink(setting.model, setting.example)
        masks = Masks.of_zeros(setting.weights)
    return masks


def _by_quality(
    setting: Setting, quality: float | str | Mapping[str, float], tolerance: float | None
) -> Masks:
    """Masks by thresholds q_l std(W_l), with the q_l given or found by a scan."""
    if not isinstance(quality, str):
        return thresholded(setting.weights, quality)
    curves = scanned(setting)
    if tolerance is not None:
        return thresholded(setting.weights, largest_qualities(curves, tolerance))
    weights = setting.weights
    sizes = {n: w.numel() for n, w in weights.items()}
    densities = equally_missed(curves, sizes, setting.keep)
    shapes = {n: tuple(w.shape) for n, w in weights.items()}
    kept = counts(shapes, densities, round(setting.keep * sum(sizes.values())))
    return Masks({n: top(w.detach().abs(), kept[n]) for n, w in weights.items()})


def scanned(setting: Setting) -> dict[str, Curve]:
    """The accuracy on the calibration examples with each weight pruned alone; see `scan`."""
    data = setting.examples(setting.calibration)
    return scan(setting.weights, lambda: evaluate(setting.model, data, loss=setting.loss).accuracy)


def thresholded(weights: Mapping[str, Any], quality: float | Mapping[str, float]) -> Masks:
    """|w| > q std(w), by parameter.

    Raises:
        PruneError: a parameter has no q, or none of its weights is so large.

    >>> import torch
    >>> thresholded({"w": torch.tensor([[3., -1., 1., -3.]])}, 1)["w"].tolist()
    [[True, False, False, True]]
    """
    masks = {}
    for name, weight in weights.items():
        q = quality.get(name) if isinstance(quality, Mapping) else quality
        if q is None:
            raise PruneError(f"quality names no value for {name!r}; there are {list(quality)}")
        values = weight.detach()
        masks[name] = values.abs() > q * values.std(correction=0)
        if not masks[name].any():
            raise PruneError(
                f"quality {q:g} leaves nothing of {name!r}: no weight is larger than {q:g} "
                f"standard deviations. Try less"
            )
    return Masks(masks)


def _retrain(setting: Setting, masks: Masks, epochs: int, dropout: bool, alternate: bool) -> None:
    masks.apply_(setting.model)
    if setting.data is None or epochs == 0:
        return
    with _weaker_dropout(setting, masks if dropout else Masks({})):
        if not alternate:
            setting.train(recipe=replace(setting.tuning, epochs=epochs), masks=masks)
            return
        recipe = replace(setting.tuning, epochs=max(epochs // 2, 1))
        for kind in (nn.Linear, nn.modules.conv._ConvNd):
            with _only(setting.model, kind):
                setting.train(recipe=recipe, masks=masks)


@contextmanager
def _only(model: nn.Module, kind: type[nn.Module]) -> Iterator[None]:
    """Only modules of a kind are trained; all are where there is none."""
    chosen = {id(p) for m in model.modules() if isinstance(m, kind) for p in m.parameters()}
    frozen = [p for p in model.parameters() if chosen and id(p) not in chosen and p.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)


@contextmanager
def _weaker_dropout(setting: Setting, masks: Masks) -> Iterator[None]:
    """Dropout before a pruned weight is p sqrt(density of that weight) for now."""
    kinds = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
    found = [m for m in unwrap(setting.model).modules() if isinstance(m, kinds) and m.p > 0]
    before = [(m, m.p) for m in found]
    if found and masks:
        users = first_user(setting.model, found, setting.weights, setting.examples(1, 1)[0])
        densities = masks.densities()
        for module, p in before:
            if users.get(module) in densities:
                module.p = p * math.sqrt(densities[users[module]])
    try:
        yield
    finally:
        for module, p in before:
            module.p = p
