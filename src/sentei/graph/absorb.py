"""Follow a factor forward, to the parameters that take it up.

A mean over a pruned axis divides by fewer; what it returns is too large by a known factor. Where
every reader of it passes the factor on unchanged (moves, sums of equals, products with other
tensors, ReLU) until a linear layer, a convolution or a matrix product with a parameter reads it,
the factor goes into that parameter's columns, and nobody sees it. Which elements carry the factor
is followed element by element; where a reader does anything else, or the model returns them, the
factor cannot be taken up.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sentei.graph.tape import Node, Value, flatten

if TYPE_CHECKING:
    from sentei.graph.fold import Graph

__all__ = ["Stuck", "Taken", "absorb"]


class Stuck(Exception):
    """The factor cannot be folded exactly."""


# A parameter's name, the dimension and the positions along it that take the factor, and who reads.
Taken = tuple[str, int, Tensor, Node]

# f(c x) = c f(x) for c > 0, element by element.
_HOMOGENEOUS = {
    "neg", "to", "_to_copy", "type_as", "dropout", "relu", "leaky_relu", "abs", "float", "double",
    "half", "feature_dropout",
}  # fmt: skip
_REDUCTIONS = {"sum", "mean"}


def absorb(graph: Graph, value: Value, node: Node, moves: set[str]) -> list[Taken]:
    """The parameters that take up a factor on `value`, an output of `node`.

    Raises:
        Stuck: some reader does not.
    """
    returned = {id(v) for v in graph.tape.outputs}
    marks: dict[int, Tensor] = {}
    taken: list[Taken] = []
    queue: list[int] = []
    queued: set[int] = set()

    def track(out: Value, mark: Tensor, after: int) -> None:
        if id(out) in returned or mark.shape != out.shape:
            raise Stuck
        marks[id(out)] = mark
        for user in graph.consumers.get(id(out), ()):
            place = graph.order[id(user)]
            if place > after and place not in queued:
                queued.add(place)
                heappush(queue, place)

    track(value, torch.ones(value.shape, dtype=torch.bool), graph.order[id(node)])
    while queue:
        at = heappop(queue)
        reader = graph.tape.nodes[at]
        name = reader.operator
        parameter = _contraction(name, reader, marks)
        if parameter is not None:
            taken.append((*parameter, reader))
        elif name in moves or name in ("cat", "stack"):
            for out, moved in graph.move(reader, marks):
                track(out, moved.bool(), at)
        elif len(reader.outputs) == 1:
            track(reader.outputs[0], _passed(name, reader, marks), at)
        else:
            raise Stuck
    return taken


def _contraction(name: str, node: Node, marks: dict[int, Tensor]) -> tuple[str, int, Tensor] | None:
    """(parameter, dimension, positions) where a parameter is contracted with what is marked."""
    places: dict[str, tuple[int, int, Callable[[Value], tuple[int, int]]]] = {
        # operator -> the operand read, the parameter, (axis of the operand, of the parameter)
        "linear": (0, 1, lambda w: (-1, 1)),
        "conv1d": (0, 1, lambda w: (-2, 1)),
        "conv2d": (0, 1, lambda w: (-3, 1)),
        "conv3d": (0, 1, lambda w: (-4, 1)),
        "matmul": (0, 1, lambda w: (-1, 0)),
        "mm": (0, 1, lambda w: (-1, 0)),
        "addmm": (1, 2, lambda w: (-1, 0)),
    }
    if name not in places:
        return None
    read, own, axes = places[name]
    x, weight = node.args[read], node.args[own]
    if sum(id(v) in marks for v in flatten((node.args, node.kwargs))) != 1 or id(x) not in marks:
        return None
    if weight.origin != "parameter" or len(weight.shape) < 2:
        return None
    if name in ("matmul", "mm", "addmm") and len(weight.shape) != 2:
        return None
    mine, its = axes(weight)
    if weight.shape[its] != x.shape[mine]:  # conv groups, or a vector
        return None
    mark = marks[id(x)].movedim(mine, 0).flatten(1)
    if not (mark == mark[:, :1]).all():
        return None
    return weight.name, its, mark[:, 0].nonzero().flatten()


def _passed(name: str, node: Node, marks: dict[int, Tensor]) -> Tensor:
    """Marks of the only output of an operator that passes a factor on."""
    tensors = [v for v in flatten((node.args, node.kwargs)) if isinstance(v, Value)]
    known = [v for v in tensors if id(v) in marks]
    shape = node.outputs[0].shape
    first: Any = node.args[0]
    if name in _HOMOGENEOUS and known == [first]:
        return marks[id(first)]
    if name in _REDUCTIONS and known == [first]:
        return _reduced(marks[id(first)], shape, node)
    if name in ("mul", "div") and len(known) == 1 and (name == "mul" or known[0] is first):
        return _broadcast(marks[id(known[0])], shape)
    if name in ("add", "sub") and len(known) == 2 == len(tensors):
        a, b = (_broadcast(marks[id(v)], shape) for v in known)
        if torch.equal(a, b):
            return a
    raise Stuck


def _broadcast(mark: Tensor, shape: tuple[int, ...]) -> Tensor:
    return mark.broadcast_to(shape) if len(shape) >= mark.dim() else mark


def _reduced(mark: Tensor, shape: tuple[int, ...], node: Node) -> Tensor:
    """Marks after a sum: all that is summed must be marked, or nothing."""
    dims = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    keep = bool(node.args[2] if len(node.args) > 2 else node.kwargs.get("keepdim", False))
    if dims is None or not isinstance(dims, (list, tuple, int)) or isinstance(dims, bool):
        dims = list(range(mark.dim()))
    dims = [dims] if isinstance(dims, int) else [*dims] or list(range(mark.dim()))
    low, high = (
        mark.to(torch.uint8).amin(dims, keepdim=keep),
        mark.to(torch.uint8).amax(dims, keepdim=keep),
    )
    if not torch.equal(low, high) or low.shape != shape:
        raise Stuck
    return low.bool()
