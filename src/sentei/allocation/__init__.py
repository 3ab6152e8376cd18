"""How much of each group goes: budgets, and the planner that meets them."""

from sentei.allocation.curves import Curve
from sentei.allocation.movable import GRANULARITIES, movable, role
from sentei.allocation.normalise import NORMALISERS
from sentei.allocation.orders import ALLOCATIONS
from sentei.allocation.planner import Plan, plan
from sentei.allocation.target import Seconds, Target

__all__ = [
    "ALLOCATIONS",
    "GRANULARITIES",
    "NORMALISERS",
    "Curve",
    "Plan",
    "Seconds",
    "Target",
    "movable",
    "plan",
    "role",
]
