"""Scattered masks made into whole rows, or into dense blocks of rows and columns."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from sentei.allocation.weights import top
from sentei.graph.errors import PruneError, closest

__all__ = [
    "PARTITIONERS",
    "cluster_rows",
    "dense_columns",
    "named_partitioner",
    "partition_rows",
    "refill",
    "regroup",
]


def refill(mask: Tensor, scores: Tensor, rate: float = 0.0) -> Tensor:
    """As many whole rows as the mask's weights would fill, the best by score.

    K = kept / (weights a row) rows' worth of weights; `int(K + rate · (rows - K))` rows are kept,
    whole, one at least, and none of the others.

    Args:
        mask: (rows, ...) bool. scores: (rows,), larger is kept; of equal ones the later.
        rate: 0 keeps what the mask holds, 1 everything ("refill+").

    Source: Chen et al. 2022, arXiv:2202.04736, section 3.2.

    >>> mask = torch.tensor([[True, False], [True, True], [False, False]])
    >>> refill(mask, torch.tensor([3., 2., 9.]))[:, 0].tolist()
    [False, False, True]
    """
    if not 0 <= rate <= 1:
        raise PruneError(f"the rate to refill beyond lies in [0, 1]; got {rate!r}")
    rows = len(mask)
    worth = int(mask.sum()) / mask[0].numel()
    kept = max(1, int(worth + rate * (rows - worth) + 1e-9))
    whole = top(scores, kept)
    return whole.view(-1, *[1] * (mask.dim() - 1)).expand_as(mask).clone()


def cluster_rows(rows: Tensor, clusters: int, rounds: int = 20) -> Tensor:
    """Rows with similar supports get the same number.

    Spectral clustering: Jaccard similarity of the supports, the leading eigenvectors of the
    normalised similarity, k-means on their rows from farthest-first centres. Clusters are as large
    as they come out. It needs no library beside torch and draws nothing at random.

    Args:
        rows: (rows, columns) bool.
    Returns:
        (rows,) long.

    >>> rows = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1], [1, 1, 0, 0]], dtype=torch.bool)
    >>> numbers = cluster_rows(rows, 2)
    >>> bool(numbers[0] == numbers[2]), bool(numbers[0] == numbers[1])
    (True, False)
    """
    clusters = min(clusters, len(rows))
    support = rows.double()
    both = support @ support.T
    size = support.sum(1)
    similar = both / (size[:, None] + size[None, :] - both).clamp(min=1)
    scale = similar.sum(1).clamp(min=1e-12).rsqrt()
    _, vectors = torch.linalg.eigh(scale[:, None] * similar * scale[None, :])
    points = vectors[:, -clusters:]
    points = points / points.norm(dim=1, keepdim=True).clamp(min=1e-12)
    centres = points[:1]
    while len(centres) < clusters:
        far = torch.cdist(points, centres).min(1).values.argmax()
        centres = torch.cat([centres, points[far : far + 1]])
    numbers = torch.cdist(points, centres).argmin(1)
    for _ in range(rounds):
        centres = torch.stack(
            [
                points[numbers == c].mean(0) if (numbers == c).any() else centres[c]
                for c in range(clusters)
            ]
        )
        again = torch.cdist(points, centres).argmin(1)
        if torch.equal(again, numbers):
            break
        numbers = again
    return numbers


def partition_rows(rows: Tensor, clusters: int, imbalance: float = 0.1, seed: int = 0) -> Tensor:
    """Rows that share columns get the same number, as many rows to each: a hypergraph partition.

    Rows are nodes and each column is an edge that joins the rows with a weight there. Sought is the
    partition with the least sum over columns of (clusters it reaches - 1), in which no cluster has
    more than (1 + `imbalance`) times its share of the rows.

    By Mt-KaHyPar on one thread, in its deterministic mode, where the paper has hMETIS (which is not
    free software).

    Args:
        rows: (rows, columns) bool.
    Returns:
        (rows,) long.
    Raises:
        PruneError: Mt-KaHyPar is not installed.
    Source: Gottesbüren, Heuer, Maas, Sanders, Schlag 2024, arXiv:2303.17679 (the partitioner).
    """
    clusters = min(clusters, len(rows))
    if clusters < 2:
        return torch.zeros(len(rows), dtype=torch.long)
    library, kahypar = _kahypar()
    context = kahypar.context_from_preset(library.PresetType.DETERMINISTIC)
    context.set_partitioning_parameters(clusters, imbalance, library.Objective.KM1)
    context.logging = False
    library.set_seed(seed)
    # A column of one row joins nothing, whatever the partition.
    edges = [c.nonzero().flatten().tolist() for c in rows.T.cpu() if int(c.sum()) > 1]
    graph = kahypar.create_hypergraph(context, len(rows), len(edges), edges)
    found = graph.partition(context)
    return torch.tensor([found.block_id(node) for node in range(len(rows))], device=rows.device)


@cache  # once a process: it says so loudly when it is asked again
def _kahypar() -> tuple[Any, Any]:
    try:
        import mtkahypar
    except ModuleNotFoundError as missing:
        raise PruneError(
            "grouping rows by hypergraph partitioning needs Mt-KaHyPar: pip install "
            "'sentei[partition]', or cluster them with partitioner='spectral'"
        ) from missing
    return mtkahypar, mtkahypar.initialize(1)


PARTITIONERS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "hypergraph": partition_rows,
    "spectral": cluster_rows,
}
"""Ways to put rows that share columns together: (rows, clusters) -> a number for each row."""


def named_partitioner(name: str) -> Callable[[Tensor, int], Tensor]:
    """One of `PARTITIONERS`.

    Raises:
        PruneError: an unknown one, or what it needs is not installed.
    """
    if name not in PARTITIONERS:
        raise PruneError(f"unknown partitioner {name!r}; {closest(name, PARTITIONERS)}")
    if name == "hypergraph":
        _kahypar()
    return PARTITIONERS[name]


def dense_columns(rows: Tensor, slack: float = 1.5) -> Tensor:
    """Columns that make a dense block of these rows worth it.

    The columns used most come first; the block grows while its width stays within `slack` times
    the weights that it still misses, for every row.

    Returns:
        indices of columns, best first; possibly none.

    >>> dense_columns(torch.tensor([[1, 1, 1, 0], [1, 1, 1, 0]], dtype=torch.bool)).tolist()
    [0]
    """
    order = rows.sum(0).argsort(descending=True, stable=True)
    missed = rows.sum(1, keepdim=True) - rows[:, order].cumsum(1)  # after each column
    width = torch.arange(1, rows.shape[1] + 1, device=rows.device)
    fits = (width <= slack * missed).all(0)
    return order[: int(fits.int().cumprod(0).sum())]


def regroup(
    mask: Tensor,
    clusters: int = 8,
    *,
    rows_at_least: int = 17,
    slack: float = 1.5,
    partitioner: str = "hypergraph",
) -> Tensor:
    """The mask as a union of dense blocks, each some rows times some columns.

    Non-empty rows are put together, each cluster gets its dense columns. Zeros inside blocks are
    refilled, what lies outside is dropped. Without any block the mask stays as it was.

    Args:
        mask: (rows, ...) bool; the other dimensions together are the columns.
        rows_at_least: smaller clusters make no block.
        partitioner: one of `PARTITIONERS`; "hypergraph" needs sentei[partition].
    Raises:
        PruneError: an unknown partitioner, or it is not installed.

    Source: Chen et al. 2022, arXiv:2202.04736, section 3.2.
    """
    cluster = named_partitioner(partitioner)
    flat = mask.flatten(1)
    filled = flat.any(1).nonzero().flatten()
    out = torch.zeros_like(flat)
    if len(filled):
        numbers = cluster(flat[filled], clusters)
        for number in range(int(numbers.max()) + 1):
            rows = filled[numbers == number]
            if len(rows) < rows_at_least:
                continue
            columns = dense_columns(flat[rows], slack)
            out[rows[:, None], columns[None, :]] = True
    return out.view_as(mask) if out.any() else mask.clone()
