"""A threshold that rises while a recurrent network is trained."""

from __future__ import annotations

from dataclasses import dataclass

from sentei.graph.errors import PruneError

__all__ = ["Ramp"]


@dataclass(frozen=True)
class Ramp:
    """Two slopes: gentle from `start` to `ramp`, `steepness` times as steep to `end`.

    θ = 2 q freq / (2 (ramp - start) + 3 (end - ramp)),  φ = steepness · θ
    ε(t) = θ (t - start + 1) / freq                                        for t < ramp
         = (θ (ramp - start + 1) + φ (t - ramp + 1)) / freq                from ramp on

    With steepness 1.5 it ends at q, but for the two `+ 1`: ε(end) = q + 2.5 θ / freq.

    Source: Narang et al. 2017, arXiv:1704.05119, algorithm 1 and eq. 1.

    >>> ramp = Ramp(q=1.0, start=0, ramp=10, end=20, freq=1)
    >>> ramp(0), round(ramp(20), 9), round(1.0 + 2.5 * ramp.theta, 9)
    (0.04, 1.1, 1.1)
    """

    q: float
    start: int
    ramp: int
    end: int
    freq: int
    steepness: float = 1.5

    def __post_init__(self) -> None:
        if not (self.start <= self.ramp <= self.end and self.start < self.end and self.freq > 0):
            raise PruneError(
                f"a ramp needs start <= ramp <= end, start < end and freq >= 1; got {self.start}, "
                f"{self.ramp}, {self.end} and {self.freq}"
            )

    @property
    def theta(self) -> float:
        """The first slope, per update."""
        span = 2 * (self.ramp - self.start) + 3 * (self.end - self.ramp)
        return 2 * self.q * self.freq / span

    def __call__(self, step: int) -> float:
        if step < self.ramp:
            return self.theta * (step - self.start + 1) / self.freq
        first = self.theta * (self.ramp - self.start + 1)
        return (first + self.steepness * self.theta * (step - self.ramp + 1)) / self.freq
