"""What every ticket is to be compared with: other values, other places, one shot.

Each control is a pair of masks and starting weights; `retrain` trains any of them from the
ticket's step, with the same or another order of the data.

>>> from sentei.recovery.train import Recipe
>>> x = torch.randn(32, 4)
>>> given = Setting(torch.nn.Linear(4, 2), (x, x[:, 0].gt(0).long()), density=0.5,
...                 recipe=Recipe(epochs=1))
>>> ticket = search(given, path({"weight": (2, 4)}, 0.5))
>>> sorted(starts(ticket, seed=1))
['random', 'reinit', 'shuffle', 'ticket']
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sentei.allocation.weights import select
from sentei.methods.lottery.rounds import Ticket, path, search
from sentei.methods.setting import Setting, State
from sentei.structures import Masks

__all__ = ["one_shot_ticket", "random_masks", "reinit", "retrain", "shuffle", "starts"]


def reinit(start: Mapping[str, Tensor], names: Mapping[str, object], seed: int) -> State:
    """Other values from the distribution of the initial ones: each weight tensor is permuted.

    Independent draws stay independent draws under a permutation, whatever they were drawn from;
    tensors that are not named (norms, buffers) stay as they are.

    >>> out = reinit({"w": torch.arange(4.), "b": torch.ones(2)}, {"w": 0}, seed=0)
    >>> sorted(out["w"].tolist()), out["b"].tolist()
    ([0.0, 1.0, 2.0, 3.0], [1.0, 1.0])
    """
    return {
        n: _permuted(t, f"reinit:{seed}:{n}") if n in names else t.clone() for n, t in start.items()
    }


def shuffle(masks: Masks, seed: int) -> Masks:
    """As many weights of each parameter as `masks` keep, at random places.

    >>> shuffle(Masks({"w": torch.tensor([True, False, False])}), seed=0).kept
    1
    """
    return Masks({n: _permuted(m, f"shuffle:{seed}:{n}") for n, m in masks.items()})


def random_masks(masks: Masks, seed: int) -> Masks:
    """As many weights in all as `masks` keep, drawn from all alike."""
    scores = {
        n: torch.rand(m.shape, generator=_generator(f"random:{seed}:{n}")).to(m.device)
        for n, m in masks.items()
    }
    return select(scores, masks.density, "global")


def one_shot_ticket(setting: Setting, *, scope: str = "layer", step: int = 0) -> Ticket:
    """The ticket that a single round finds. Trains `setting.model` twice."""
    shapes = {n: tuple(w.shape) for n, w in setting.weights.items()}
    return search(setting, path(shapes, setting.keep, rounds=1), scope=scope, step=step)


def starts(
    ticket: Ticket, seed: int, fresh: Mapping[str, Tensor] | None = None
) -> dict[str, tuple[Masks, State]]:
    """The ticket and its controls by name, as masks and starting weights.

    ticket: its masks, its weights. reinit: its masks, other weights. shuffle: as many weights in
    each layer at other places. random: as many in all, anywhere.

    Args:
        fresh: newly drawn initial weights; `reinit` of the ticket's by default, which are weights
            of the initial distribution only if the ticket starts at step 0.
    """
    fresh = reinit(ticket.start, ticket.masks, seed) if fresh is None else dict(fresh)
    return {
        "ticket": (ticket.masks, ticket.start),
        "reinit": (ticket.masks, fresh),
        "shuffle": (shuffle(ticket.masks, seed), ticket.start),
        "random": (random_masks(ticket.masks, seed), ticket.start),
    }


def retrain(
    setting: Setting,
    masks: Masks,
    start: Mapping[str, Tensor],
    *,
    step: int = 0,
    stop: int | None = None,
    seed: int | None = None,
) -> nn.Module:
    """A copy of the setting's model, trained with `masks` from the weights `start` at `step`.

    Args:
        seed: of the data's order; the setting's own by default. A ticket that only wins with the
            order it was found with is none.
    """
    own = copy.copy(setting)
    own.logs = []  # what controls cost is not the method's cost
    own.model = copy.deepcopy(setting.model)
    own.rewind(start, masks)
    own.train(masks=masks, start=step, stop=stop, seed=seed)
    return own.model


def _permuted(tensor: Tensor, seed: str) -> Tensor:
    order = torch.randperm(tensor.numel(), generator=_generator(seed)).to(tensor.device)
    return tensor.flatten()[order].view_as(tensor)


def _generator(name: str) -> torch.Generator:
    return torch.Generator().manual_seed(zlib.crc32(name.encode()))
