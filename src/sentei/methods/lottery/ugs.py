from dataclasses import dataclass, field

import torch
from torch import Tensor

from sentei.allocation.weights import top
from sentei.batches import Data, batches
from sentei.graph.capture import unwrap
from sentei.graph.errors import PruneError
from sentei.hooks.graph_masks import GraphMasks
from sentei.methods.base import method
from sentei.methods.lottery.rounds import cut, path
from sentei.methods.setting import Setting, State
from sentei.recovery.finetune import evaluate
from sentei.structures import Masks
from sentei.structures.edges import edges_of, keep_edges, pairs_of, weighted_edges

__all__ = ["GraphTicket", "graph_ticket", "ugs"]


@dataclass(frozen=True)
class GraphTicket:
    """Weights and edges that stay.

    masks: of the weights. edges: which of the graph's edges stay, (edges,) bool.
    start: the initial state. history: (masks, edges) after each round.
    """

    masks: Masks
    edges: Tensor = field(repr=False)
    start: State = field(repr=False)
    history: tuple[tuple[Masks, Tensor], ...] = field(repr=False)


def cut_edges(scores: Tensor, pairs: Tensor, alive: Tensor, share: float) -> Tensor:
    """The edges that stay if `round(share · pairs)` of the undirected edges do; loops always do.

    >>> pairs = torch.tensor([0, 0, 1, -1])
    >>> cut_edges(torch.tensor([.1, .9]), pairs, torch.ones(4, dtype=torch.bool), 0.5).tolist()
    [False, False, True, True]
    """
    standing = torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
    standing[pairs[alive & (pairs >= 0)]] = True
    left = top(scores.abs().masked_fill(~standing, -1.0), round(share * len(scores)))
    if not len(left):
        return pairs < 0
    return torch.where(pairs < 0, True, left[pairs.clamp(min=0)])


def graph_ticket(
    setting: Setting,
    densities: list[dict[str, float]],
    *,
    edge_rate: float = 0.05,
    edge_l1: float = 1e-2,
    weight_l1: float = 1e-2,
    validation: Data = None,
) -> GraphTicket:
    """Rounds of training masks and weights together, pruning both, and rewinding to the start.

    The model ends at its initial weights.
    """
    setting.need_data()
    given = list(batches(setting.data))
    edges = edges_of(given[0])
    if any(not torch.equal(edges_of(b), edges) for b in given[1:]):
        raise PruneError("edges are pruned of one graph; the batches hold several")
    model, pairs = unwrap(setting.model), pairs_of(edges)
    alive = torch.ones(edges.shape[1], dtype=torch.bool, device=edges.device)
    masks = Masks.full(setting.weights)
    start = setting.state()
    history: list[tuple[Masks, Tensor]] = []

    def score() -> float:
        return evaluate(setting.model, validation).accuracy

    for number, share in enumerate(densities, 1):
        hook = GraphMasks(
            masks, edges, alive, edge_l1=edge_l1, weight_l1=weight_l1,
            score=None if validation is None else score, every=len(given), seed=setting.seed,
        )  # fmt: skip
        with weighted_edges(model, edges, hook.edges_now):
            setting.train([hook])
        last = number == len(densities)
        scores = {n: m.abs() for n, m in hook.weight_masks.items()}
        asked = setting.density if last else None
        masks = cut(scores, masks, share, "global", asked)
        alive = cut_edges(hook.edge_masks, pairs, alive, (1 - edge_rate) ** number)
        history.append((masks, alive))
        setting.rewind(start)
    return GraphTicket(masks, alive, start, tuple(history))


@method(
    "ugs",
    title="A Unified Lottery Ticket Hypothesis for Graph Neural Networks",
    authors="Chen, Sui, Chen, Zhang, Wang",
    venue="ICML",
    year=2021,
    arxiv="2102.06790",
    family="lottery",
    structure="weight",
    timing="after",
    starts="initial",
    needs=("data", "labels", "gradients", "training", "graph"),
    card="C9",
    lineage=("lth-imp",),
)
def ugs(
    setting: Setting,
    *,
    rate: float = 0.2,
    edge_rate: float = 0.05,
    edge_l1: float = 1e-2,
    weight_l1: float = 1e-2,
    validation: Data = None,
) -> Masks:
    """Prune the weights of a graph network and the edges of its graph together, then train.

    Masks m_θ and m_g on weights and edges are trained with the weights; then the share `rate` of
    the weights and `edge_rate` of the edges with the smallest |m| go, the others are rewound, and
    so on until the density of weights is reached. The ticket is trained from its initial weights.
    See `GraphMasks`.

    The model keeps to the edges that are left: called with the graph it was trained on, it leaves
    the others out (a forward pre-hook; see `keep_edges`). `sentei.structures.edges.take_edges`
    takes the edges off it, as a value that is saved and loaded beside the masked model, which then
    is a plain one; `sentei.save` refuses a model that still has them.

    Args:
        rate, edge_rate: shares of what is left that go each round.
        edge_l1, weight_l1: γ_1 and γ_2.
        validation: takes the masks of the epoch with the best accuracy there, as the paper does;
            those of the last epoch without it, by when the penalty has drawn most edges' masks to
            zero and their order says little: give it where it can be had.

    Source: algorithms 1 and 2. One mask serves both directions of an edge, so that undirected
    graphs stay undirected, where the reference code prunes directions one by one; edge lists
    instead of N × N masks.
    """
    shapes = {n: tuple(w.shape) for n, w in setting.weights.items()}
    if not 0 <= edge_rate < 1:
        raise PruneError(f"the share of edges to remove must lie in [0, 1); got {edge_rate!r}")
    ticket = graph_ticket(
        setting, path(shapes, setting.keep, rate=rate), edge_rate=edge_rate, edge_l1=edge_l1,
        weight_l1=weight_l1, validation=validation,
    )  # fmt: skip
    edges = edges_of(next(iter(batches(setting.data))))
    handle = keep_edges(unwrap(setting.model), edges, ticket.edges)
    try:
        setting.train(masks=ticket.masks)
    except BaseException:
        handle.remove()
        raise
    return ticket.masks
