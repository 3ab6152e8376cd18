"""Costs as formulas in the widths: no model is needed to know what a plan would cost.

Counted: one MAC is one multiply-add in a contraction (linear, matrix products, einsum,
convolutions, attention, recurrent layers), without biases, normalisation, activations and pooling.
This is what `torch.utils.flop_counter` counts, over two, and what it misses of the kind: products
with vectors, fused recurrent layers. Parameters are counted once however often they are used.

Memory is what one forward pass holds at its peak: parameters, buffers and inputs all along, and
every activation from the operator that writes it to the last one that reads it, the model's outputs
to the end. Views and in-place results share the memory of what they look at; a `reshape` of a
transposed tensor is a copy. Scratch space inside operators is not counted: which kernel runs, and
whether it unfolds a convolution's input or rearranges it in blocks, is the backend's choice by
shape, device and version, and no formula in the widths. Nor is what the model's Python holds on to
for longer than it needs. A profiler therefore shows more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

from sentei.graph.analysis import Analysis
from sentei.graph.axis import Axis, Dim
from sentei.graph.tape import Node, Tape, Value
from sentei.graph.ties import Poly, size_of

__all__ = ["CONTRACTIONS", "Cost", "CostModel"]


@dataclass(frozen=True)
class Cost:
    """What a network costs on the example input.

    params: number of parameters. macs: multiply-adds of one forward pass.
    activations: elements that the operators write (views excluded).
    bytes: of parameters and persistent buffers at their types: what an artefact stores.
    memory: bytes alive at once at the peak of one forward pass.
    """

    params: int
    macs: int
    activations: int
    bytes: int
    memory: int = 0


class CostModel:
    """The cost formulas of an analysis."""

    def __init__(self, analysis: Analysis) -> None:
        self._analysis = analysis

    @cached_property
    def params(self) -> Poly:
        return self._tensors(lambda value: value.origin == "parameter")

    @cached_property
    def bytes(self) -> Poly:
        tape = self._analysis.tapes[0]

        def stored(value: Value) -> bool:
            lasting = value.origin == "buffer" and value.name not in tape.transient
            return value.origin == "parameter" or lasting

        return self._tensors(stored, lambda value: value.dtype.itemsize)

    def _tensors(
        self, chosen: Callable[[Value], bool], weight: Callable[[Value], int] = lambda value: 1
    ) -> Poly:
        total: dict[tuple[Dim, ...], int] = {}
        for name, value in self._analysis.tapes[0].parameters.items():
            if chosen(value):
                _add(total, weight(value), self._analysis.parameters[name])
        return Poly.of(total)

    @cached_property
    def resident(self) -> Poly:
        """Bytes of parameters, buffers and other tensors of the model."""
        return self._tensors(lambda value: True, lambda value: value.dtype.itemsize)

    @cached_property
    def live(self) -> tuple[Poly, ...]:
        """Bytes of inputs and activations alive while each operator that allocates runs."""
        lives = lifetimes(self._analysis.tapes[0])
        sizes = {id(value): self._size(value) for value, _, _ in lives}
        ends: dict[int, list[Value]] = {}
        starts: dict[int, list[Value]] = {}
        for value, birth, death in lives:
            starts.setdefault(birth, []).append(value)
            ends.setdefault(death, []).append(value)
        rows: dict[Poly, None] = {}
        total: dict[tuple[Dim, ...], int] = {}
        for now in sorted({*starts, *ends}):
            for value in starts.get(now, ()):
                for monomial, c in sizes[id(value)].terms:
                    total[monomial] = total.get(monomial, 0) + c
            if now in starts:
                rows[Poly.of(total)] = None
            for value in ends.get(now, ()):
                for monomial, c in sizes[id(value)].terms:
                    total[monomial] -= c
        return tuple(rows) or (Poly.constant(0),)

    def _size(self, value: Value) -> Poly:
        total: dict[tuple[Dim, ...], int] = {}
        _add(total, value.dtype.itemsize, self._analysis.axes(value))
        return Poly.of(total)

    @cached_property
    def macs(self) -> Poly:
        total: dict[tuple[Dim, ...], int] = {}
        for node in self._analysis.tapes[0].nodes:
            for coefficient, axes in node_macs(node, self._analysis.axes):
                _add(total, coefficient, axes)
        return Poly.of(total)

    @cached_property
    def activations(self) -> Poly:
        total: dict[tuple[Dim, ...], int] = {}
        for node in self._analysis.tapes[0].nodes:
            if not node.op.is_view:
                for value in node.outputs:
                    _add(total, 1, self._analysis.axes(value))
        return Poly.of(total)

    def evaluate(self, kept: Callable[[Dim], int]) -> Cost:
        """The cost when `kept(dim)` units remain of each dim."""
        return Cost(
            params=self.params.value(kept),
            macs=self.macs.value(kept),
            activations=self.activations.value(kept),
            bytes=self.bytes.value(kept),
            memory=self.resident.value(kept) + max(poly.value(kept) for poly in self.live),
        )


# What hands memory on although its schema does not say so, and what copies unless it can view.
_SAME_MEMORY = {"dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"}
_MAYBE_COPIES = {"reshape", "flatten", "contiguous", "view_as", "reshape_as", "ravel"}
# After these, rows no longer lie one behind the other.
_SCATTERS = {
    "transpose", "permute", "t", "numpy_T", "mT", "movedim", "moveaxis", "swapaxes", "swapdims",
    "expand", "expand_as", "slice", "narrow", "select", "unbind", "split", "split_with_sizes",
    "chunk", "tensor_split", "unfold", "diagonal", "as_strided", "flip",
}  # fmt: skip


def copies(tape: Tape) -> set[int]:
    """Operators such as `reshape` that copy, because their operand does not lie in order."""
    return _traffic(tape)[1]


def allocates(tape: Tape) -> set[int]:
    """Operators that write to memory of their own."""
    return {birth for _, birth, _ in _traffic(tape)[0]}


def lifetimes(tape: Tape) -> list[tuple[Value, int, int]]:
    """(value, first, last): the memory that a pass allocates, and the operators it lives through.

    Inputs live from -1 to the end, what the model returns to the end, everything else from the
    operator that writes it to the last that reads it or a view of it.
    """
    return _traffic(tape)[0]


def _traffic(tape: Tape) -> tuple[list[tuple[Value, int, int]], set[int]]:
    copying: set[int] = set()
    end = len(tape.nodes)
    owner: dict[int, int] = {}  # id of a value -> index in `found`; -1: a parameter's memory
    scattered: set[int] = set()
    found: list[list[Any]] = []
    for value in tape.parameters.values():
        owner[id(value)] = -1

    def touch(value: Value, now: int) -> None:
        if id(value) not in owner:  # an input, or a constant made outside
            owner[id(value)] = len(found)
            found.append([value, -1, end])
        elif owner[id(value)] >= 0:
            entry = found[owner[id(value)]]
            entry[2] = max(entry[2], now)

    for now, node in enumerate(tape.nodes):
        read = node.reads
        for value in read:
            touch(value, now)
        name = node.operator
        source = read[0] if read else None
        moves = name in _MAYBE_COPIES and source is not None and id(source) in scattered
        if moves:
            copying.add(now)
        shares = (node.op.is_view and not moves) or (
            name in _SAME_MEMORY and not (len(node.args) > 2 and node.args[2])
        )
        for value in node.outputs:
            if id(value) in owner:
                touch(value, now)
            elif shares and source is not None:
                owner[id(value)] = owner[id(source)]
                if name in _SCATTERS or id(source) in scattered:
                    scattered.add(id(value))
            else:
                owner[id(value)] = len(found)
                found.append([value, now, now])
    for value in tape.outputs:
        if owner.get(id(value), -1) >= 0:
            found[owner[id(value)]][2] = end
    return [(value, first, last) for value, first, last in found], copying


def _add(total: dict[tuple[Dim, ...], int], coefficient: int, axes: list[Axis]) -> None:
    poly = Poly.constant(coefficient)
    for axis in axes:
        poly = poly * size_of(axis)
    for monomial, c in poly.terms:
        total[monomial] = total.get(monomial, 0) + c


Axes = Callable[[Value], list[Axis]]


def node_macs(node: Node, axes: Axes) -> list[tuple[int, list[Axis]]]:
    """The multiply-adds of one operator as a sum of (coefficient, axes to multiply)."""
    name = node.operator
    count = _COUNTS.get(name)
    return count(node, axes) if count is not None else []


def _linear(node: Node, axes: Axes) -> Any:
    x, weight = node.args[0], node.args[1]
    return [(1, [*axes(x)[:-1], *axes(weight)])]


def _matmul(node: Node, axes: Axes) -> Any:
    added = node.name.startswith(("aten.addm", "aten.baddbmm"))  # the first argument is a bias
    a = node.args[1 if added else 0]
    return [(1, [*axes(node.outputs[0]), axes(a)[-1]])]


def _tensordot(node: Node, axes: Axes) -> Any:
    a, _, dims, _ = node.args
    return [(1, [*axes(node.outputs[0]), *(axes(a)[d] for d in dims)])]


def _convolution(node: Node, axes: Axes) -> Any:
    weight, out = node.args[1], node.outputs[0]
    n = len(weight.shape) - 2
    transposed = "transpose" in node.name or (len(node.args) > 6 and node.args[6] is True)
    space = axes(node.args[0])[-n:] if transposed else axes(out)[-n:]
    return [(1, [*axes(out)[: -n - 1], *space, *axes(weight)])]


def _attention(node: Node, axes: Axes) -> Any:
    query, key, value = node.args[:3]
    scores = [*axes(node.outputs[0])[:-1], axes(key)[-2]]
    return [(1, [*scores, axes(query)[-1]]), (1, [*scores, axes(value)[-1]])]


def _recurrent(node: Node, axes: Axes) -> Any:
    x = axes(node.args[0])
    weights = next(a for a in node.args[1:] if isinstance(a, list) and a and len(a[0].shape) == 2)
    return [(1, [*x[:-1], *axes(w)]) for w in weights if len(w.shape) == 2]


def _cell(node: Node, axes: Axes) -> Any:
    x = axes(node.args[0])
    return [(1, [*x[:-1], *axes(w)]) for w in node.args[2:4]]


def _einsum(node: Node, axes: Axes) -> Any:
    equation = node.args[0].replace(" ", "").partition("->")[0]
    letters: dict[str, Axis] = {}
    extra: list[Axis] = []
    terms = equation.split(",")
    for term, value in zip(terms, node.args[1], strict=True):
        own = axes(value)
        before, dots, after = term.partition("...")
        if dots:
            middle = own[len(before) : len(own) - len(after)]
            extra = middle if prod(a.size for a in middle) > prod(a.size for a in extra) else extra
        pairs = [*zip(before, own, strict=False), *zip(after[::-1], own[::-1], strict=False)]
        for letter, axis in pairs:
            if letter not in letters or letters[letter].size == 1:
                letters[letter] = axis
    # Two by two from the left, as torch does it; a step that sums over nothing only multiplies.
    output = _einsum_output(node)
    steps: list[tuple[int, list[Axis]]] = []
    held = set(terms[0]) - {"."}
    for i, term in enumerate(terms[1:], 1):
        involved = held | set(term) - {"."}
        later = set(output).union(*terms[i + 1 :])
        held = involved & later
        if held != involved:
            steps.append((1, [*(letters[c] for c in letters if c in involved), *extra]))
    return steps


def _einsum_output(node: Node) -> str:
    inputs, arrow, output = node.args[0].replace(" ", "").partition("->")
    return str(output) if arrow else "".join(c for c in inputs if inputs.count(c) == 1)


def _grouped(node: Node, axes: Axes) -> Any:
    x, weight = node.args[0], node.args[1]
    return [(1, [*axes(x), axes(weight)[-1]])]


def _bilinear(node: Node, axes: Axes) -> Any:
    return [(1, [*axes(node.outputs[0])[:-1], *axes(node.args[2])])]


_COUNTS: dict[str, Callable[[Node, Axes], Any]] = {
    "linear": _linear,
    **dict.fromkeys(
        ("matmul", "bmm", "mm", "mv", "dot", "vdot", "inner", "addmm", "addmv", "baddbmm",
         "_sparse_mm"), _matmul,
    ),
    "tensordot": _tensordot,
    **dict.fromkeys(
        ("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
         "convolution", "_convolution", "deform_conv2d"), _convolution,
    ),
    "scaled_dot_product_attention": _attention,
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), _recurrent),
    **dict.fromkeys(("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"), _cell),
    "einsum": _einsum,
    "_grouped_mm": _grouped,
    "bilinear": _bilinear,
}  # fmt: skip

CONTRACTIONS = frozenset(_COUNTS)
"""Names of the operators that multiply and add."""
