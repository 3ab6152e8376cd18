"""Walk the tapes with the rules: the axes of every tensor, and what the code needs to hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from sentei.graph import rules
from sentei.graph.axis import Axis, Dim, Fixed, Product, dims, pin, resolve
from sentei.graph.rules import Facts, Rule, Traced, is_pointwise, pointwise, recording
from sentei.graph.rules.base import _where, same
from sentei.graph.tape import AttributeKey, Node, Scalar, Tape, Value, flatten, undisturbed
from sentei.graph.ties import Solution, solve

__all__ = ["UNUSED", "Analysis", "analyze_tapes"]

UNUSED = "not used in the captured pass"
"""Why a parameter is pinned that no operator read."""


@dataclass
class Analysis:
    """Everything known about a model's axes.

    parameters: name -> axes of parameters, buffers and tensor attributes.
    passes: (in train mode?, the tape that says what it runs) of every captured pass.
    """

    tapes: list[Tape]
    parameters: dict[str, list[Axis]]
    values: MutableMapping[int, list[Axis]]
    facts: Facts
    attributes: dict[AttributeKey, int]
    solution: Solution = field(default_factory=lambda: Solution({}, []))

    def axes(self, value: Value) -> list[Axis]:
        """The axes of a value on any of the tapes."""
        return self.values.get(id(value)) or [Fixed(n) for n in value.shape]

    def rule(self, op: Any) -> Rule | None:
        """The rule for an operator, or for all of its overloads."""
        if id(op) not in self._rules:
            packet = getattr(op, "overloadpacket", op)
            self._rules[id(op)] = rules.RULES.get(op) or rules.RULES.get(packet)
        return self._rules[id(op)]

    def free_dims(self) -> list[Dim]:
        """Unpinned dims of floating-point parameters, in the order of the parameters."""
        found: dict[Dim, None] = {}
        for name, axes in self.parameters.items():
            if self.origins[name] != "buffer":
                for axis in axes:
                    found.update(dict.fromkeys(dims(axis)))
        return [dim for dim in found if dim.pinned is None]

    origins: dict[str, str] = field(default_factory=dict)
    passes: list[tuple[bool, Tape]] = field(default_factory=list)
    folds: list[Any] = field(default_factory=list)
    sizes: dict[AttributeKey, Axis] = field(default_factory=dict)
    _rules: dict[int, Rule | None] = field(default_factory=dict)
    averaged: set[Dim] = field(default_factory=set)

    def resolve(self) -> None:
        """Work out ties, attributes and folds anew; to be called after anything was pinned."""
        from sentei.graph.fold import folds

        relevant = {d for axes in self.parameters.values() for a in axes for d in dims(a)}
        pinned = True
        while pinned:
            self.solution = solve(self.facts, self.axes, self.attributes, relevant, self.sizes)
            self.folds, pinned = folds(self)
            pinned = (self.differentiates and self._pin_normalised()) or pinned

    @property
    def differentiates(self) -> bool:
        """Does the code take gradients of what it computes?"""
        return any(tape.differentiates for tape in self.tapes)

    def _pin_normalised(self) -> bool:
        """With gradients the reference is the original whose parameters are silenced, so that no
        statistic could be taken over the kept units only."""
        found = [dim for dim in self.free_dims() if "normalised" in dim.facts]
        for dim in found:
            dim.pinned = "a gradient is taken of a statistic over it"
        return bool(found)

    def compensation(self, kept: Callable[[Dim], int]) -> dict[str, list[tuple[int, Tensor]]]:
        """Factors for parameters that keep the function exact where the code divides by a width."""
        from sentei.graph.fold import factors

        return factors(self, kept)


@undisturbed()
def analyze_tapes(tapes: Iterable[Tape]) -> Analysis:
    """Apply the rules to every operator of every tape; parameters are shared between tapes."""
    given, tapes = list(tapes), []
    passes: list[tuple[bool, Tape]] = []
    for tape in given:
        # A training pass that runs the same operators on the same tensors has nothing to add.
        same_as = next((t for t in tapes if _alike(t, tape)), tape)
        if same_as is tape:
            tapes.append(tape)
        passes.append((tape.training, same_as))
    analysis = Analysis(tapes, {}, {}, Facts(), {}, passes=passes)
    for tape in tapes:
        analysis.attributes.update(tape.attributes)
        analysis.facts.equal.extend(tape.comparisons)
        for name, value in tape.parameters.items():
            if name not in analysis.parameters:
                analysis.parameters[name] = [Dim(n) if n > 1 else Fixed(n) for n in value.shape]
                analysis.origins[name] = value.origin
            analysis.values[id(value)] = analysis.parameters[name]
        for key, (name, dim) in tape.sizes.items():
            if name in analysis.parameters:
                analysis.sizes[key] = analysis.parameters[name][dim]
    operators = {id(node.op): node.op for tape in tapes for node in tape.nodes}
    if any("torchvision" in str(op) for op in operators.values()):
        from sentei.graph.rules import vision

        vision.register()
    used = {id(value) for tape in tapes for node in tape.nodes for value in node.reads}
    for name, axes in analysis.parameters.items():
        if not any(id(tape.parameters.get(name)) in used for tape in tapes):
            for axis in axes:
                pin(axis, UNUSED)
    with recording(analysis.facts) as current:
        for tape in tapes:
            analysis.facts.training = tape.training
            for node in tape.nodes:
                current[-1] = node
                _apply(analysis, node)
            for value in tape.outputs:
                for axis in analysis.axes(value):
                    pin(axis, "model output")
        _pin_numbered(analysis, used)
    _pin_unread(analysis)
    _pin_repeated(analysis)
    analysis.resolve()
    return analysis


def _alike(a: Tape, b: Tape) -> bool:
    """Do two passes run the same operators on the same tensors, flags such as `training` aside?"""

    def same_leaf(x: Any, y: Any) -> bool:
        kind = type(x)
        if kind is Value:
            return type(y) is Value and x.id == y.id and x.shape == y.shape
        if kind in (list, tuple):
            return len(x) == len(y) and all(map(same_leaf, x, y))
        return kind is bool or x is y or not isinstance(x, (int, float)) or bool(x == y)

    if not (a.abstract and b.abstract):
        return False
    left, right = a.substance, b.substance
    return (
        len(left) == len(right)
        and [v.id for v in a.outputs] == [v.id for v in b.outputs]
        and all(
            m.op is n.op
            and same_leaf(m.args, n.args)
            and m.kwargs.keys() == n.kwargs.keys()
            and all(same_leaf(x, n.kwargs[k]) for k, x in m.kwargs.items())
            and same_leaf(m.outputs, n.outputs)
            for m, n in zip(left, right, strict=True)
        )
    )


def _apply(analysis: Analysis, node: Node) -> None:
    if not node.outputs:
        return

    values = analysis.values

    def traced(tree: Any) -> Any:
        kind = type(tree)
        if kind is Value:
            axes = values.get(id(tree))
            if axes is None:
                why = "model input" if tree.origin == "input" else "constant made outside the model"
                axes = values[id(tree)] = [Fixed(n, why) for n in tree.shape]
            return Traced(tree, axes)
        if kind is tuple or kind is list:
            return [traced(x) for x in tree]
        return tree

    def number(x: Any) -> Any:
        # A tensor that holds one number computed from widths acts like that number.
        if type(x) is Value and x.expr is not None and x.number is not None:
            return Scalar.make(x.number, x.expr)
        return traced(x)

    args = tuple([number(a) for a in node.args])
    # Where the answer is written to (`out=`) is what comes out.
    kwargs = {k: traced(v) for k, v in node.kwargs.items() if k != "out"} if node.kwargs else {}
    function = analysis.rule(node.op)
    try:
        if function is not None:
            result = function(*args, **kwargs)
        elif is_pointwise(node.op):
            result = pointwise(node, args, kwargs)
        else:
            result = _unknown(analysis, node, args, kwargs)
        outcomes = _outcomes(node, result)
        if outcomes is None:
            outcomes = _opaque(node, args, kwargs)
    except (TypeError, IndexError, ValueError, AttributeError, AssertionError) as error:
        # A call this rule was not written for: be safe, and say so.
        analysis.facts.unknown[f"{node.name} ({error})"] = 1
        outcomes = _opaque(node, args, kwargs)
    _carry_number(node)
    for value, axes in zip(node.outputs, outcomes, strict=False):
        known = analysis.values.get(id(value))
        if known is None:
            analysis.values[id(value)] = axes
        elif known is not axes:
            for old, new in zip(known, axes, strict=True):
                same(old, new)


def _carry_number(node: Node) -> None:
    """A single number held by a tensor keeps knowing which widths it was computed from."""
    out = node.outputs[0]
    if out.number is None or out.expr is not None:
        return
    name = node.operator.rstrip("_")
    parts = [
        v.expr if isinstance(v, Value) else getattr(v, "expr", v)
        for v in node.args
        if isinstance(v, (Value, int, float)) and type(v) is not bool
    ]
    if not any(isinstance(p, tuple) for p in parts):
        return
    if name in _SAME_NUMBER:
        out.expr = parts[0]
    elif name == "full":
        out.expr = parts[-1]
    elif name == "sqrt":
        out.expr = ("sqrt", parts[0])
    elif name == "rsqrt":
        out.expr = ("/", 1.0, ("sqrt", parts[0]))
    elif name in _NUMERIC and len(parts) >= 2 and None not in parts[:2]:
        out.expr = (_NUMERIC[name], parts[0], parts[1])


_SAME_NUMBER = {
    "to", "_to_copy", "clone", "detach", "alias", "lift_fresh", "contiguous", "type_as",
    "view", "reshape", "unsqueeze", "squeeze", "double", "float",
}  # fmt: skip
_NUMERIC = {"mul": "*", "div": "/", "pow": "**"}


def _outcomes(node: Node, result: Any) -> list[list[Axis]] | None:
    """The rule's answer, one list of axes an output; None if it does not fit the shapes."""
    if result is None:
        return None
    per_output = list(result) if isinstance(result, tuple) else [result] * len(node.outputs)
    out: list[list[Axis]] = []
    for i, value in enumerate(node.outputs):
        axes = per_output[i] if i < len(per_output) else None
        if axes is None:
            axes = [None] * len(value.shape)
        if len(axes) != len(value.shape):
            if i == 0:
                raise ValueError(f"rule gives {len(axes)} axes for a result of shape {value.shape}")
            axes = [None] * len(value.shape)
        filled: list[Axis] = []
        for axis, n in zip(axes, value.shape, strict=True):
            if axis is not None and axis.size == n:
                filled.append(axis)
            elif axis is None or isinstance(axis, Fixed):
                filled.append(Fixed(n, f"computed by {node.operator}"))
            else:
                raise ValueError(f"rule gives an axis of size {axis.size} where the result has {n}")
        out.append(filled)
    return out


def _opaque(node: Node, args: Any, kwargs: Any) -> list[list[Axis]]:
    """Pin what went in; what comes out is data."""
    why = f"{_where()} does not treat it unit by unit"
    for tensor in flatten((args, kwargs)):
        if isinstance(tensor, Traced):
            for axis in tensor.axes:
                pin(axis, why)
    return [[Fixed(n, why) for n in v.shape] for v in node.outputs]


def _unknown(analysis: Analysis, node: Node, args: Any, kwargs: Any) -> Any:
    tensors = [t for t in flatten((args, kwargs)) if isinstance(t, Traced)]
    if not any(not isinstance(resolve(a), Fixed) for t in tensors for a in t.axes):
        return [None] * len(node.outputs[0].shape) if len(node.outputs) == 1 else tuple(
            [None] * len(v.shape) for v in node.outputs
        )  # fmt: skip
    analysis.facts.unknown[node.name] = analysis.facts.unknown.get(node.name, 0) + 1
    why = f"no rule for {node.name}"
    for tensor in tensors:
        for axis in tensor.axes:
            pin(axis, why)
    return None


def _pin_numbered(analysis: Analysis, used: set[int]) -> None:
    """Pin what indices number, where somebody reads those indices."""
    returned = {id(value) for tape in analysis.tapes for value in tape.outputs}
    for value, axis, why in analysis.facts.numbered:
        if id(value) in used or id(value) in returned:
            pin(axis, why)


def _pin_unread(analysis: Analysis) -> None:
    """Pin the parts of parameters that were cut off and not read: a table of positions is as long
    as the longest sequence, and the example may be shorter."""
    from sentei.graph.fold import MOVES

    pieces = {
        dim
        for axes in analysis.parameters.values()
        for axis in axes
        for part in getattr(resolve(axis), "parts", ())
        for dim in dims(part)
        if dim.pinned is None
    }
    if not pieces:
        return
    for tape in analysis.tapes:
        for node in tape.nodes:
            if node.operator not in MOVES:
                for value in node.reads:
                    for axis in analysis.axes(value):
                        pieces.difference_update(dims(axis))
                if not pieces:
                    return
    for dim in pieces:
        pin(dim, "a part that the captured pass does not read")


def _pin_repeated(analysis: Analysis) -> None:
    """A dim that occurs twice in one product removes a cross of positions: not a slice."""
    for axes in analysis.parameters.values():
        for axis in axes:
            _find_repeats(resolve(axis))


def _find_repeats(axis: Axis) -> None:
    if isinstance(axis, (Dim, Fixed)):
        return
    if isinstance(axis, Product):
        seen: set[Dim] = set()
        for part in axis.parts:
            inside = set(dims(part))
            for dim in inside & seen:
                dim.pinned = dim.pinned or "occurs twice in one dimension"
            seen |= inside
    for part in axis.parts:
        if not isinstance(part, Dim):
            _find_repeats(part)
