"""What is asked for: a ceiling on what the pruned network may cost."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from fractions import Fraction
from math import ceil, floor, isfinite
from numbers import Integral, Real

from sentei.graph.errors import PruneError

__all__ = ["Seconds", "Target", "ceil_share", "in_units", "share_of"]


class Seconds(float):
    """An absolute time; a plain float would be a fraction. Prints as people say it.

    >>> Seconds(0.0125)
    '12.5 ms'
    """

    def __repr__(self) -> str:
        return repr(in_units("latency", self))


@dataclass(frozen=True)
class Target:
    """A budget. Several at once must all hold; each is a ceiling.

    width: share of the units of every group that stays, a fraction.
    units: share of all prunable units together, ranked against each other; or their number.
    params: parameters of the pruned network, as a fraction of what it has or as a number.
    macs: multiply-adds of one forward pass on the example input, likewise.
    bytes: stored bytes of the tensors an artefact holds, at their types, likewise.
    memory: bytes that one forward pass needs at its peak, likewise: parameters, buffers, inputs
        and the activations alive at once; see `sentei.graph.cost`.
    latency: time of one forward pass on the example input where the model lies, as a fraction of
        what the unpruned model takes or as a time, such as "10 ms". It is measured.

    Fractions are floats in (0, 1] or strings such as "50 %", numbers are integers above 1; bytes
    and times may be strings with a unit. Fractions of a unit are rounded down, but no group loses
    its last unit.

    >>> Target(macs=0.5, params=2_000_000)
    Target(params=2000000, macs=0.5)
    >>> Target(latency="10 ms", memory="1.5 GiB")
    Target(memory=1610612736, latency='10 ms')
    >>> Target(macs=1.5)
    Traceback (most recent call last):
    sentei.graph.errors.PruneError: Target(macs=1.5): a float is the fraction to keep, above 0 and \
at most 1. For half: macs=0.5; for a number of MACs: an integer
    """

    width: float | None = None
    units: float | int | None = None
    params: float | int | None = None
    macs: float | int | None = None
    bytes: float | int | str | None = None
    memory: float | int | str | None = None
    latency: float | str | None = None

    def __post_init__(self) -> None:
        if all(getattr(self, f.name) is None for f in fields(self)):
            raise PruneError(
                "Target() asks for nothing: give width=, units=, params= or macs=, bytes=, "
                "memory= or latency=, such as Target(macs=0.5)"
            )
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None:
                object.__setattr__(self, field.name, _checked(field.name, value))

    def limits(self, before: Mapping[str, float]) -> dict[str, float]:
        """The absolute ceilings, given what the whole network has; width is not among them."""
        found: dict[str, float] = {}
        for name, whole in before.items():
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, Seconds) or not isinstance(value, float):
                found[name] = float(value) if name == "latency" else value
            else:
                found[name] = value * whole if name == "latency" else share_of(value, whole)
        return found

    def __repr__(self) -> str:
        asked = [(f.name, getattr(self, f.name)) for f in fields(self)]
        return f"Target({', '.join(f'{n}={v}' for n, v in asked if v is not None)})"


_COUNTED = {
    "units": "units", "params": "parameters", "macs": "MACs", "bytes": "bytes", "memory": "bytes",
}  # fmt: skip
_BYTES = {
    "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


def _checked(name: str, value: object) -> float | int:
    label = f"Target({name}={value!r})"
    if isinstance(value, str):
        value = _parsed(name, value, label)
    if isinstance(value, Seconds) and name == "latency":
        if not (isfinite(value) and value > 0):
            raise PruneError(f"{label}: a time must be above 0")
        return value
    if isinstance(value, bool) or not isinstance(value, Real):
        raise PruneError(f"{label}: want a fraction such as 0.5 or an integer; got {value!r}")
    if isinstance(value, Integral):
        if name == "width":
            raise PruneError(
                f"{label}: width is the share of every group that stays, a float in (0, 1]"
            )
        if name == "latency":
            raise PruneError(
                f"{label}: a float is the fraction to keep, a string a time; for {value} seconds: "
                f"latency='{value} s'"
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
        other = "" if name == "width" else f"; for a number of {_COUNTED.get(name)}: an integer"
        if name == "latency":
            other = "; for a time: a string such as '10 ms'"
        raise PruneError(
            f"{label}: a float is the fraction to keep, above 0 and at most 1. "
            f"For half: {name}=0.5{other}"
        )
    return float(value)


def _parsed(name: str, text: str, label: str) -> float | int | str:
    """A string such as "50 %", "10 ms" or "2 GiB"; as it is if it is none of these."""
    match = re.fullmatch(r"\s*([0-9.]+(?:e[+-]?[0-9]+)?)\s*([a-zµ%]+)\s*", text, re.IGNORECASE)
    try:
        number = float(match[1]) if match else None
    except ValueError:
        number = None
    if match is None or number is None:
        return text
    unit = match[2] if match[2] in _SECONDS else match[2].lower()
    if unit == "%":
        return float(Fraction(match[1]) / 100)
    if name == "latency" and unit in _SECONDS:
        return Seconds(number * _SECONDS[unit])
    if name in ("bytes", "memory") and unit in _BYTES:
        return int(number * _BYTES[unit])
    known = {"latency": "s, ms, us or ns", "bytes": "kB, MB, GB, KiB, MiB or GiB"}
    known["memory"] = known["bytes"]
    units = f"{known[name]}, or %" if name in known else "%, or a number"
    raise PruneError(f"{label}: unknown unit {match[2]!r}; want {units}")


def in_units(name: str, value: float) -> str:
    """A cost as people say it: times in ms, bytes in MiB, shares in %, other numbers in full.

    >>> in_units("latency", 0.0031), in_units("memory", 3 * 2**20), in_units("macs", 12345)
    ('3.1 ms', '3 MiB', '12,345')
    """
    if name == "width":
        return f"{100 * value:.3g} %"
    if name == "latency":
        for unit in ("s", "ms", "us"):
            if value >= _SECONDS[unit] or unit == "us":
                return f"{value / _SECONDS[unit]:.4g} {unit}"
    if name in ("bytes", "memory"):
        for unit, label in (("gib", "GiB"), ("mib", "MiB"), ("kib", "KiB")):
            if value >= _BYTES[unit]:
                return f"{value / _BYTES[unit]:.4g} {label}"
    return f"{value:,.0f}"


def share_of(fraction: float, whole: float) -> int:
    """`fraction` of `whole` as the decimal number that was written, rounded down.

    >>> share_of(0.29, 100), int(0.29 * 100)
    (29, 28)
    """
    return floor(Fraction(repr(float(fraction))) * int(whole))


def ceil_share(fraction: float, whole: int) -> int:
    """`fraction` of `whole` as the decimal number that was written, rounded up.

    >>> ceil_share(0.1, 30)
    3
    """
    return ceil(Fraction(repr(float(fraction))) * whole)
