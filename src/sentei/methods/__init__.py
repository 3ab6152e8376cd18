"""Named methods: a folder for each family, a file for each method; `METHODS` lists them all.

>>> sorted(METHODS)[:1] != [], METHODS["han-magnitude"].year
(True, 2015)
"""

from __future__ import annotations

from sentei.graph.errors import PruneError, closest
from sentei.methods.apply import Outcome, apply
from sentei.methods.base import Method, method
from sentei.methods.call import by_method
from sentei.methods.gradient import GRADIENT
from sentei.methods.lottery import LOTTERY
from sentei.methods.magnitude import MAGNITUDE
from sentei.methods.own import is_file, own_method
from sentei.methods.setting import Setting
from sentei.methods.units import UNITS

__all__ = ["METHODS", "Method", "Outcome", "Setting", "apply", "by_method", "by_name", "method"]

METHODS: dict[str, Method] = {**MAGNITUDE, **GRADIENT, **LOTTERY, **UNITS}


def by_name(which: str | Method) -> Method:
    """A method by its id; `file.py:name` is a user's own; a `Method` is taken as it is.

    Raises:
        PruneError: there is none of that name; names the closest. Or a file is no good.
    """
    if isinstance(which, Method):
        return which
    if is_file(str(which)):
        return own_method(which)
    if which not in METHODS:
        raise PruneError(f"unknown method {which!r}; {closest(str(which), METHODS)}")
    return METHODS[which]
