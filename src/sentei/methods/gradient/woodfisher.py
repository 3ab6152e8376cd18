import torch

from sentei.allocation.weights import select
from sentei.criteria.weights.woodfisher import block_fisher
from sentei.graph.errors import PruneError
from sentei.methods.base import method
from sentei.methods.setting import Setting
from sentei.structures import Masks

__all__ = ["woodfisher"]


@method(
    "woodfisher",
    title="WoodFisher: Efficient Second-Order Approximation for Neural Network Compression",
    authors="Singh, Alistarh",
    venue="NeurIPS",
    year=2020,
    arxiv="2004.14340",
    family="gradient",
    structure="weight",
    timing="after",
    starts="trained",
    needs=("data", "labels", "gradients", "training"),
    card="B11",
    lineage=("obs", "fisher-diag"),
)
def woodfisher(
    setting: Setting,
    *,
    block: int = 100,
    damping: float = 1e-2,
    batch_size: int = 1,
    rounds: int = 1,
    scope: str = "global",
    update: bool = True,
) -> Masks:
    """Remove by the inverse of the empirical Fisher in blocks, and let each block make up for it.

    score = w_q² / (2 [F⁻¹]_qq), the lowest of all go; w += F⁻¹ v with v_q = -w_q / [F⁻¹]_qq for
    those that went, zero elsewhere (eq. 6-8, sections 3-4). In each of `rounds` the Fisher is
    computed anew, the density falls by the same factor, and the rest is trained on.

    Args:
        block: consecutive weights of a layer that share an inverse (2,000 in the paper's largest).
        damping: λ as a share of the mean of the Fisher's diagonal; the paper's absolute 1e-5 leaves
            nothing of the Fisher in a network that has converged.
        batch_size: examples whose mean gradient is one term of the Fisher.
        update: False leaves the weights that stay as they are.
    """
    if rounds < 1:
        raise PruneError(f"rounds: how many times to prune and train on, at least 1; got {rounds}")
    masks = Masks.full(setting.weights)
    for turn in range(1, rounds + 1):
        evidence = setting.evidence(size=None if batch_size == 1 else batch_size)
        fisher = block_fisher(
            evidence, block=block, damping=damping, examples=batch_size == 1, masks=masks
        )
        scores = {
            n: s.masked_fill(~masks[n], -torch.inf)
            for n, s in fisher.scores(setting.weights).items()
        }
        masks = select(scores, setting.keep ** (turn / rounds), scope)
        if update:
            with torch.no_grad():
                for name, weight in setting.weights.items():
                    weight.copy_(fisher.updated(name, weight, masks[name]))
        masks.apply_(setting.model)
        setting.recover(masks)
    return masks
