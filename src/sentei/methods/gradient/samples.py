"""The examples that methods before training look at."""

from __future__ import annotations

from typing import Any

import torch

from sentei.batches import Batch, in_memory
from sentei.methods.setting import Setting

__all__ = ["scoring_batches"]


def scoring_batches(setting: Setting, samples: int) -> list[Batch]:
    """`samples` training examples drawn by the setting's seed, or all there are.

    Of labelled examples in memory equally many come from each class (one more from the first few,
    where it does not come out even), as far as there are so many, in one batch. Data that brings
    its own batches gives as many whole ones as it takes.
    """
    setting.need_data()
    if not in_memory(setting.data):
        return setting.examples(samples)
    x, y = setting.data
    if y.dim() != 1 or y.is_floating_point():
        return setting.examples(samples)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(setting.seed))
    chosen = _balanced(y[order.to(y.device)].cpu(), samples)
    index = order[chosen]
    return [(x[index.to(x.device)], y[index.to(y.device)])]


def _balanced(labels: torch.Tensor, samples: int) -> torch.Tensor:
    """Positions of the first so many of each class, in their order.

    >>> _balanced(torch.tensor([0, 0, 0, 1, 1, 0]), 4).tolist()
    [0, 1, 3, 4]
    """
    # An example's rank among those of its class; whole ranks first, then by order.
    rank = torch.zeros(len(labels), dtype=torch.int64)
    seen: dict[Any, int] = {}
    for place, label in enumerate(labels.tolist()):
        rank[place] = seen.setdefault(label, 0)
        seen[label] += 1
    return rank.argsort(stable=True)[:samples].sort().values
