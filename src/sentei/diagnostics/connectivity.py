"""Instability analysis: are two trainings from one point linearly connected?"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from sentei.batches import Data, batches, forward, to_device
from sentei.graph.capture import unwrap
from sentei.graph.errors import PruneError
from sentei.structures import Masks

__all__ = ["Connectivity", "linear_mode_connectivity"]

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Connectivity:
    """Errors on the line between two networks.

    alphas: the places, from 0 (the second network) to 1 (the first).
    errors: what `error` said at each.
    """

    alphas: tuple[float, ...]
    errors: tuple[float, ...] = field(repr=False)

    @property
    def instability(self) -> float:
        """max over alpha of the error, less the mean error of the two ends; 0 or more."""
        return max(self.errors) - (self.errors[0] + self.errors[-1]) / 2

    @property
    def barrier(self) -> float:
        """max over alpha of the error, less the line between the errors of the two ends.

        0 for whatever is convex, where `instability` still shows half the ends' difference.
        """
        ends = self.errors[0], self.errors[-1]
        line = (a * ends[1] + (1 - a) * ends[0] for a in self.alphas)
        return max(e - on for e, on in zip(self.errors, line, strict=True))

    @property
    def stable(self) -> bool:
        """Whether the instability is below 2 points, the paper's noise (errors in [0, 1])."""
        return self.instability < 0.02


def linear_mode_connectivity(
    model: nn.Module,
    one: State,
    two: State,
    error: Callable[[nn.Module], float],
    *,
    points: int = 11,
    masks: Masks | None = None,
    statistics: Data = None,
) -> Connectivity:
    """The error along alpha · one + (1 - alpha) · two.

    Train to step k, then twice on from there with different data orders, and compare: below 2
    points of error the training was stable to its noise from step k on. Lottery tickets are found
    where this holds (arXiv:1912.05671, section 4).

    Args:
        model: where states are put to be measured; a copy is used.
        one, two: states (parameters and buffers) of the two networks.
        error: what to measure, such as one minus the test accuracy; smaller is better.
        points: places on the line, ends included.
        masks: weights that these do not keep count as zero in both.
        statistics: training data to estimate batch-norm's running statistics on anew at every
            point; the mean of two networks' statistics is not that of the mean network. Without
            it they are interpolated.
    Raises:
        PruneError: fewer than two points, or states that do not fit together.

    >>> net = nn.Linear(1, 1, bias=False)
    >>> ends = {"weight": torch.ones(1, 1)}, {"weight": -torch.ones(1, 1)}
    >>> found = linear_mode_connectivity(net, *ends, lambda m: 1 - m.weight.item() ** 2, points=5)
    >>> found.errors, found.instability
    ((0.0, 0.75, 1.0, 0.75, 0.0), 1.0)
    """
    if points < 2:
        raise PruneError(f"a line needs at least 2 points; got {points}")
    if one.keys() != two.keys():
        odd = sorted(one.keys() ^ two.keys())
        raise PruneError(f"the two states differ in what they hold: {', '.join(odd[:5])}")
    own = copy.deepcopy(unwrap(model))
    alphas = tuple(i / (points - 1) for i in range(points))
    errors = []
    for alpha in alphas:
        own.load_state_dict({n: _between(one[n], two[n], alpha) for n in one})
        if masks is not None:
            masks.apply_(own)
        if statistics is not None:
            _estimate(own, statistics)
        errors.append(float(error(own)))
    return Connectivity(alphas, tuple(errors))


def _between(one: Tensor, two: Tensor, alpha: float) -> Tensor:
    if not one.is_floating_point() or alpha in (0.0, 1.0):  # the ends are the networks themselves
        return one if alpha > 0.5 else two
    # Symmetric to the last bit: exchanging the two and alpha for 1 - alpha adds the same two.
    return alpha * one + (1 - alpha) * two


@torch.no_grad()
def _estimate(model: nn.Module, data: Data) -> None:
    """Batch-norm's running statistics as the mean over the batches of `data`."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    norms = [m for m in norms if m.track_running_stats and m.running_mean is not None]
    if not norms:
        return
    flags = {m: m.training for m in model.modules()}
    momenta = [m.momentum for m in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative mean
        norm.training = True
    device = next(model.parameters()).device
    try:
        for batch in batches(data, 256):
            forward(model, to_device(batch, device))
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, flag in flags.items():
            module.training = flag
