from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping

from torch import nn

from sentei.allocation.weights import counts
from sentei.graph.errors import PruneError, closest
from sentei.hooks.clip_q import ClipQ
from sentei.methods.base import method
from sentei.methods.parts import planned_steps
from sentei.methods.setting import Setting
from sentei.recovery.finetune import evaluate
from sentei.structures import Masks
from sentei.structures.codebook import clip_and_quantise, stored_bits

__all__ = ["clip_q", "search_rates"]

RATES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
BITS = (2, 3, 4)
SEARCHES = ("grid", "gp", "tpe")


@method(
    "clip-q",
    title="CLIP-Q: Deep Network Compression Learning by In-Parallel Pruning-Quantization",
    authors="Tung, Mori",
    venue="CVPR",
    year=2018,
    family="magnitude",
    structure="weight",
    timing="during",
    starts="trained",
    needs=("data", "labels", "gradients", "training"),
    card="A8",
    lineage=("han-magnitude", "dynamic-network-surgery"),
)
def clip_q(
    setting: Setting,
    *,
    bits: int = 4,
    search: str | None = None,
    trade: float = 1.0,
    trials: int = 20,
) -> Masks:
    """Prune and quantise together in every forward pass of the fine-tuning.

    Of either sign the same share of weights, the smallest, is clipped to zero; the rest of each
    side is cut into cells of equal width, 2^b - 1 in all, and each weight becomes the mean of its
    cell. The gradient there moves the full-precision weights, so that what was clipped can return
    (section 3.1). At the end every layer holds at most 2^b values, zero among them.

    The fine-tuning is the setting's recovery. Every layer loses the setting's share.

    Args:
        bits: b of every layer.
        search: find rate and bits of each layer first: by Bayesian optimisation with a Gaussian
            process and expected improvement as in the paper ("gp"), with Parzen estimators ("tpe";
            both need sentei[bench]), or by the "grid" of `RATES` and `BITS`. Sought is the least of
            error - `trade` · (share of the network's bits saved), on the calibration examples with
            that layer alone changed (section 3.2). The density then follows from what is found.
        trials: of "gp" and "tpe" for each layer.
    """
    planned_steps(setting, setting.tuning)
    weights = setting.weights
    if search is None:
        shapes = {n: tuple(w.shape) for n, w in weights.items()}
        total = sum(w.numel() for w in weights.values())
        kept = counts(shapes, dict.fromkeys(shapes, setting.keep), round(setting.keep * total))
        plan = {n: (w.numel() - kept[n], bits) for n, w in weights.items()}
    else:
        found = search_rates(setting, search, trade, trials)
        plan = {n: (round(p * weights[n].numel()), b) for n, (p, b) in found.items()}
    hook = ClipQ(plan)
    setting.train([hook], recipe=setting.tuning)
    # What a cell's mean happens to make zero is not clipped, but stored as zero all the same.
    return Masks.of_zeros(weights)


def search_rates(
    setting: Setting, how: str = "grid", trade: float = 1.0, trials: int = 20
) -> Mapping[str, tuple[float, int]]:
    """Parameter -> (rate, bits), layers in order of decreasing size.

    Args:
        how: one of `SEARCHES`.
    Raises:
        PruneError: an unknown search, or what it needs is not installed.
    """
    if how not in SEARCHES:
        raise PruneError(f"unknown search {how!r}; {closest(how, SEARCHES)}")
    weights = setting.weights
    whole = 32 * sum(w.numel() for w in weights.values())
    data = setting.examples(setting.calibration)
    found: dict[str, tuple[float, int]] = {}
    for name in sorted(weights, key=lambda n: -weights[n].numel()):
        weight = weights[name]

        def price(rate: float, bits: int, weight: nn.Parameter = weight) -> float:
            drop = round(rate * weight.numel())
            kept = weight.detach().clone()
            try:
                weight.data.copy_(clip_and_quantise(kept, drop, bits))
                error = 1 - evaluate(setting.model, data, loss=setting.loss).accuracy
            finally:
                weight.data.copy_(kept)
            saved = 32 * weight.numel() - stored_bits(weight.numel(), drop, bits)
            return error - trade * saved / whole

        if how == "grid":
            grid = [(p, b) for p in RATES for b in BITS]
            found[name] = min(grid, key=lambda pair: price(*pair))
        else:
            found[name] = _sampled(price, how, trials, setting.seed)
    return {n: found[n] for n in weights}


def _sampled(
    price: Callable[[float, int], float], how: str, trials: int, seed: int
) -> tuple[float, int]:
    """The cheapest (rate, bits) that a sampler of Optuna's comes to."""
    try:
        import optuna

        if how == "gp":
            import scipy  # noqa: F401  the sampler imports it when it is first asked
    except ModuleNotFoundError as missing:
        raise PruneError(
            f"search={how!r} needs {missing.name}: pip install 'sentei[bench]', or use "
            f"search='grid'"
        ) from missing
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        # Optuna calls the sampler experimental: its interface may change, not what it finds.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        samplers = {"gp": optuna.samplers.GPSampler, "tpe": optuna.samplers.TPESampler}
        study = optuna.create_study(sampler=samplers[how](seed=seed))
    study.optimize(
        lambda trial: price(
            trial.suggest_float("rate", RATES[0], RATES[-1]),
            trial.suggest_int("bits", BITS[0], BITS[-1]),
        ),
        n_trials=trials,
    )
    return float(study.best_params["rate"]), int(study.best_params["bits"])
