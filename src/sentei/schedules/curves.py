"""Curves from the first pruning to the last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

__all__ = ["Cubic", "Exponential", "Linear", "Schedule"]


class Schedule(Protocol):
    """Sparsity after a step, in [0, 1]; never falls."""

    def __call__(self, step: float) -> float: ...


@dataclass(frozen=True)
class _Ramp:
    """Sparsity `initial` until `start`, `final` from `end` on; a curve between."""

    final: float
    start: float
    end: float
    initial: float = 0.0

    def progress(self, step: float) -> float:
        if self.end <= self.start:
            return float(step >= self.end)
        return min(max((step - self.start) / (self.end - self.start), 0.0), 1.0)


@dataclass(frozen=True)
class Cubic(_Ramp):
    """s = final + (initial - final) (1 - t)³: fast first. Zhu and Gupta 2017, eq. 1.

    >>> round(Cubic(0.8, start=0, end=100)(50), 9)
    0.7
    """

    def __call__(self, step: float) -> float:
        return self.final + (self.initial - self.final) * (1 - self.progress(step)) ** 3


@dataclass(frozen=True)
class Linear(_Ramp):
    """s = initial + (final - initial) t."""

    def __call__(self, step: float) -> float:
        return self.initial + (self.final - self.initial) * self.progress(step)


@dataclass(frozen=True)
class Exponential(_Ramp):
    """Density falls by the same factor each step: 1 - s = (1 - final)^t (1 - initial)^(1 - t).

    >>> round(Exponential(0.99, start=0, end=2)(1), 9)
    0.9
    """

    def __call__(self, step: float) -> float:
        t = self.progress(step)
        return 1 - (1 - self.initial) ** (1 - t) * (1 - self.final) ** t
