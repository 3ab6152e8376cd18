"""Remove units and layers from a model for a budget, or those that are named."""

from sentei.pruning.budget import prune
from sentei.pruning.result import Result
from sentei.pruning.units import delete_units

__all__ = ["Result", "delete_units", "prune"]
