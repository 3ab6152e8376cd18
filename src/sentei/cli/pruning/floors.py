"""What every group keeps over all rounds: a share of the width that the run found it with."""

from __future__ import annotations

import copy
from collections.abc import Mapping

from torch import nn

import sentei
from sentei.allocation import Target
from sentei.allocation.target import ceil_share
from sentei.cli.config import Config
from sentei.cli.folder import Facts
from sentei.cli.opened import Opened
from sentei.cli.pruning.cutting import cut

__all__ = ["cut_above", "floors_of"]

# A group that has less than twice its floor left is rather left whole for a round than that others
# may lose no more than it.
_NEAR = 0.5


def floors_of(first: Facts, share: float) -> dict[str, int]:
    """group -> the fewest units it may have after any round: `share` of its width before the first.

    Args:
        first: what the first round did; see `facts_of`.

    >>> floors_of({"groups": {"fc": {"before": 30, "after": 9}}}, 0.1)
    {'fc': 3}
    """
    return {name: ceil_share(share, width["before"]) for name, width in first["groups"].items()}


def cut_above(
    config: Config, opened: Opened, model: nn.Module, target: Target, floors: Mapping[str, int]
) -> sentei.Result:
    """`cut` on a copy of a model that was cut before, where no group ends below its floor.

    `sentei.prune` knows one smallest share for all groups, of what they have now. Where a plan goes
    below a floor, it is made anew: with a smallest share at which that group ends on its floor; or,
    where that would bind the others too much, with that group left whole.

    Raises:
        PruneError: the target is out of reach above the floors.
    """
    share, whole = config.min_fraction, list(config.protect)
    while True:
        now = config.model_copy(update={"min_fraction": share, "protect": whole})
        result = cut(now, opened, copy.deepcopy(model), target)
        widths = result.plan.widths
        # Half a unit less, for the share is rounded up to whole units.
        low = {
            name: (floors[name] - 0.5) / result.groups[name].size
            for name in widths
            if widths[name] < floors.get(name, 0)
        }
        if not low:
            return result
        # What a smallest share has not kept up (a configuration may want less) is left whole, too.
        rest = [name for name, needed in low.items() if needed > _NEAR or needed <= share]
        whole += rest
        share = max([share, *(needed for name, needed in low.items() if name not in rest)])
