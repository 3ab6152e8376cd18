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

from sentei.graph.axis import Axis, Dim, dims, pin, width
from sentei.graph.rules.base import Scale
from sentei.graph.tape import Node, Tape, Value, flatten

__all__ = ["Fold", "factors", "folds"]

_MOVES = {
    "view", "reshape", "_unsafe_view", "unflatten", "flatten", "squeeze", "unsqueeze",
    "permute", "transpose", "t", "mT", "movedim", "unbind", "split", "split_with_sizes",
    "chunk", "select", "slice", "narrow", "contiguous", "clone", "swapaxes", "expand", "detach",
    "alias", "view_as", "reshape_as",
}  # fmt: skip
_PASSES = {
    "neg", "to", "_to_copy", "type_as", "dropout", "float", "half", "cat", "stack", "roll",
    "pad", "constant_pad_nd", "repeat", "repeat_interleave", "sum", "index", "index_select",
    "gather",
}  # fmt: skip
_SUMS = {"add", "sub"}
_PRODUCTS = {"mul", "div", "matmul", "bmm", "mm", "einsum", "baddbmm"}


@dataclass(frozen=True)
class Fold:
    """Multiply positions of a parameter's dimension 0 by expr(full widths) / expr(kept widths)."""

    expr: Any
    targets: tuple[tuple[str, Tensor], ...]


class _Stuck(Exception):
    """The factor cannot be folded exactly."""


def folds(analysis: Any) -> tuple[list[Fold], bool]:
    """The folds of an analysis, and whether any width had to be pinned for want of one."""
    found: list[Fold] = []
    if not analysis.facts.scales:
        return found, False
    if not hasattr(analysis, "_graphs"):  # tapes do not change, only what is known about widths
        analysis._graphs = {id(tape): _Graph(tape) for tape in analysis.tapes}
    graphs: dict[int, _Graph] = analysis._graphs
    home = {id(node): tape for tape in analysis.tapes for node in tape.nodes}
    pinned = False
    claimed: dict[str, tuple[Any, Tensor, set[int]]] = {}
    for scale in analysis.facts.scales:
        free = [d for a in _axes_of(scale.expr, analysis) for d in dims(a) if d.pinned is None]
        free = [d for d in free if _is_parametric(analysis, d)]
        if not free:
            continue
        tape = home[id(scale.node)]
        try:
            frontier = graphs[id(tape)].origins(scale)
            targets = []
            for node, names in frontier:
                positions = graphs[id(tape)].positions(node, scale)
                for name in names:
                    targets.append((name, positions))
                    expr, known, users = claimed.setdefault(name, (scale.expr, positions, set()))
                    if not torch.equal(known, positions) or not _alike(expr, scale.expr, analysis):
                        raise _Stuck
                    users.add(id(node))
            found.append(Fold(scale.expr, tuple(targets)))
        except _Stuck:
            pinned = True
            where = scale.node.module or "the model"
            for dim in free:
                pin(
                    dim,
                    f"{where} scales by a function of this width, which cannot be folded exactly",
                )
    for name, (_, _, users) in claimed.items():
        others = [n for g in graphs.values() for n in g.users_of(name) if id(n) not in users]
        if others:
            pinned = True
            for fold in found:
                if any(n == name for n, _ in fold.targets):
                    for axis in _axes_of(fold.expr, analysis):
                        pin(axis, f"{name} is also used where no such factor applies")
            found = [f for f in found if all(n != name for n, _ in f.targets)]
    return found, pinned


def factors(analysis: Any, kept: Callable[[Dim], int]) -> dict[str, list[tuple[int, Tensor]]]:
    """parameter -> [(dimension, factor at each position)] for the widths given."""
    out: dict[str, list[tuple[int, Tensor]]] = {}
    for fold in analysis.folds:
        before = _number(fold.expr, analysis, lambda d: d.size)
        after = _number(fold.expr, analysis, kept)
        if before == after:
            continue
        for name, positions in fold.targets:
            if name in out:
                continue
            size = analysis.parameters[name][0].size
            factor = torch.ones(size, dtype=torch.float64)
            factor[positions] = before / after
            out[name] = [(0, factor)]
    return out


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
class _Graph:
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
            self.used.append(node.reads)
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
            raise _Stuck
        if any(
            c.operator.endswith("_") and c.outputs and c.outputs[0] is value
            for c in self.consumers.get(id(value), [])
        ):
            raise _Stuck  # changed in place
        self.inside[id(value)] = value
        name = node.operator
        if name in _MOVES or name in _PASSES:
            tensors = [v for v in flatten(node.args) if isinstance(v, Value)]
            tensors = tensors[:1] if name not in ("cat", "stack") else tensors
            return [o for v in tensors for o in self._back(v, depth + 1)]
        if name in _SUMS:
            terms = node.args[:2]
            if not all(isinstance(t, Value) for t in terms):
                raise _Stuck
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
                except _Stuck:
                    self.inside = saved
            raise _Stuck
        if name in ("linear", "conv1d", "conv2d", "conv3d"):
            own = [node.args[1], *(a for a in node.args[2:3] if isinstance(a, Value))]
        elif name in ("layer_norm", "rms_norm"):
            own = [a for a in node.args[2:4] if isinstance(a, Value)]
        else:
            raise _Stuck
        if not own or any(a.origin != "parameter" for a in own):
            raise _Stuck
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
            elif node.operator in _MOVES:
                for value, tensor in self._move(node, tracked):
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
                    raise _Stuck
            if any(value is o for o in self.tape.outputs):
                raise _Stuck
        if any(id(o) in tracked for o in self.tape.outputs) or not scaled:
            raise _Stuck
        mine = _marked(scaled, base, at)
        if (mine & _marked(foreign, base, at)).any():
            raise _Stuck
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

    def _move(self, node: Node, tracked: dict[int, Tensor]) -> list[tuple[Value, Tensor]]:
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
