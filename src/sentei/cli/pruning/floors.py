"""What every group keeps over all rounds: a share of the width that the run found it with."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

from torch import nn

import sentei
from sentei.allocation import Target
from sentei.allocation.target import ceil_share
from sentei.cli.config import Config
from sentei.cli.folder import Facts
from sentei.cli.opened import Opened
from sentei.cli.pruning.cutting import cut
from sentei.cli.pruning.names import original, renumbering

__all__ = ["cut_above", "floors_of"]

# A group that has less than twice its floor left is rather left whole for a round than that others
# may lose no more than it.
_NEAR = 0.5


def floors_of(groups: Facts, share: float) -> dict[str, int]:
    """group -> the fewest units it may have after any round: `share` of its width before the first.

    Args:
        groups: by the names they had then; see `sentei.cli.pruning.figures.groups_of`.

    >>> floors_of({"fc": {"before": 30, "after": 9}}, 0.1)
    {'fc': 3}
    """
    return {name: ceil_share(share, width["before"]) for name, width in groups.items()}


def cut_above(
    config: Config,
    opened: Opened,
    model: nn.Module,
    target: Target,
    floors: Mapping[str, int],
    gone: Sequence[str] = (),
) -> sentei.Result:
    """`cut` on a copy of a model that was cut before, where no group ends below its floor.

    `sentei.prune` knows one smallest share for all groups, of what they have now. Where a plan goes
    below a floor, it is made anew: with a smallest share at which that group ends on its floor; or,
    where that would bind the others too much, with that group left whole.

    Args:
        floors: by the names that groups had before any layer was taken out.
        gone: layers that went in earlier rounds and after which others are renumbered.
    Raises:
        PruneError: the target is out of reach above the floors.
    """
    share, whole = config.min_fraction, list(config.protect)
    while True:
        now = config.model_copy(update={"min_fraction": share, "protect": whole})
        result = cut(now, opened, copy.deepcopy(model), target)
        widths, layers = result.plan.widths, [*gone, *renumbering(result)]
        least = {name: floors.get(original(name, layers), 0) for name in widths}
        # Half a unit less, for the share is rounded up to whole units.
        low = {
            name: (least[name] - 0.5) / result.groups[name].size
            for name in widths
            if widths[name] < least[name]
        }
        if not low:
            return result
        # What a smallest share has not kept up (a configuration may want less) is left whole, too.
        rest = [name for name, needed in low.items() if needed > _NEAR or needed <= share]
        whole += rest
        share = max([share, *(needed for name, needed in low.items() if name not in rest)])
