"""How much, when: sparsity as a function of progress.

A schedule is a frozen dataclass that is called with a step and gives the sparsity (the share
removed) that holds from then on.
"""

from sentei.schedules.curves import Cubic, Exponential, Linear, Schedule

__all__ = ["Cubic", "Exponential", "Linear", "Schedule"]
