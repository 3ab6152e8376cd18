"""Weights and activations: how much a weight adds to its output."""

from __future__ import annotations

import torch
from torch import Tensor

from sentei.criteria.evidence import Evidence, needs
from sentei.criteria.inputs import Use, observe

__all__ = ["Norms", "wanda"]


class Norms:
    """‖x_j‖² of every input of every weight, over all tokens seen; call it with each `Use`."""

    def __init__(self) -> None:
        self.squares: dict[str, Tensor] = {}
        self.uses: dict[str, Use] = {}

    def __call__(self, use: Use) -> None:
        x = use.inputs
        x = x if x.dtype == torch.float64 else x.float()
        self.squares[use.name] = self.squares.get(use.name, 0) + x.square().sum(1)
        self.uses.setdefault(use.name, use)

    def score(self, name: str, weight: Tensor) -> Tensor:
        """|w_ij| ‖x_j‖, of the weight's shape."""
        use = self.uses[name]
        matrix = use.matrix(weight.detach().abs())
        return use.weight(matrix * self.squares[name].sqrt()[:, None], weight.shape)


@needs("data")
def wanda(evidence: Evidence) -> dict[str, Tensor]:
    """score[i, j] = |w[i, j]| ‖x_j‖₂, the norm over all tokens of input j. Needs inputs only.

    Comparable inside a row; the method ranks there.

    Source: Sun et al. 2024, arXiv:2306.11695, eq. 1.
    """
    norms = Norms()
    observe(evidence.model, evidence.weights, evidence.batches(), norms)
    return {name: norms.score(name, weight) for name, weight in evidence.weights.items()}
