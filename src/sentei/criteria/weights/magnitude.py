"""The absolute value of a weight."""

from __future__ import annotations

from torch import Tensor

from sentei.criteria.evidence import Evidence, needs

__all__ = ["magnitude"]


@needs()
def magnitude(evidence: Evidence) -> dict[str, Tensor]:
    """score = |w|. Needs no data.

    Source: Han et al. 2015, arXiv:1506.02626.
    """
    return {name: weight.detach().abs() for name, weight in evidence.weights.items()}
