"""What is one unit: single weights, N:M patterns, blocks, channels, heads, layers."""

from sentei.structures.masks import Masks
from sentei.structures.weights import prunable

__all__ = ["Masks", "prunable"]
