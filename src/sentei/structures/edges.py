"""Edges of a graph as something that can be pruned: message passing with fewer, or weighted, edges.

Layers of torch-geometric are reached through forward pre-hooks, so that the model's own code and
its parameters stay as they are.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from sentei.graph.errors import PruneError

__all__ = [
    "KeptEdges",
    "edges_of",
    "keep_edges",
    "keeps_edges",
    "pairs_of",
    "take_edges",
    "weighted_edges",
]


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


@dataclass(frozen=True, eq=False)
class KeptEdges:
    """Which edges of one graph stay: what was pruned of the graph, as masks are of the weights.

    edges: the edge list, (2, edges) of integers. keep: (edges,) bool.

    >>> import tempfile
    >>> kept = KeptEdges(torch.tensor([[0, 1, 2], [1, 2, 0]]), torch.tensor([True, False, True]))
    >>> with tempfile.TemporaryDirectory() as home:
    ...     again = KeptEdges.load(kept.save(f"{home}/edges.safetensors"))
    >>> again.left.tolist(), again
    ([[0, 2], [1, 0]], KeptEdges(2 of 3 edges))
    """

    edges: Tensor
    keep: Tensor

    def __post_init__(self) -> None:
        if self.edges.dim() != 2 or len(self.edges) != 2 or self.edges.is_floating_point():
            raise PruneError(
                f"an edge list is (2, edges) of integers; got {tuple(self.edges.shape)} of "
                f"{self.edges.dtype}"
            )
        if self.keep.shape != self.edges.shape[1:] or self.keep.dtype is not torch.bool:
            raise PruneError(
                f"which of {self.edges.shape[1]} edges stay is as many booleans; got "
                f"{tuple(self.keep.shape)} of {self.keep.dtype}"
            )

    @property
    def left(self) -> Tensor:
        """The edges that stay, (2, kept)."""
        return self.edges[:, self.keep]

    def __repr__(self) -> str:
        return f"KeptEdges({int(self.keep.sum())} of {self.keep.numel()} edges)"

    def attach(self, model: nn.Module) -> RemovableHandle:
        """From now on the model keeps to these edges; see `keep_edges`."""
        return model.register_forward_pre_hook(_Fewer(self), with_kwargs=True)

    def save(self, path: str | Path) -> Path:
        """Write a safetensors file, all at once; read it with `KeptEdges.load`."""
        from safetensors.torch import save

        from sentei.storage.atomic import write_file

        tensors = {"edges": self.edges, "keep": self.keep}
        return write_file(path, save({n: t.cpu().contiguous() for n, t in tensors.items()}))

    @staticmethod
    def load(path: str | Path) -> KeptEdges:
        """Read what `save` wrote.

        Raises:
            PruneError: there is no such file, it is damaged, or it holds something else.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            found = load_file(str(path))
        except (OSError, SafetensorError) as error:
            raise PruneError(f"cannot read edges from {path}: {error}") from error
        if set(found) != {"edges", "keep"}:
            raise PruneError(f"{path} holds {sorted(found)[:4]}, not edges and which of them stay")
        return KeptEdges(found["edges"], found["keep"])


@dataclass(frozen=True, eq=False)
class _Fewer:
    """The forward pre-hook: the graph it knows becomes the smaller one; any other passes."""

    kept: KeptEdges

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        def swap(value: Any) -> Any:
            if not _same(value, self.kept.edges):
                return value
            return self.kept.left.to(value.device)

        return tuple(map(swap, args)), {n: swap(v) for n, v in kwargs.items()}


def keep_edges(model: nn.Module, edges: Tensor, keep: Tensor) -> RemovableHandle:
    """From now on, `model` called with the edge list `edges` works on edges[:, keep].

    Any other graph is left alone. Gives a handle whose `remove()` undoes it, as does `take_edges`.

    >>> class Degrees(nn.Module):
    ...     def forward(self, x, edge_index):
    ...         return edge_index.shape[1]
    >>> model, edges = Degrees(), torch.tensor([[0, 1, 2], [1, 2, 0]])
    >>> handle = keep_edges(model, edges, torch.tensor([True, False, True]))
    >>> model(None, edges), model(None, edges[:, :1])
    (2, 1)
    """
    return KeptEdges(edges, keep).attach(model)


def take_edges(model: nn.Module) -> KeptEdges | None:
    """What `keep_edges` said last, taken off the model again, which is a plain one then.

    None where it was never said. Give the model its edges back with `KeptEdges.attach`.
    """
    found = None
    for number, hook in list(model._forward_pre_hooks.items()):
        if isinstance(hook, _Fewer):
            found = hook.kept
            del model._forward_pre_hooks[number]
            model._forward_pre_hooks_with_kwargs.pop(number, None)
    return found


def keeps_edges(model: nn.Module) -> bool:
    """Whether a part of the model keeps to some edges of one graph."""
    return any(
        isinstance(hook, _Fewer) for m in model.modules() for hook in m._forward_pre_hooks.values()
    )


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
