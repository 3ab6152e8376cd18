from __future__ import annotations

import math

from torch import Tensor

from sentei.allocation.weights import select
from sentei.graph.errors import PruneError
from sentei.hooks.surgery import SurgeryHook
from sentei.methods.base import method
from sentei.methods.parts import planned_steps
from sentei.methods.setting import Setting
from sentei.structures import Masks

__all__ = ["dynamic_network_surgery", "thresholds"]


@method(
    "dynamic-network-surgery",
    title="Dynamic Network Surgery for Efficient DNNs",
    authors="Guo, Yao, Chen",
    venue="NIPS",
    year=2016,
    arxiv="1608.04493",
    family="magnitude",
    structure="weight",
    timing="during",
    starts="trained",
    needs=("data", "labels", "gradients", "training"),
    card="A2",
    lineage=("han-magnitude",),
)
def dynamic_network_surgery(
    setting: Setting,
    *,
    c_rate: float | dict[str, float] | None = None,
    gamma: float = 1e-3,
    power: float = 1.0,
    stop: float = 0.6,
    splice: bool = True,
) -> Masks:
    """Prune small weights while training on, and bring back those that grow again.

    a, b = 0.9, 1.1 times max(μ + c σ, 0), with μ, σ of |W| over the layer's weights that are not
    zero, taken once; |W| <= a goes, |W| > b comes back, at steps drawn with probability
    (1 + γ i)^-power; the gradient at the masked weights moves all weights (algorithm 1, eq. 3).

    The training is the setting's recovery. The reference pools weights and biases for μ and σ;
    here biases take no part.

    Args:
        c_rate: c, one for all or by parameter; how many weights stay then follows. None takes the
            c at which a leaves the setting's density of each layer at the start, and from `stop`
            on the exactly so many largest weights are kept.
        gamma, power: of the probability.
        stop: share of the training after which masks are frozen.
        splice: False never brings a weight back and masks the gradient, for comparison.
    """
    if not 0 <= stop <= 1:
        raise PruneError(f"stop is a share of the training, in [0, 1]; got {stop:g}")
    steps = planned_steps(setting, setting.tuning)
    weights = setting.weights
    last = round(stop * steps)
    bounds = {n: thresholds(w, _rate(n, w, c_rate, setting)) for n, w in weights.items()}
    kind = SurgeryHook if c_rate is not None else _ExactSurgery
    hook = kind(
        bounds, weights, gamma=gamma, power=power, stop=last, seed=setting.seed, splice=splice
    )
    if isinstance(hook, _ExactSurgery):
        hook.density = setting.keep
    setting.train([hook], recipe=setting.tuning)
    hook.masks.apply_(setting.model)
    return hook.masks


class _ExactSurgery(SurgeryHook):
    """Surgery whose frozen masks keep an exact share: its own survivors first, by size."""

    density: float

    def refresh(self) -> None:
        super().refresh()
        if self.step == max(self.stop, 0):
            # A weight outside the mask comes after every one inside, then by size.
            far = 1 + max(float(d.abs().max()) for d in self.dense.values())
            scores = {n: d.abs() + far * self.masks[n] for n, d in self.dense.items()}
            self.masks = select(scores, self.density, "global")


def thresholds(weight: Tensor, c: float) -> tuple[float, float]:
    """(a, b) = (0.9, 1.1) · max(μ + c σ, 0), over |w| of the weights that are not zero.

    >>> import torch
    >>> [round(x, 6) for x in thresholds(torch.tensor([[1., -3., 0.]]), 1.0)]
    [2.7, 3.3]
    """
    middle, spread = _moments(weight)
    level = max(middle + c * spread, 0.0)
    return 0.9 * level, 1.1 * level


def _moments(weight: Tensor) -> tuple[float, float]:
    size = weight.detach().abs().double()
    size = size[size > 0]
    if not len(size):
        return 0.0, 0.0
    return size.mean().item(), size.std(correction=0).item()


def _rate(name: str, weight: Tensor, c: float | dict[str, float] | None, setting: Setting) -> float:
    if isinstance(c, dict):
        if name not in c:
            raise PruneError(f"c_rate names no value for {name!r}; there are {list(c)}")
        return c[name]
    if c is not None:
        return c
    size = weight.detach().abs().flatten().double().sort().values
    level = size[max(math.ceil((1 - setting.keep) * len(size)) - 1, 0)].item()
    middle, spread = _moments(weight)
    return (level / 0.9 - middle) / spread if spread else 0.0
