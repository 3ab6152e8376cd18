"""Measurements about trainings and masks that prune nothing.

>>> "linear_mode_connectivity" in __all__
True
"""

from sentei.diagnostics.connectivity import Connectivity, linear_mode_connectivity
from sentei.diagnostics.stability import distance

__all__ = ["Connectivity", "distance", "linear_mode_connectivity"]
