"""What is asked for: a ceiling on what the pruned network may cost."""

from __future__ import annotations

from dataclasses import dataclass, fields
from fractions import Fraction
from math import ceil, floor
from numbers import Integral, Real

from sentei.graph.errors import PruneError

__all__ = ["Target", "ceil_share", "share_of"]


@dataclass(frozen=True)
class Target:
    """A budget. Several at once must all hold; each is a ceiling.

    width: share of the units of every group that stays, a fraction.
    units: share of all prunable units together, ranked against each other; or their number.
    params: parameters of the pruned network, as a fraction of what it has or as a number.
    macs: multiply-adds of one forward pass on the example input, likewise.

    Fractions are floats in (0, 1], numbers are integers above 1. Fractions of a unit are rounded
    down, but no group loses its last unit.

    >>> Target(macs=0.5, params=2_000_000)
    Target(params=2000000, macs=0.5)
    >>> Target(macs=50)
    Target(macs=50)
    >>> Target(macs=1.5)
    Traceback (most recent call last):
    sentei.graph.errors.PruneError: Target(macs=1.5): a float is the fraction to keep, above 0 and \
at most 1. For half: macs=0.5; for a number of MACs: an integer
    """

    width: float | None = None
    units: float | int | None = None
    params: float | int | None = None
    macs: float | int | None = None

    def __post_init__(self) -> None:
        if all(getattr(self, f.name) is None for f in fields(self)):
            raise PruneError(
                "Target() asks for nothing: give width=, units=, params= or macs=, "
                "such as Target(macs=0.5)"
            )
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None:
                object.__setattr__(self, field.name, _checked(field.name, value))

    def limits(self, before: dict[str, int]) -> dict[str, int]:
        """The absolute ceilings, given what the whole network has; width is not among them."""
        found = {}
        for name, whole in before.items():
            value = getattr(self, name)
            if value is not None:
                found[name] = share_of(value, whole) if isinstance(value, float) else value
        return found

    def __repr__(self) -> str:
        asked = [(f.name, getattr(self, f.name)) for f in fields(self)]
        return f"Target({', '.join(f'{n}={v}' for n, v in asked if v is not None)})"


_COUNTED = {"units": "units", "params": "parameters", "macs": "MACs"}


def _checked(name: str, value: object) -> float | int:
    label = f"Target({name}={value!r})"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise PruneError(f"{label}: want a fraction such as 0.5 or an integer; got {value!r}")
    if isinstance(value, Integral):
        if name == "width":
            raise PruneError(
                f"{label}: width is the share of every group that stays, a float in (0, 1]"
            )
        if value == 1:
            raise PruneError(
                f"{label}: 1.0 is everything, an integer above 1 is a number of {_COUNTED[name]}; "
                f"1 could be either"
            )
        if value < 1:
            raise PruneError(f"{label}: a number of {_COUNTED[name]} must be above 1")
        return int(value)
    if not 0 < value <= 1:
        other = "" if name == "width" else f"; for a number of {_COUNTED[name]}: an integer"
        raise PruneError(
            f"{label}: a float is the fraction to keep, above 0 and at most 1. "
            f"For half: {name}=0.5{other}"
        )
    return float(value)


def share_of(fraction: float, whole: int) -> int:
    """`fraction` of `whole` as the decimal number that was written, rounded down.

    >>> share_of(0.29, 100), int(0.29 * 100)
    (29, 28)
    """
    return floor(Fraction(repr(float(fraction))) * whole)


def ceil_share(fraction: float, whole: int) -> int:
    """`fraction` of `whole` as the decimal number that was written, rounded up.

    >>> ceil_share(0.1, 30)
    3
    """
    return ceil(Fraction(repr(float(fraction))) * whole)
