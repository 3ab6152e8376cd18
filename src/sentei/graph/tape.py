"""A captured forward pass: values, operators, and integers that know their origin."""

from __future__ import annotations

import gc
import math
import operator
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from sentei.graph.literals import is_literal

__all__ = ["AttributeKey", "Node", "Scalar", "Symbol", "Tape", "Value", "flatten", "operator_name",
           "undisturbed"]  # fmt: skip


def operator_name(op: Any) -> str:
    """An ATen operator's name without namespace and overload.

    >>> operator_name(torch.ops.aten.add_.Tensor)
    'add_'
    """
    known = _names.get(id(op))  # its own hash is Python
    if known is None:
        known = _names[id(op)] = (op, str(op._schema.name.split("::")[-1]))
    return known[1]


_names: dict[int, tuple[Any, str]] = {}


@contextmanager
def undisturbed() -> Iterator[None]:
    """No garbage collection meanwhile: a pass makes objects by the ten thousand, all of them live,
    and looking through them time and again takes longer than the pass."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@dataclass(eq=False, slots=True)
class Value:
    """One tensor met during capture.

    origin: "parameter", "buffer", "attribute", "input", "constant" (a tensor from elsewhere) or
        "op"; `name` is the qualified name for the first three, the argument path for inputs.
    number: what a single-valued floating-point tensor made by the code itself holds.
    expr: how that was computed from widths, as in `Scalar.expr`.
    """

    id: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    origin: str
    name: str = ""
    number: float | None = None
    expr: Any = None

    def __repr__(self) -> str:
        return f"%{self.id}{list(self.shape)}" + (f"={self.name}" if self.name else "")


@dataclass(eq=False, slots=True)
class Node:
    """One executed ATen operator. Tensors in args, kwargs and outputs are `Value`s."""

    op: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: tuple[Value, ...]
    module: str = ""
    _reads: list[Value] | None = None

    @property
    def name(self) -> str:
        return str(self.op)

    @property
    def operator(self) -> str:
        """The operator's name without namespace and overload."""
        return operator_name(self.op)

    @property
    def reads(self) -> list[Value]:
        """The tensors the operator reads, in order, repeats included."""
        if self._reads is None:
            self._reads = [v for v in flatten((self.args, self.kwargs)) if type(v) is Value]
        return self._reads

    @property
    def counts_steps(self) -> bool:
        """Is this batch norm counting its training steps?"""
        return (
            len(self.outputs) == 1
            and not self.outputs[0].shape
            and (self.outputs[0].origin == "buffer" and not self.outputs[0].dtype.is_floating_point)
        )


@dataclass(eq=False)
class Tape:
    """One forward pass: operators in the order of execution, and the tensors that came out.

    transient: names of the buffers that a state dict does not hold.
    any_mode: the other mode, of training or not, would run the same operators on the same tensors.
    random: which operators run was drawn by lot, so that another pass may run others.
    differentiates: the code takes a gradient of what it computes.
    sizes: attributes of stock modules that are the size of a tensor by definition, with its name
        and dimension.
    """

    nodes: list[Node] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    parameters: dict[str, Value] = field(default_factory=dict)
    attributes: dict[AttributeKey, int] = field(default_factory=dict)
    training: bool = False
    abstract: bool = True
    any_mode: bool = False
    random: bool = False
    differentiates: bool = False
    comparisons: list[tuple[Any, Any]] = field(default_factory=list)
    transient: frozenset[str] = frozenset()
    sizes: dict[AttributeKey, tuple[str, int]] = field(default_factory=dict)

    @property
    def substance(self) -> list[Node]:
        """The operators without those that count training steps."""
        return [node for node in self.nodes if not node.counts_steps]


class AttributeKey(NamedTuple):
    """Where an integer lives: a module, and the path of attributes and indices from there; or a
    place in the module's code, see `sentei.graph.literals`."""

    module: str
    path: tuple[Any, ...]

    @property
    def in_code(self) -> bool:
        """Is it a number that stands in a method?"""
        return is_literal(self.path)

    def __str__(self) -> str:
        text = self.module
        if self.in_code:
            method, number, nth = self.path
            where = f"the number {number} in {text}{'.' if text else ''}{method}"
            return f"{where} (use {nth + 1})" if nth else where
        for step in self.path:
            text += (f".{step}" if text else step) if isinstance(step, str) else f"[{step!r}]"
        return text


# Pairs of an expression and another, or a plain number, that the code compared and found equal.
comparisons: list[tuple[Any, Any]] = []


class Symbol(int):
    """An `int` that remembers where it came from and carries arithmetic along.

    `expr` is one of
        ("attribute", AttributeKey), ("size", Value, dimension), or
        (operator, left, right) with operator in + - * // % and operands expr or number, or
        ("whole", operand): what `int` makes of an operand that is a whole number.

    >>> six = Symbol.make(6, ("size", "x", 1))
    >>> (six // 2).expr
    ('//', ('size', 'x', 1), 2)
    """

    expr: Any

    @staticmethod
    def make(value: int, expr: Any) -> Symbol:
        symbol = int.__new__(Symbol, value)
        symbol.expr = expr
        return symbol

    def _apply(self, name: str, value: Any, left: Any, right: Any) -> Any:
        if type(value) is int:
            return Symbol.make(value, (name, _expr(left), _expr(right)))
        other = right if left is self else left
        if value is NotImplemented and type(other) is float and name in _ON_FLOATS:
            mine = float(self)
            both = (mine, other) if left is self else (other, mine)
            return Scalar.make(_ON_FLOATS[name](*both), (name, _expr(left), _expr(right)))
        return value

    def __add__(self, other: Any) -> Any:
        return self._apply("+", int.__add__(self, other), self, other)

    def __radd__(self, other: Any) -> Any:
        return self._apply("+", int.__radd__(self, other), other, self)

    def __sub__(self, other: Any) -> Any:
        return self._apply("-", int.__sub__(self, other), self, other)

    def __rsub__(self, other: Any) -> Any:
        return self._apply("-", int.__rsub__(self, other), other, self)

    def __mul__(self, other: Any) -> Any:
        return self._apply("*", int.__mul__(self, other), self, other)

    def __rmul__(self, other: Any) -> Any:
        return self._apply("*", int.__rmul__(self, other), other, self)

    def __floordiv__(self, other: Any) -> Any:
        return self._apply("//", int.__floordiv__(self, other), self, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return self._apply("//", int.__rfloordiv__(self, other), other, self)

    def __mod__(self, other: Any) -> Any:
        return self._apply("%", int.__mod__(self, other), self, other)

    def __rmod__(self, other: Any) -> Any:
        return self._apply("%", int.__rmod__(self, other), other, self)

    def __neg__(self) -> Any:
        return self._apply("-", int.__neg__(self), 0, self)

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __truediv__(self, other: Any) -> Any:
        value = int.__truediv__(self, other)
        return self._scalar("/", value, self, other)

    def __rtruediv__(self, other: Any) -> Any:
        value = int.__rtruediv__(self, other)
        return self._scalar("/", value, other, self)

    def __pow__(self, other: Any, modulo: Any = None) -> Any:
        value = int.__pow__(self, other, modulo) if isinstance(other, int) else float(self) ** other
        if type(value) is int and modulo is None:
            return self._apply("**", value, self, other)
        return self._scalar("**", value, self, other)

    def _scalar(self, name: str, value: Any, left: Any, right: Any) -> Any:
        if not isinstance(value, float):
            return value
        return Scalar.make(value, (name, _expr(left), _expr(right)))

    def __abs__(self) -> Any:
        return self if self >= 0 else -self

    def __round__(self, digits: Any = None) -> Any:
        return self if digits is None else int.__round__(self, digits)

    def __trunc__(self) -> Symbol:
        return self

    def __floor__(self) -> Symbol:
        return self

    def __ceil__(self) -> Symbol:
        return self

    def __int__(self) -> int:
        return int.__int__(self)

    def __index__(self) -> int:
        return int.__index__(self)

    def __hash__(self) -> int:
        return int.__hash__(self)

    def __eq__(self, other: object) -> bool:
        equal = int.__eq__(self, other)
        if equal is True and type(other) in (Symbol, int):
            comparisons.append((self.expr, _expr(other)))
        return equal

    def __ne__(self, other: object) -> bool:
        unequal = int.__ne__(self, other)
        if unequal is False and type(other) in (Symbol, int):
            comparisons.append((self.expr, _expr(other)))
        return unequal

    def __reduce__(self) -> Any:  # copies and pickles are plain ints
        return int, (int.__index__(self),)

    def __deepcopy__(self, memo: Any) -> int:
        return int.__index__(self)


class Scalar(float):
    """A `float` computed from symbols: quotients, powers, square roots.

    `expr` is (operator, left, right) with operator in + - * / **, or ("sqrt", operand), or what the
    symbol was that `float` was given.
    """

    expr: Any

    @staticmethod
    def make(value: float, expr: Any) -> Scalar:
        scalar = float.__new__(Scalar, value)
        scalar.expr = expr
        return scalar

    def _apply(self, name: str, value: Any, left: Any, right: Any) -> Any:
        if not isinstance(value, float):
            return value
        return Scalar.make(value, (name, _expr(left), _expr(right)))

    def __mul__(self, other: Any) -> Any:
        return self._apply("*", float.__mul__(self, other), self, other)

    def __rmul__(self, other: Any) -> Any:
        return self._apply("*", float.__rmul__(self, other), other, self)

    def __truediv__(self, other: Any) -> Any:
        return self._apply("/", float.__truediv__(self, other), self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return self._apply("/", float.__rtruediv__(self, other), other, self)

    def __pow__(self, other: Any, modulo: Any = None) -> Any:
        return self._apply("**", float.__pow__(self, other), self, other)

    def __neg__(self) -> Any:
        return self._apply("*", float.__neg__(self), -1.0, self)

    def __add__(self, other: Any) -> Any:
        return self._apply("+", float.__add__(self, other), self, other)

    def __radd__(self, other: Any) -> Any:
        return self._apply("+", float.__radd__(self, other), other, self)

    def __sub__(self, other: Any) -> Any:
        return self._apply("-", float.__sub__(self, other), self, other)

    def __rsub__(self, other: Any) -> Any:
        return self._apply("-", float.__rsub__(self, other), other, self)

    def __abs__(self) -> Any:
        return self if self >= 0 else -self

    def _whole(self, value: int) -> Any:
        """A whole number near this one: still known where it is this one, or a quotient's floor."""
        if value == float(self):
            quotient = self.expr[0] == "/"
            return Symbol.make(value, ("//", *self.expr[1:]) if quotient else ("whole", self.expr))
        if self.expr[0] == "/" and value == math.floor(float(self)):
            return Symbol.make(value, ("//", *self.expr[1:]))
        return value

    def __floor__(self) -> Any:
        return self._whole(math.floor(float(self)))

    def __trunc__(self) -> Any:
        return self._whole(math.trunc(float(self)))

    def __ceil__(self) -> Any:
        return self._whole(math.ceil(float(self)))

    def __round__(self, digits: Any = None) -> Any:
        return self._whole(round(float(self))) if digits is None else float.__round__(self, digits)

    def __hash__(self) -> int:
        return float.__hash__(self)

    def __eq__(self, other: object) -> bool:
        return float.__eq__(self, other)

    def __reduce__(self) -> Any:
        return float, (float.__add__(self, 0.0),)

    def __deepcopy__(self, memo: Any) -> float:
        return float.__add__(self, 0.0)


_ON_FLOATS = {"+": operator.add, "-": operator.sub, "*": operator.mul}


def _expr(number: Any) -> Any:
    return getattr(number, "expr", number)


def flatten(tree: Any) -> list[Any]:
    """The leaves of nested tuples, lists, dicts and slices, in order."""
    leaves: list[Any] = []
    _flatten(tree, leaves)
    return leaves


def _flatten(tree: Any, leaves: list[Any]) -> None:
    if isinstance(tree, (tuple, list)):
        for item in tree:
            if type(item) in _PLAIN:
                leaves.append(item)
            else:
                _flatten(item, leaves)
    elif isinstance(tree, dict):
        _flatten(tuple(tree.values()), leaves)
    elif isinstance(tree, slice):
        leaves += (tree.start, tree.stop, tree.step)
    else:
        leaves.append(tree)


_PLAIN = frozenset({Value, int, float, bool, str, type(None)})
