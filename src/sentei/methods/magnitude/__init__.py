"""Methods that rank weights by their size, and their close relatives."""

from sentei.methods.base import Method
from sentei.methods.magnitude.han_magnitude import han_magnitude
from sentei.methods.magnitude.random import random_pruning

__all__ = ["MAGNITUDE"]

MAGNITUDE: dict[str, Method] = {
    "han-magnitude": han_magnitude,
    "random": random_pruning,
}
