"""Three ways of the same paper to prune before training in many shots."""

from collections.abc import Mapping

from torch import Tensor

from sentei.criteria.derivatives import gradient
from sentei.methods.base import method
from sentei.methods.gradient.progressive import progressive
from sentei.methods.gradient.samples import scoring_batches
from sentei.methods.setting import Setting
from sentei.structures import Masks

__all__ = ["force", "grasp_it", "iter_snip"]

_PAPER = {
    "title": "Progressive Skeletonization: Trimming more fat from a network at initialization",
    "authors": "de Jorge et al.",
    "venue": "ICLR",
    "year": 2021,
    "arxiv": "2006.09081",
    "family": "gradient",
    "structure": "weight",
    "timing": "before",
    "starts": "initial",
    "needs": ("data", "labels", "gradients", "training"),
}


@method("iter-snip", card="B6", lineage=("snip",), **_PAPER)
def iter_snip(
    setting: Setting, *, steps: int = 60, samples: int = 128, curve: str = "exponential"
) -> Masks:
    """Before training, prune by connection sensitivity in many shots; what is gone stays gone.

    In each of `steps` rounds, score = |w dL/dw| of the pruned network, the best d^(t/T) of the
    whole network stay; then train (section 4.1). One step is SNIP.
    """
    grads = _gradients(setting, samples)

    def score(masks: Masks, dense: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {n: (dense[n] * masks[n] * g).abs() for n, g in grads().items()}

    return _trained(setting, progressive(setting, score, steps, curve))


@method("force", card="B7", lineage=("snip", "iter-snip"), **_PAPER)
def force(
    setting: Setting, *, steps: int = 60, samples: int = 128, curve: str = "exponential"
) -> Masks:
    """Before training, prune in many shots by the sensitivity after pruning; weights may return.

    In each of `steps` rounds, score = |w dL/dw| with w the dense weights and the gradient, for all
    of them, that of the pruned network: what is gone comes back if the loss would feel it there
    (eq. 7, algorithm 1). Then train. One step is SNIP.
    """
    grads = _gradients(setting, samples)

    def score(masks: Masks, dense: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {n: (dense[n] * g).abs() for n, g in grads().items()}

    return _trained(setting, progressive(setting, score, steps, curve, returning=True))


@method("grasp-it", card="B7", lineage=("grasp", "force"), **_PAPER)
def grasp_it(
    setting: Setting, *, steps: int = 60, samples: int = 128, curve: str = "exponential"
) -> Masks:
    """Before training, prune in many shots by squared gradients of the pruned network.

    As `force`, with score = (dL/dw)²: keep the weights that can train, whatever their size.
    """
    grads = _gradients(setting, samples)

    def score(masks: Masks, dense: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {n: g.square() for n, g in grads().items()}

    return _trained(setting, progressive(setting, score, steps, curve, returning=True))


def _gradients(setting: Setting, samples: int):
    # The same batch in every round: scores change with the mask, not with the lot.
    evidence = setting.evidence(scoring_batches(setting, samples))
    return lambda: gradient(evidence, batch_statistics=True)


def _trained(setting: Setting, masks: Masks) -> Masks:
    setting.train(masks=masks)
    return masks
