"""Methods that rank weights by gradients and curvature."""

from sentei.methods.base import Method

__all__ = ["GRADIENT"]

GRADIENT: dict[str, Method] = {}
