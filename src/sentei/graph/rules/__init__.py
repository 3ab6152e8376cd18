"""One rule per ATen operator: how axes pass through it. See `sentei.graph.rules.base`."""

from __future__ import annotations

from sentei.graph.rules import (
    contraction,
    create,
    fourier,
    index,
    losses,
    norm,
    sequence,
    shape,
    spatial,
)
from sentei.graph.rules.base import (
    RULES,
    Facts,
    Need,
    Rule,
    Scale,
    Traced,
    need,
    recording,
    rule,
    same,
)
from sentei.graph.rules.pointwise import is_pointwise, pointwise

__all__ = [
    "RULES", "Facts", "Need", "Rule", "Scale", "Traced", "is_pointwise", "need", "pointwise",
    "recording", "rule", "same",
]  # fmt: skip

_ = (contraction, create, fourier, index, losses, norm, sequence, shape, spatial)
