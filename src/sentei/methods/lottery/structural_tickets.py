"""Tickets of scattered weights turned into tickets of channels or of dense blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from sentei.batches import loss_of
from sentei.graph.capture import unwrap
from sentei.graph.errors import PruneError, closest
from sentei.methods.base import method
from sentei.methods.lottery.rounds import Ticket, path, search, step_of
from sentei.methods.setting import Setting
from sentei.structures import Masks
from sentei.structures.refill import named_partitioner
from sentei.structures.refill import refill as refill_rows
from sentei.structures.refill import regroup as regroup_blocks

__all__ = ["ROWS", "refill", "refill_plus", "regroup", "row_scores"]

ROWS = ("magnitude", "remain", "feature-l1", "feature-l2", "saliency")
"""magnitude: L1 of the trained weights. remain: how many the mask keeps. feature-l1, feature-l2:
norm of what the row computes. saliency: |sum of a · dL/da| over what it computes."""


def row_scores(setting: Setting, masks: Masks, which: str) -> dict[str, Tensor]:
    """A score for each row (output channel) of every masked weight, by one of `ROWS`.

    Raises:
        PruneError: an unknown score, or a weight whose module was not reached.
    """
    if which not in ROWS:
        raise PruneError(f"unknown row score {which!r}; {closest(which, ROWS)}")
    if which == "magnitude":
        weights = setting.weights
        return {n: weights[n].detach().abs().flatten(1).sum(1) for n in masks}
    if which == "remain":
        return {n: m.flatten(1).sum(1).double() for n, m in masks.items()}
    outputs = _outputs(setting, masks)
    missing = [n for n in masks if n not in outputs]
    if missing:
        raise PruneError(f"{missing[0]}: its module gave no tensor to score its rows by")

    def of(activation: Tensor) -> Tensor:
        if which == "feature-l1":
            return activation.detach().abs().sum(0)
        if which == "feature-l2":
            return activation.detach().square().sum(0).sqrt()
        if activation.grad is None:
            return torch.zeros_like(activation[0]).detach()
        return (activation * activation.grad).detach().sum(0).abs()

    return {n: of(a) for n, a in outputs.items()}


def _outputs(setting: Setting, masks: Masks) -> dict[str, Tensor]:
    """(positions, rows) of what each weight's module computes, with gradients of the loss."""
    model, found, handles = unwrap(setting.model), {}, []

    def keep(name: str):
        def hook(module, args, output):
            if isinstance(output, Tensor):
                # Channels of a convolution come second, features of a linear layer last.
                wide = output.dim() == masks[name].dim() > 2
                rows = output.movedim(1, -1) if wide else output
                rows = rows.reshape(-1, rows.shape[-1])
                rows.retain_grad()
                found[name] = rows
                flat = rows.view(*(output.movedim(1, -1) if wide else output).shape)
                return flat.movedim(-1, 1) if wide else flat
            return None

        return hook

    flags = {m: m.training for m in model.modules()}
    try:
        for name in masks:
            handles.append(
                model.get_submodule(name.rpartition(".")[0]).register_forward_hook(keep(name))
            )
        model.eval()
        (batch,) = setting.examples(setting.calibration)[:1]
        loss_of(model, batch, setting.loss).backward()
    finally:
        for handle in handles:
            handle.remove()
        for module, flag in flags.items():
            module.training = flag
        model.zero_grad(set_to_none=True)
    return found


def structured(
    setting: Setting,
    shape: Callable[[Masks], Mapping[str, Tensor]],
    to: float,
    rate: float,
    rounds: int | None,
) -> Masks:
    """The ticket of late rewinding, its masks of all layers but the last reshaped, trained."""
    shapes = {n: tuple(w.shape) for n, w in setting.weights.items()}
    densities = path(shapes, setting.keep, rate=rate, rounds=rounds)
    ticket: Ticket = search(setting, densities, scope="layer", step=step_of(setting, to))
    inner = ticket.masks.only(list(shapes)[:-1])  # rows of the last layer are the outputs
    masks = Masks({**ticket.masks, **shape(inner)})
    setting.rewind(ticket.start, masks)
    setting.train(masks=masks, start=ticket.step)
    return masks


_FACTS = {
    "title": "Coarsening the Granularity: Towards Structurally Sparse Lottery Tickets",
    "authors": "Chen, Chen, Ma, Wang, Wang",
    "venue": "ICML",
    "year": 2022,
    "arxiv": "2202.04736",
    "family": "lottery",
    "timing": "after",
    "starts": "initial",
    "needs": ("data", "labels", "training"),
    "card": "C10",
}


@method("refill", structure="filter", lineage=("lth-rewind",), **_FACTS)
def refill(
    setting: Setting,
    *,
    score: str = "magnitude",
    to: float = 0.05,
    rate: float = 0.2,
    rounds: int | None = None,
) -> Masks:
    """Whole output channels, as many as the weights of a ticket would fill, the best by score.

    A ticket is found as by lth-rewind (per layer); every layer but the last keeps its
    int(K) best rows whole, K = kept weights / weights a row; zeros in them are refilled with their
    rewound values, and the others go. Then it is trained from step k.

    Args:
        score: one of `ROWS`. to, rate, rounds: as for lth-rewind.

    Source: section 3.2, "refilling". The density asked for is the ticket's; whole rows come near.
    """

    def shape(masks: Masks) -> dict[str, Tensor]:
        scores = row_scores(setting, masks, score)
        return {n: refill_rows(m, scores[n]) for n, m in masks.items()}

    return structured(setting, shape, to, rate, rounds)


@method("refill-plus", structure="filter", lineage=("refill",), **_FACTS)
def refill_plus(
    setting: Setting,
    *,
    extra: float = 0.1,
    score: str = "magnitude",
    to: float = 0.05,
    rate: float = 0.2,
    rounds: int | None = None,
) -> Masks:
    """As refill, but with a share `extra` of the channels that would have gone.

    K' = K + extra · (rows - K) rows.

    Args:
        extra: 0 is refill, 1 the dense network. Others: as for refill.

    Source: section 3.2, "refilling+".
    """

    def shape(masks: Masks) -> dict[str, Tensor]:
        scores = row_scores(setting, masks, score)
        return {n: refill_rows(m, scores[n], extra) for n, m in masks.items()}

    return structured(setting, shape, to, rate, rounds)


@method("regroup", structure="block", lineage=("lth-rewind",), **_FACTS)
def regroup(
    setting: Setting,
    *,
    clusters: int = 8,
    rows_at_least: int = 17,
    partitioner: str = "hypergraph",
    to: float = 0.05,
    rate: float = 0.2,
    rounds: int | None = None,
) -> Masks:
    """Dense blocks of rows that share columns, in place of a ticket's scattered weights.

    Rows of every layer but the last are put together by what they keep; each cluster of enough rows
    keeps its most used columns, whole, and nothing else; see `sentei.structures.refill.regroup`.

    Args:
        clusters: how many to look for. rows_at_least: smaller ones make no block.
        partitioner: "hypergraph" (Mt-KaHyPar, of sentei[partition], in place of hMETIS, which is
            not free software) or "spectral" (clustering by Jaccard similarity; needs nothing).
        to, rate, rounds: as for lth-rewind.

    Source: section 3.2, "regrouping".
    """
    named_partitioner(partitioner)  # what is missing is said before the training, not after

    def shape(masks: Masks) -> dict[str, Tensor]:
        how = {"rows_at_least": rows_at_least, "partitioner": partitioner}
        return {n: regroup_blocks(m, clusters, **how) for n, m in masks.items()}

    return structured(setting, shape, to, rate, rounds)
