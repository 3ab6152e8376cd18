"""What a group costs when it is cut: damage by kept share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Curve"]


@dataclass(frozen=True)
class Curve:
    """Measured damage of one class of groups, cut alone.

    group: its name; members: all groups that were cut with it.
    shares: kept shares, falling from 1. values: the metric there; values[0] is the whole model's.
    damage: how much worse than the whole model, 0 at share 1.
    """

    group: str
    members: tuple[str, ...]
    shares: tuple[float, ...]
    values: tuple[float, ...]
    damage: tuple[float, ...]

    def damage_at(self, shares: np.ndarray) -> np.ndarray:
        """Damage at any kept share: linear between measured ones, beyond them as the last slope.

        >>> curve = Curve("a", ("a",), (1.0, 0.5), (0.9, 0.7), (0.0, 0.2))
        >>> curve.damage_at(np.array([1.0, 0.75, 0.25])).round(9)
        array([0. , 0.1, 0.3])
        """
        x, y = np.array(self.shares[::-1]), np.array(self.damage[::-1])
        found = np.interp(shares, x, y)
        if len(x) > 1:
            slope = max((y[0] - y[1]) / (x[1] - x[0]), 0.0)
            found = found + np.clip(x[0] - shares, 0, None) * slope
        return np.asarray(found)
