"""Edges of a graph as something that can be pruned: message passing with fewer, or weighted, edges.

Layers of torch-geometric are reached through forward pre-hooks, so that the model's own code and
its parameters stay as they are.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from sentei.graph.errors import PruneError

__all__ = ["edges_of", "keep_edges", "pairs_of", "weighted_edges"]


def edges_of(batch: Any) -> Tensor:
    """The edge list, (2, edges) of integers, among the inputs of a batch.

    Raises:
        PruneError: there is none.

    >>> x, edges = torch.zeros(3, 2), torch.tensor([[0, 1], [1, 2]])
    >>> edges_of(((x, edges), torch.zeros(3))).shape
    torch.Size([2, 2])
    """
    inputs = batch[0] if isinstance(batch, (tuple, list)) else batch
    values = inputs.values() if isinstance(inputs, Mapping) else inputs
    for value in values if isinstance(values, Iterable) and not isinstance(values, Tensor) else ():
        whole = isinstance(value, Tensor) and not value.is_floating_point()
        if whole and value.dim() == 2 and len(value) == 2:
            return value
    raise PruneError(
        "this method prunes the edges of a graph: the inputs need an edge list of shape "
        "(2, edges), such as data=[((x, edge_index), y)]"
    )


def pairs_of(edges: Tensor) -> Tensor:
    """A number for each edge, the same for (i, j) and (j, i); -1 for self-loops.

    What is decided for numbers is symmetric where the graph is.

    >>> pairs_of(torch.tensor([[0, 1, 1, 2], [1, 0, 1, 0]])).tolist()
    [0, 0, -1, 1]
    """
    low, high = edges.min(0).values, edges.max(0).values
    loops = low == high
    key = low * (int(edges.max()) + 1 if edges.numel() else 1) + high
    numbers = torch.full_like(key, -1)
    numbers[~loops] = key[~loops].unique(return_inverse=True)[1]
    return numbers


def keep_edges(model: nn.Module, edges: Tensor, keep: Tensor) -> RemovableHandle:
    """From now on, `model` called with the edge list `edges` works on edges[:, keep].

    Any other graph is left alone. Returns a handle whose `remove()` undoes it.

    >>> class Degrees(nn.Module):
    ...     def forward(self, x, edge_index):
    ...         return edge_index.shape[1]
    >>> model, edges = Degrees(), torch.tensor([[0, 1, 2], [1, 2, 0]])
    >>> handle = keep_edges(model, edges, torch.tensor([True, False, True]))
    >>> model(None, edges), model(None, edges[:, :1])
    (2, 1)
    """
    fewer = edges[:, keep]

    def swap(value: Any) -> Any:
        return fewer.to(value.device) if _same(value, edges) else value

    def before(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        return tuple(map(swap, args)), {n: swap(v) for n, v in kwargs.items()}

    return model.register_forward_pre_hook(before, with_kwargs=True)


@contextmanager
def weighted_edges(
    model: nn.Module, edges: Tensor, weights: Callable[[], tuple[Tensor, Tensor]]
) -> Iterator[None]:
    """Inside, message passing over `edges` runs over some of them, weighted.

    Degrees and self-loops are the layers' own business and follow from what they are given, so a
    normalisation is that of the weighted graph.

    Args:
        weights: () -> (keep, weight): which edges take part, (edges,) bool, and the weights of
            all, (edges,); called at every forward pass.
    Raises:
        PruneError: the model has no message passing, or a layer that cannot weigh edges.
    """
    try:
        from torch_geometric.nn import MessagePassing
    except ModuleNotFoundError as missing:
        raise PruneError(
            "pruning edges needs torch-geometric: pip install 'sentei[geometric]'"
        ) from missing

    layers = [(n, m) for n, m in model.named_modules() if isinstance(m, MessagePassing)]
    if not layers:
        raise PruneError(f"{type(model).__name__} has no message-passing layer")
    for name, layer in layers:
        if "edge_weight" not in inspect.signature(layer.forward).parameters:
            raise PruneError(f"{name}: {type(layer).__name__} takes no edge_weight")
        if getattr(layer, "cached", False):
            raise PruneError(f"{name}: cached=True keeps the first graph; build it with False")

    def before(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        call = inspect.signature(module.forward).bind(*args, **kwargs)
        if not _same(call.arguments.get("edge_index"), edges):
            return args, kwargs
        keep, weight = weights()
        call.arguments["edge_index"] = edges[:, keep]
        given = call.arguments.get("edge_weight")
        chosen = weight[keep]
        call.arguments["edge_weight"] = chosen if given is None else chosen * given[keep]
        return call.args, call.kwargs

    handles = [m.register_forward_pre_hook(before, with_kwargs=True) for _, m in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _same(value: Any, edges: Tensor) -> bool:
    return (
        isinstance(value, Tensor)
        and value.shape == edges.shape
        and value.dtype == edges.dtype
        and bool((value == edges.to(value.device)).all())
    )
