"""How much of each group goes: budgets, and the planner that meets them."""

from sentei.allocation.movable import GRANULARITIES, movable, role
from sentei.allocation.planner import ALLOCATIONS, NORMALISERS, Plan, plan
from sentei.allocation.target import Target

__all__ = [
    "ALLOCATIONS",
    "GRANULARITIES",
    "NORMALISERS",
    "Plan",
    "Target",
    "movable",
    "plan",
    "role",
]
