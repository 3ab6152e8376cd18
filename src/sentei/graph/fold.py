"""Keep the function exact where the code multiplies by a number computed from a width.

Attention divides its scores by the square root of the head width *that it finds*, so removing
query–key units would change the scale of what remains. The lost factor is folded into the
parameters that make the query: their rows are multiplied by it. Which rows those are is found by
walking back from the scaled tensor through operators that pass a factor on unchanged, to the
parameters that make it, and by following positions forward again to see that nothing else is fed
by them. Where that fails, the width is pinned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any

import torch
from torch import Tensor

from sentei.graph.absorb import Stuck, Taken, absorb
from sentei.graph.axis import Axis, Dim, dims, note, pin, width
from sentei.graph.rules.base import Scale
from sentei.graph.tape import Node, Tape, Value, flatten

__all__ = ["MOVES", "Fold", "factors", "folds"]

# Operators that only say anew where elements stand.
MOVES = {
    "view", "reshape", "_unsafe_view", "unflatten", "flatten", "squeeze", "unsqueeze",
    "permute", "transpose", "t", "mT", "movedim", "unbind", "split", "split_with_sizes",
    "chunk", "select", "slice", "narrow", "contiguous", "clone", "swapaxes", "expand", "detach",
    "alias", "view_as", "reshape_as",
}  # fmt: skip
_PASSES = {
    "neg", "to", "_to_copy", "type_as", "dropout", "float", "half", "cat", "stack", "roll",
    "pad", "constant_pad_nd", "repeat", "repeat_interleave", "sum", "index", "index_select",
    "gather", "view_as_complex", "view_as_real",
}  # fmt: skip
# How many of their tensors these operators read for what they hold: the others give type and shape.
_LOOKS = {
    "type_as": 1, "view_as": 1, "reshape_as": 1, "expand_as": 1, "zeros_like": 0, "ones_like": 0,
    "empty_like": 0, "full_like": 0, "new_zeros": 0, "new_ones": 0, "new_empty": 0, "new_full": 0,
}  # fmt: skip
_SUMS = {"add", "sub"}
_PRODUCTS = {"mul", "div", "matmul", "bmm", "mm", "einsum", "baddbmm"}


@dataclass(frozen=True)
class Fold:
    """Multiply positions of parameters' dimensions by expr(full widths) / expr(kept widths)."""

    expr: Any
    targets: tuple[Taken, ...]


class _Claims:
    """Which positions of which parameter take which factor, and for which of its readers."""

    def __init__(self, analysis: Any, graphs: dict[int, Graph]) -> None:
        self.analysis, self.graphs = analysis, graphs
        self.known: dict[tuple[str, int], list[tuple[Any, Tensor, set[int]]]] = {}

    def add(self, fold: Fold) -> None:
        """Raises `Stuck` where another factor is claimed for some of the positions."""
        for name, dim, positions, node in fold.targets:
            claims = self.known.setdefault((name, dim), [])
            for expr, own, users in claims:
                if torch.equal(own, positions) and _alike(expr, fold.expr, self.analysis):
                    users.add(id(node))
                    break
                if torch.isin(own, positions).any():
                    raise Stuck
            else:
                claims.append((fold.expr, positions, {id(node)}))

    def elsewhere(self, fold: Fold) -> str | None:
        """A parameter of the fold that is also read where no such factor applies."""
        for name, dim, positions, _ in fold.targets:
            for _expr, own, users in self.known.get((name, dim), ()):
                if torch.equal(own, positions) and any(
                    id(n) not in users for g in self.graphs.values() for n in g.users_of(name)
                ):
                    return name
        return None


def folds(analysis: Any) -> tuple[list[Fold], bool]:
    """The folds of an analysis, and whether any width had to be pinned for want of one.

    Sets `analysis.averaged`: dims over which every mean is compensated, so that a removed unit
    counts as zero in it. In other means it takes no part, and the dim is marked as normalised.
    """
    found: list[Fold] = []
    analysis.averaged = set()
    if not analysis.facts.scales and not analysis.facts.means:
        return found, False
    graphs = _graphs(analysis)
    home = {id(node): tape for tape in analysis.tapes for node in tape.nodes}
    pinned = False
    claims = _Claims(analysis, graphs)
    for scale in analysis.facts.scales:
        free = [d for a in _axes_of(scale.expr, analysis) for d in dims(a) if d.pinned is None]
        free = [d for d in free if _is_parametric(analysis, d)]
        if not free:
            continue
        try:
            fold = Fold(scale.expr, tuple(_targets(graphs[id(home[id(scale.node)])], scale)))
            claims.add(fold)
            found.append(fold)
        except Stuck:
            pinned = True
            where = scale.node.module or "the model"
            for dim in free:
                pin(
                    dim,
                    f"{where} scales by a function of this width, which cannot be folded exactly",
                )
    for fold in [*found]:
        name = claims.elsewhere(fold)
        if name is not None:
            pinned = True
            for axis in _axes_of(fold.expr, analysis):
                pin(axis, f"{name} is also used where no such factor applies")
            found.remove(fold)
    if not pinned and analysis.facts.means:
        found += _averages(analysis, graphs, home, found)
    return found, pinned


def _graphs(analysis: Any) -> dict[int, Graph]:
    if not hasattr(analysis, "_graphs"):  # tapes do not change, only what is known about widths
        analysis._graphs = {id(tape): Graph(tape) for tape in analysis.tapes}
    graphs: dict[int, Graph] = analysis._graphs
    return graphs


def _targets(graph: Graph, scale: Scale) -> list[Taken]:
    """The parameters that make the scaled tensor, or else those that read it."""
    try:
        return [
            (name, 0, positions, node)
            for node, names in graph.origins(scale)
            for positions in [graph.positions(node, scale)]
            for name in names
        ]
    except Stuck:
        if scale.node.operator not in ("mul", "div"):
            raise
        return absorb(graph, scale.node.outputs[0], scale.node, MOVES)


def _averages(
    analysis: Any, graphs: dict[int, Graph], home: dict[int, Tape], others: list[Fold]
) -> list[Fold]:
    """Folds of the means over pruned axes: for each dim all of them, or none."""
    plans: list[tuple[Fold, set[Dim]]] = []
    failed: set[Dim] = set()
    for mean in analysis.facts.means:
        free = {d for a in _axes_of(mean.expr, analysis) for d in dims(a) if d.pinned is None}
        if not any(_is_parametric(analysis, d) for d in free):
            continue
        try:
            graph = graphs[id(home[id(mean.node)])]
            targets = absorb(graph, mean.value, mean.node, MOVES)
            plans.append((Fold(mean.expr, tuple(targets)), free))
        except Stuck:
            failed |= free
    while True:
        before = len(plans)
        claims = _Claims(analysis, graphs)
        for fold in others:
            claims.add(fold)
        for fold, free in plans:
            try:
                claims.add(fold)
            except Stuck:
                failed |= free
        for fold, free in plans:
            if claims.elsewhere(fold) is not None:
                failed |= free
        for _, free in plans:
            if free & failed:
                failed |= free
        plans = [(fold, free) for fold, free in plans if not free & failed]
        if len(plans) == before:
            break
    for dim in failed:
        note(dim, "normalised")
    analysis.averaged = {dim for _, free in plans for dim in free}
    return [fold for fold, _ in plans]


def factors(analysis: Any, kept: Callable[[Dim], int]) -> dict[str, list[tuple[int, Tensor]]]:
    """parameter -> [(dimension, factor at each position)] for the widths given."""
    out: dict[str, dict[int, Tensor]] = {}
    done: set[tuple[str, int, tuple[int, ...]]] = set()
    for fold in analysis.folds:
        before = _number(fold.expr, analysis, lambda d: d.size)
        after = _number(fold.expr, analysis, kept)
        if before == after:
            continue
        for name, dim, positions, _ in fold.targets:
            key = name, dim, tuple(positions.tolist())
            if key in done:
                continue  # the same factor, for another pass or reader
            done.add(key)
            size = analysis.parameters[name][dim].size
            factor = out.setdefault(name, {}).setdefault(dim, torch.ones(size).double())
            factor[positions] *= before / after
    return {name: sorted(by_dim.items()) for name, by_dim in out.items()}


def _number(expr: Any, analysis: Any, kept: Callable[[Dim], int]) -> float:
    if not isinstance(expr, tuple):
        return float(expr)
    kind = expr[0]
    if kind == "width":
        return float(width(expr[1], kept))
    if kind == "size":
        return float(width(analysis.axes(expr[1])[expr[2]], kept))
    if kind == "attribute":
        value = analysis.solution.attributes.get(expr[1])
        if value is None:
            return float(analysis.attributes[expr[1]])
        quotient: float = value.over.value(kept) / value.under.value(kept)
        return quotient
    a = _number(expr[1], analysis, kept)
    if kind == "sqrt":
        return float(a**0.5)
    if kind == "whole":
        return float(int(a))
    b = _number(expr[2], analysis, kept)
    operations: dict[str, Callable[[float, float], float]] = {
        "+": lambda x, y: x + y,
        "-": lambda x, y: x - y,
        "*": lambda x, y: x * y,
        "/": lambda x, y: x / y,
        "//": lambda x, y: x // y,
        "%": lambda x, y: x % y,
        "**": lambda x, y: x**y,
    }
    return float(operations[kind](a, b))


def _axes_of(expr: Any, analysis: Any) -> list[Axis]:
    """The axes whose widths an expression depends on."""
    if not isinstance(expr, tuple):
        return []
    if expr[0] == "width":
        return [expr[1]]
    if expr[0] == "size":
        return [analysis.axes(expr[1])[expr[2]]]
    if expr[0] == "attribute":
        value = analysis.solution.attributes.get(expr[1])
        return [] if value is None else [*value.over.dims, *value.under.dims]
    return [axis for part in expr[1:] for axis in _axes_of(part, analysis)]


def _is_parametric(analysis: Any, dim: Dim) -> bool:
    if not hasattr(analysis, "_parametric"):
        analysis._parametric = {
            d for axes in analysis.parameters.values() for a in axes for d in dims(a)
        }
    return dim in analysis._parametric


def _alike(a: Any, b: Any, analysis: Any) -> bool:
    """Do two expressions give the same factor for all widths? Compared at two points."""
    for share in (2, 3):

        def kept(dim: Dim, share: int = share) -> int:
            return dim.size * share + dim.serial % 7

        if abs(_number(a, analysis, kept) - _number(b, analysis, kept)) > 1e-12:
            return False
    return True


@dataclass
class Graph:
    """A tape with producers and consumers of each value."""

    tape: Tape
    producer: dict[int, Node] = field(default_factory=dict)
    consumers: dict[int, list[Node]] = field(default_factory=dict)
    order: dict[int, int] = field(default_factory=dict)
    used: list[list[Value]] = field(default_factory=list)  # the tensors each operator reads

    def __post_init__(self) -> None:
        self._indices: dict[tuple[tuple[int, ...], int], Tensor] = {}
        for i, node in enumerate(self.tape.nodes):
            self.order[id(node)] = i
            self.used.append(node.reads[: _LOOKS.get(node.operator)])
            inputs = {id(v) for v in self.used[-1]}
            for key in inputs:
                self.consumers.setdefault(key, []).append(node)
            for value in node.outputs:
                if id(value) not in inputs:
                    self.producer.setdefault(id(value), node)

    def users_of(self, name: str) -> list[Node]:
        value = self.tape.parameters.get(name)
        return self.consumers.get(id(value), []) if value is not None else []

    # -- backwards ------------------------------------------------------------------------------
    def origins(self, scale: Scale) -> list[tuple[Node, list[str]]]:
        """The operators whose parameters make the scaled tensor, with those parameters."""
        self.inside: dict[int, Value] = {}
        self.operand: dict[int, Value] = {}  # which factor of a product carries the scale
        return self._back(scale.value, 0)

    def _back(self, value: Value, depth: int) -> list[tuple[Node, list[str]]]:
        node = self.producer.get(id(value))
        if node is None or depth > 60:
            raise Stuck
        if any(
            c.operator.endswith("_") and c.outputs and c.outputs[0] is value
            for c in self.consumers.get(id(value), [])
        ):
            raise Stuck  # changed in place
        self.inside[id(value)] = value
        name = node.operator
        if name in MOVES or name in _PASSES:
            tensors = [v for v in flatten(node.args) if isinstance(v, Value)]
            tensors = tensors[:1] if name not in ("cat", "stack") else tensors
            return [o for v in tensors for o in self._back(v, depth + 1)]
        if name in _SUMS:
            terms = node.args[:2]
            if not all(isinstance(t, Value) for t in terms):
                raise Stuck
            return [o for t in terms for o in self._back(t, depth + 1)]
        if name in _PRODUCTS:
            operands = [v for v in flatten(node.args) if isinstance(v, Value)]
            for operand in operands[: 1 if name == "div" else 2]:
                if operand.origin == "parameter" and len(operand.shape) == 1:
                    return [(node, [operand.name])]
                saved = dict(self.inside)
                self.operand[id(node)] = operand
                try:
                    return self._back(operand, depth + 1)
                except Stuck:
                    self.inside = saved
            raise Stuck
        if name in ("linear", "conv1d", "conv2d", "conv3d"):
            own = [node.args[1], *(a for a in node.args[2:3] if isinstance(a, Value))]
        elif name in ("layer_norm", "rms_norm"):
            own = [a for a in node.args[2:4] if isinstance(a, Value)]
        else:
            raise Stuck
        if not own or any(a.origin != "parameter" for a in own):
            raise Stuck
        return [(node, [a.name for a in own])]

    # -- forwards -------------------------------------------------------------------------------
    def positions(self, origin: Node, scale: Scale) -> Tensor:
        """Which positions of the origin's output axis feed the scaled tensor, and only it."""
        out = origin.outputs[0]
        at = 1 if origin.operator.startswith("conv") else len(out.shape) - 1
        base = self._index(out.shape, at)
        tracked: dict[int, Tensor] = {}
        scaled: list[Tensor] = []
        foreign: list[Tensor] = []
        queue: list[int] = []  # the operators still to visit, in the order of execution
        queued: set[int] = set()

        def track(value: Value, tensor: Tensor, after: int) -> None:
            tracked[id(value)] = tensor
            for user in self.consumers.get(id(value), ()):
                place = self.order[id(user)]
                if place > after and place not in queued:
                    queued.add(place)
                    heappush(queue, place)

        track(out, base, self.order[id(origin)])
        while queue:
            i = heappop(queue)
            node, used = self.tape.nodes[i], self.used[i]
            known = [v for v in used if id(v) in tracked]
            if node is scale.node:
                for v in used:
                    if id(v) in tracked:
                        (scaled if v is scale.value and v is used[0] else foreign).append(
                            tracked[id(v)]
                        )
                if sum(v is scale.value for v in used) > 1:
                    foreign.append(tracked[id(scale.value)])
            elif node.operator in MOVES:
                for value, tensor in self.move(node, tracked):
                    track(value, tensor, i)
            elif node.outputs and all(id(o) in tracked for o in node.outputs):
                continue  # the same tensor handed through
            elif node.outputs and all(id(o) in self.inside for o in node.outputs):
                carrier = self.operand.get(id(node))
                for v in known:
                    alone = carrier is None or (v is carrier and sum(u is v for u in used) == 1)
                    side = scaled if alone else foreign
                    side.append(tracked[id(v)])
            else:
                foreign.extend(tracked[id(v)] for v in known)
        for key, value in self.inside.items():
            if key in tracked:
                continue
            for node in self.consumers.get(key, []):
                inside = node.outputs and all(id(o) in self.inside for o in node.outputs)
                if not inside and node is not scale.node:
                    raise Stuck
            if any(value is o for o in self.tape.outputs):
                raise Stuck
        if any(id(o) in tracked for o in self.tape.outputs) or not scaled:
            raise Stuck
        mine = _marked(scaled, base, at)
        if (mine & _marked(foreign, base, at)).any():
            raise Stuck
        return mine.nonzero().flatten()

    def _index(self, shape: tuple[int, ...], at: int) -> Tensor:
        """A tensor of this shape that holds its own positions along dimension `at`."""
        if (shape, at) not in self._indices:
            size = [1] * len(shape)
            size[at] = shape[at]
            # The narrowest type will do: this is as large as the activation.
            dtype = torch.int16 if shape[at] < 2**15 else torch.int64
            line = torch.arange(shape[at], dtype=dtype)
            self._indices[shape, at] = line.view(size).expand(shape).contiguous()
        return self._indices[shape, at]

    def move(self, node: Node, tracked: dict[int, Tensor]) -> list[tuple[Value, Tensor]]:
        def real(tree: Any) -> Any:
            if isinstance(tree, Value):
                return tracked[id(tree)] if id(tree) in tracked else torch.zeros(tree.shape)
            if type(tree) in (tuple, list):
                return type(tree)(real(x) for x in tree)
            return int(tree) if isinstance(tree, int) and type(tree) is not bool else tree

        result = node.op(
            *(real(a) for a in node.args),
            **{
                k: v
                for k, v in node.kwargs.items()
                if not isinstance(v, (torch.device, torch.layout))
            },
        )
        moved = [t for t in flatten(result) if isinstance(t, Tensor)]
        return list(zip(node.outputs, moved, strict=True))


def _marked(tensors: list[Tensor], base: Tensor, at: int) -> Tensor:
    """Which positions occur in any of the tensors, as a boolean vector.

    Most are views of `base`: along dimensions that step over whole periods of it, every entry is
    the same, so that one is enough.
    """
    marks = torch.zeros(base.shape[at], dtype=torch.bool)
    inner = base.stride(at)
    storage = base.untyped_storage().data_ptr()
    for tensor in tensors:
        if tensor.untyped_storage().data_ptr() == storage:
            for dim in range(tensor.dim()):
                if tensor.shape[dim] > 1 and tensor.stride(dim) % (inner * base.shape[at]) == 0:
                    tensor = tensor.narrow(dim, 0, 1)
        marks[tensor.flatten().long()] = True
    return marks
