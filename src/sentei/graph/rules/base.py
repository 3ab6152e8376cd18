"""What a rule is, and what it may say.

A rule is a function of one ATen operator's arguments, tensors given as `Traced` (their axes and
shape). It states equalities between axes with `same`, pins what the operator does not treat unit
by unit with `pin`, tells which integer arguments must follow a width with `need`, and returns the
axes of the result: one list for one tensor, a tuple of lists for several.

    @rule(aten.linear)
    def _(x, weight, bias=None):
        same(x.axes[-1], weight.axes[1])
        ...
        return [*x.axes[:-1], weight.axes[0]]

An operator without a rule pins what it touches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch

from sentei.graph.axis import (
    Axis,
    Concat,
    Dim,
    Fixed,
    Misaligned,
    Product,
    note,
    pin,
    product,
    resolve,
)
from sentei.graph.axis import cut as _cut
from sentei.graph.axis import dims as _dims
from sentei.graph.axis import factor as _factor
from sentei.graph.axis import split as _split
from sentei.graph.axis import unify as _unify
from sentei.graph.tape import Node, Value

__all__ = [
    "RULES", "Facts", "Need", "Rule", "Scale", "Traced", "align", "averaged", "axes_like",
    "broadcast", "copies", "cut", "data",
    "factor", "free", "here", "in_training", "need", "note", "pin", "product", "recording",
    "regroup", "repeats", "resolve", "rule",
    "same", "scaled", "split", "tie",
]  # fmt: skip


class _Aten:
    """`torch.ops.aten`, with None for operators that this version of torch does not have."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch.ops.aten, name, None)


aten = _Aten()
Rule = Callable[..., Any]
RULES: dict[Any, Rule] = {}


@dataclass(slots=True)
class Traced:
    """A tensor as a rule sees it."""

    value: Value
    axes: list[Axis]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    @property
    def ndim(self) -> int:
        return len(self.value.shape)


@dataclass(slots=True)
class Need:
    """An integer of the code (`size`) must equal the width of `axis`."""

    size: Any
    axis: Axis
    node: Node


@dataclass(slots=True)
class Scale:
    """The operator multiplies `value` by a number computed from widths (attention's 1/sqrt(width)).

    expr: the number, an expression as in `graph.tape`, with ("width", axis) for an axis.
    """

    value: Value
    expr: Any
    node: Node


@dataclass
class Facts:
    """What the rules found while walking a tape.

    literals: plain numbers that had to equal a width that was free to change.
    training: is the pass under way one of train mode, whose answers nobody compares?
    """

    needs: list[Need] = field(default_factory=list)
    ties: list[tuple[Axis, Axis, str]] = field(default_factory=list)
    scales: list[Scale] = field(default_factory=list)
    means: list[Scale] = field(default_factory=list)
    unknown: dict[str, int] = field(default_factory=dict)
    equal: list[tuple[Any, Any]] = field(default_factory=list)
    numbered: list[tuple[Value, Axis, str]] = field(default_factory=list)
    copied: set[tuple[int, int]] = field(default_factory=set)
    literals: set[int] = field(default_factory=set)
    aligned: list[tuple[Axis, int]] = field(default_factory=list)
    training: bool = False


_facts: list[Facts] = []
_node: list[Node] = []


@contextmanager
def recording(facts: Facts) -> Iterator[list[Node]]:
    """Rules called inside write to `facts`; the yielded list's last entry is the current node."""
    _facts.append(facts)
    _node.append(None)  # type: ignore[arg-type]
    try:
        yield _node
    finally:
        _facts.pop()
        _node.pop()


def rule(*operators: Any) -> Callable[[Rule], Rule]:
    """Register the decorated function for ATen operators (packets or overloads).

    Example, for an operator of your own::

        @sentei.rule(torch.ops.mylib.gate)
        def _(x, gate):
            sentei.graph.rules.same(x.axes[-1], gate.axes[-1])
            return x.axes
    """

    def register(function: Rule) -> Rule:
        for operator in filter(None, operators):
            RULES[operator] = function
        return function

    return register


def here() -> Node:
    """The operator that the rule is asked about."""
    return _node[-1]


def in_training() -> bool:
    """Does only training run the operator, as far as this pass tells?"""
    return _facts[-1].training


def data(size: int, why: str = "data dimension") -> Fixed:
    """An axis that nobody prunes."""
    return Fixed(size, why)


def free(size: int) -> Axis:
    """A new axis whose positions are all alike (zeros, copies of one value)."""
    return Dim(size) if size > 1 else Fixed(1)


def same(a: Axis, b: Axis) -> None:
    """`a` and `b` are equal position by position; where that cannot be said, both are pinned."""
    try:
        _unify(a, b)
    except Misaligned as error:
        why = f"{_where()}: {error}"
        pin(a, why)
        pin(b, why)


def tie(a: Axis, b: Axis, why: str) -> None:
    """The widths of `a` and `b` must stay equal, whatever units remain of each."""
    _facts[-1].ties.append((a, b, f"{_where()}: {why}"))


def need(size: Any, axis: Axis) -> None:
    """The integer argument `size` of the operator must follow the width of `axis`."""
    if isinstance(size, int) and not isinstance(axis, Fixed):
        _facts[-1].needs.append(Need(size, axis, _node[-1]))


def scaled(value: Value, expr: Any) -> None:
    """The operator multiplies `value` by the number `expr`, which depends on widths."""
    _facts[-1].scales.append(Scale(value, expr, _node[-1]))


def averaged(axis: Axis) -> None:
    """The operator's output is a mean over `axis`: what the removal of units does to it is known.

    It is recorded as the sum times 1 / width.
    """
    node = _node[-1]
    if node.outputs and any(True for _ in _dims(axis)):
        expr = ("/", 1.0, ("width", axis))
        _facts[-1].means.append(Scale(node.outputs[0], expr, node))


def numbers(output: int, axis: Axis) -> None:
    """The operator's output `output` holds positions along `axis`: if read, they must stay."""
    node = _node[-1]
    if output < len(node.outputs):
        _facts[-1].numbered.append(
            (node.outputs[output], axis, f"{_where()} numbers its positions")
        )


def align(axis: Axis, multiple: int) -> None:
    """The operator takes only widths of `axis` that are multiples of this."""
    _facts[-1].aligned.append((axis, multiple))


def copies(dim: int) -> None:
    """Along dimension `dim` (from the end, so negative) the operator's output repeats one value."""
    _facts[-1].copied |= {(id(value), dim) for value in _node[-1].outputs}


def repeats(x: Traced, dim: int) -> bool:
    """Is the tensor one value along this dimension (from the end), as far as is known?"""
    return x.shape[dim] == 1 or (id(x.value), dim) in _facts[-1].copied


def factor(axis: Axis, k: int) -> tuple[Axis, Axis]:
    """`graph.axis.factor`; an axis that cannot be factored is pinned."""
    try:
        return _factor(axis, int(k))
    except Misaligned as error:
        pin(axis, f"{_where()}: {error}")
        return data(int(k)), data(axis.size // int(k))


def cut(axis: Axis, k: int) -> tuple[Axis, Axis]:
    """`graph.axis.cut`; an axis that cannot be cut is pinned."""
    try:
        return _cut(axis, int(k))
    except Misaligned as error:
        pin(axis, f"{_where()}: {error}")
        return data(int(k)), data(axis.size - int(k))


def split(axis: Axis, sizes: Sequence[int]) -> list[Axis]:
    """`graph.axis.split`; an axis that cannot be split is pinned."""
    try:
        return _split(axis, [int(s) for s in sizes])
    except Misaligned as error:
        pin(axis, f"{_where()}: {error}")
        return [data(int(s)) for s in sizes]


def broadcast(tensors: Sequence[Traced], shape: Sequence[int], skip: int = 0) -> list[Axis]:
    """Align tensors from the right as broadcasting does, but for the last `skip` dims."""
    out: list[Axis | None] = [None] * len(shape)
    for tensor in tensors:
        last = tensor.ndim - skip
        for i in range(1, last + 1):
            if i > len(shape):
                break
            axis, size = tensor.axes[last - i], shape[-i]
            if axis.size != size:
                continue
            at = len(shape) - i
            known = out[at]
            if known is None:
                out[at] = axis
            elif known is not axis and size != 1:
                same(known, axis)
    return [axis if axis is not None else data(n) for axis, n in zip(out, shape, strict=True)]


def regroup(axes: Sequence[Axis], shape: Sequence[int]) -> list[Axis]:
    """The axes of a tensor after `reshape` to `shape`: runs of equal element counts are matched,
    flattened row-major and factored again."""
    out: list[Axis] = []
    source = [a for a in axes if a.size != 1]
    target = [int(n) for n in shape]
    if 0 in target or any(a.size == 0 for a in axes):
        for n in target:
            match = next((a for a in source if a.size == n and n > 0), None)
            out.append(match if match is not None else data(n))
        return out
    at = i = 0
    while i < len(target):
        n = target[i]
        if n == 1:
            out.append(data(1))
            i += 1
            continue
        if at < len(source) and source[at].size == n:
            out.append(source[at])
            at, i = at + 1, i + 1
            continue
        left, right, j = [source[at]], n, i + 1
        at += 1
        while prod(a.size for a in left) != right:
            if prod(a.size for a in left) < right:
                left.append(source[at])
                at += 1
            else:
                right *= target[j]
                j += 1
        rest = product([resolve(a) for a in left])
        for size in target[i : j - 1]:
            outer, rest = factor(rest, size)
            out.append(outer)
        out.append(rest)
        i = j
    return [resolve(a) for a in out]


def axes_like(node: Node, *tensors: Traced) -> list[list[Axis]]:
    """For each output the axes of the first tensor of that shape, else data dimensions."""
    out: list[list[Axis]] = []
    for value in node.outputs:
        twin = next((t for t in tensors if t.shape == value.shape), None)
        out.append(list(twin.axes) if twin is not None else [data(n) for n in value.shape])
    return out


def _where() -> str:
    node = _node[-1] if _node else None
    if node is None:
        return "axes"
    name = node.operator
    return f"{name} in {node.module}" if node.module else name


def describe(axis: Axis) -> str:
    """One word for the shape of an axis, for messages."""
    axis = resolve(axis)
    return {Dim: "dimension", Product: "product", Concat: "concatenation"}.get(type(axis), "data")
