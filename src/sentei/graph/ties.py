"""Which widths may change together: the arithmetic that the model's own Python does on them.

Each integer argument that must follow a width is an equation between an expression of the code
(attributes, sizes of tensors, + - * //) and the size of an axis, which is a polynomial in the
widths of the dims. Equations of the form `attribute == size` *define* what the attribute becomes;
all others either hold for every choice of widths, or restrict it: a **tie**. Ties are met by
letting the dims in them keep equal shares, and products of several widths by freezing all but one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import gcd
from typing import Any

from sentei.graph.axis import Axis, Concat, Dim, Fixed, resolve
from sentei.graph.rules.base import Facts, Need
from sentei.graph.tape import AttributeKey

__all__ = ["Poly", "Solution", "size_of", "solve"]


Terms = tuple[tuple[tuple[Dim, ...], int], ...]


class Poly:
    """A polynomial in the widths of dims: monomial (dims by serial, sorted) -> coefficient."""

    __slots__ = ("terms",)

    def __init__(self, terms: Terms) -> None:
        self.terms = terms

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Poly) and self.terms == other.terms

    def __hash__(self) -> int:
        return hash(self.terms)

    @staticmethod
    def of(terms: dict[tuple[Dim, ...], int]) -> Poly:
        kept = [(m, c) for m, c in terms.items() if c]
        if len(kept) < 2:
            return Poly(tuple(kept))
        return Poly(tuple(sorted(kept, key=lambda t: (len(t[0]), [d.serial for d in t[0]]))))

    @staticmethod
    def constant(value: int) -> Poly:
        return Poly((((), int(value)),) if value else ())

    @staticmethod
    def variable(dim: Dim) -> Poly:
        return Poly.constant(dim.size) if dim.pinned else Poly((((dim,), 1),))

    @staticmethod
    def sum(polys: Iterable[Poly]) -> Poly:
        terms: dict[tuple[Dim, ...], int] = {}
        for poly in polys:
            for monomial, c in poly.terms:
                terms[monomial] = terms.get(monomial, 0) + c
        return Poly.of(terms)

    def __add__(self, other: Poly) -> Poly:
        return Poly.sum((self, other))

    def __sub__(self, other: Poly) -> Poly:
        return self + Poly(tuple([(m, -c) for m, c in other.terms]))

    def __mul__(self, other: Poly) -> Poly:
        if self.terms == _ONE:
            return other
        if other.terms == _ONE:
            return self
        terms: dict[tuple[Dim, ...], int] = {}
        for m, c in self.terms:
            for n, d in other.terms:
                key = tuple(sorted(m + n, key=lambda dim: dim.serial))
                terms[key] = terms.get(key, 0) + c * d
        return Poly.of(terms)

    def over(self, other: Poly) -> Poly | None:
        """Exact quotient, or None."""
        if other.terms == _ONE:
            return self
        if len(other.terms) == 1:
            monomial, c = other.terms[0]
            terms: dict[tuple[Dim, ...], int] = {}
            for m, d in self.terms:
                rest = list(m)
                for dim in monomial:
                    if dim not in rest:
                        return None
                    rest.remove(dim)
                if d % c:
                    return None
                terms[tuple(rest)] = d // c
            return Poly.of(terms)
        if other.terms and self.terms and self.terms[0][1] % other.terms[0][1] == 0:
            k = Poly.constant(self.terms[0][1] // other.terms[0][1])
            if other * k == self:
                return k
        return None

    @property
    def dims(self) -> list[Dim]:
        return list({dim: None for monomial, _ in self.terms for dim in monomial})

    @property
    def is_constant(self) -> bool:
        return not self.dims

    def value(self, kept: Callable[[Dim], int]) -> int:
        """The polynomial at the given widths."""
        total = 0
        for monomial, c in self.terms:
            for dim in monomial:
                c *= dim.size if dim.pinned else kept(dim)
            total += c
        return total

    def __str__(self) -> str:
        return " + ".join(
            "·".join([*([str(c)] if c != 1 or not m else []), *(f"w{d.serial}" for d in m)])
            for m, c in self.terms
        )


_ONE = (((), 1),)


def size_of(axis: Axis) -> Poly:
    """The size of an axis as a polynomial; pinned dims count as constants."""
    axis = resolve(axis)
    if isinstance(axis, Dim):
        return Poly.variable(axis)
    if isinstance(axis, Fixed):
        return Poly.constant(axis.size)
    if isinstance(axis, Concat):
        return Poly.sum([size_of(part) for part in axis.parts])
    total = Poly(_ONE)
    for part in axis.parts:
        total = total * size_of(part)
    return total


@dataclass(slots=True)
class Quotient:
    """numerator / denominator, of polynomials."""

    over: Poly
    under: Poly = field(default_factory=lambda: Poly(_ONE))

    def simple(self) -> Quotient:
        if self.under.terms == _ONE:
            return self
        exact = self.over.over(self.under)
        return Quotient(exact) if exact is not None else self


# The finest part of a whole that a number of the code may be: 0.375 is 3/8, 0.1 is no such number.
_FINEST = 256


class _Stuck(Exception):
    """An expression that polynomials cannot follow."""


@dataclass
class Solution:
    """What the equations say.

    attributes: what each attribute becomes, as a function of the widths.
    classes: sets of dims that must keep equal shares; the share is a multiple of 1/`gcd(sizes)`.
    """

    attributes: dict[AttributeKey, Quotient]
    classes: list[tuple[Dim, ...]]


def solve(
    facts: Facts,
    axes: Callable[[Any], list[Axis]],
    attributes: dict[AttributeKey, int],
    relevant: set[Dim],
    sizes: Mapping[AttributeKey, Axis] | None = None,
) -> Solution:
    """Solve the needs and ties of `facts`; dims that cannot be made consistent are pinned.

    Args:
        axes: the axes of a traced value.
        attributes: key -> integer as captured.
        relevant: the dims that parameters carry; equations about others are no restriction, but for
            those that follow one of these (scratch tensors of a parameter's width).
        sizes: attributes that are the size of an axis by definition, such as `out_features`.
    """
    relevant = set(relevant)
    while True:
        before = sum(dim.pinned is not None for dim in relevant)
        solution = _Solver(facts, axes, attributes, relevant, sizes or {}).run()
        followers = {d for tied in solution.classes for d in tied} - relevant
        if not followers and sum(dim.pinned is not None for dim in relevant) == before:
            return solution
        relevant |= followers


class _Solver:
    def __init__(
        self,
        facts: Facts,
        axes: Callable[[Any], list[Axis]],
        attributes: Any,
        relevant: set[Dim],
        sizes: Mapping[AttributeKey, Axis],
    ) -> None:
        self.facts, self.axes, self.attributes, self.relevant = facts, axes, attributes, relevant
        self.sizes = sizes
        self.known: dict[AttributeKey, Quotient] = {}
        self.parent: dict[Dim, Dim] = {}

    def run(self) -> Solution:
        simple: list[Need] = []
        compound: list[Need] = []
        for need in self.facts.needs:
            expr = getattr(need.size, "expr", need.size)
            if not isinstance(expr, tuple):
                self._literal(need)  # at once: the fewer widths are free, the less is to be tied
            elif expr[0] == "attribute":
                simple.append(need)
            elif not self._evident(expr, need.axis):
                compound.append(need)
        for expr in self._asked(compound):
            for key in _attributes(expr):
                if key in self.sizes:
                    self.known[key] = Quotient(size_of(self.sizes[key]))
        for need in simple:
            self._define(need.size.expr[1], Quotient(size_of(need.axis)), need)
        for need in compound:
            self._equation(need)
        for left, right in self.facts.equal:
            self._equal(left, right)
        for a, b, why in self.facts.ties:
            self._tie(size_of(a), size_of(b), why)
        groups: dict[Dim, list[Dim]] = {}
        for dim in self.parent:
            groups.setdefault(self._find(dim), []).append(dim)
        classes = [tuple(g) for g in groups.values() if len(g) > 1]
        for members in classes:
            if gcd(*(d.size for d in members)) == 1:
                self._freeze(members, "its width is tied to another of coprime size")
        return Solution(self.known, classes)

    def _asked(self, needs: list[Need]) -> Iterator[Any]:
        """Expressions in which attributes may occur beside other numbers."""
        yield from (need.size.expr for need in needs)
        yield from (scale.expr for scale in self.facts.scales)
        yield from (side for pair in self.facts.equal for side in pair)

    def _literal(self, need: Need) -> None:
        if isinstance(need.axis, Fixed):
            return
        size = size_of(need.axis)
        if not size.is_constant:
            name = need.node.operator
            if any(d.pinned is None and d in self.relevant for d in size.dims):
                self.facts.literals.add(int(need.size))
            self._freeze(
                size.dims,
                f"{need.node.module or 'the model'} passes the number {int(need.size)} to {name}",
            )

    def _evident(self, expr: Any, axis: Axis) -> bool:
        """Is it a tensor's own size that has to follow the axis?"""
        return expr[0] == "size" and resolve(self.axes(expr[1])[expr[2]]) is resolve(axis)

    def _define(self, key: AttributeKey, value: Quotient, need: Need) -> None:
        known = self.known.setdefault(key, value)
        if known is not value:
            self._tie(
                known.over * value.under,
                value.over * known.under,
                f"the code reads it and another width from {key}",
            )

    def _equation(self, need: Need) -> None:
        size = size_of(need.axis)
        expr = need.size.expr
        if size.is_constant and self._constant(expr):
            return  # pictures cut into windows, and the like
        why = f"{need.node.module or 'the model'} computes one width from another"
        try:
            # A number in the code that is no width itself stays what it is: the 2 of `width // 2`.
            unknown = [k for k in _attributes(expr) if k not in self.known and not k.in_code]
            if any(d in self.relevant for d in size.dims):
                for key in unknown:
                    value = self._invert(expr, key, Quotient(size))
                    # Of several, one that is a width when the others stay: the 10 of 10 * 8 * 8.
                    whole = value is not None and value.simple().under.terms == _ONE
                    if value is not None and (whole or len(unknown) == 1):
                        self.known[key] = value.simple()
                        return
            result = self._evaluate(expr)
        except _Stuck:
            dims = [*size.dims, *self._dims_of(expr)]
            self._freeze(dims, why)
            return
        self._tie(result.over, size * result.under, why)

    def _equal(self, left: Any, right: Any) -> None:
        """The code compared two numbers and found them equal: an attribute follows the other."""
        if isinstance(right, int):
            self._compared(left, right)
            return
        for mine, other in ((left, right), (right, left)):
            if mine[0] != "attribute" or mine[1] in self.known:
                continue
            if other[0] == "attribute" and other[1] in self.known:
                self.known[mine[1]] = self.known[other[1]]
            elif other[0] == "size":
                size = size_of(self.axes(other[1])[other[2]])
                if not size.is_constant:
                    self.known[mine[1]] = Quotient(size)

    def _compared(self, expr: Any, number: int) -> None:
        """A width was found equal to a plain number: the branch is to stay the one that it is."""
        if expr[0] == "size":
            width = Quotient(size_of(self.axes(expr[1])[expr[2]]))
        elif expr[0] == "attribute" and expr[1] in self.known:
            width = self.known[expr[1]]
        else:
            return
        dims = {*width.over.dims, *width.under.dims}
        if any(d.pinned is None and d in self.relevant for d in dims):
            self.facts.literals.add(number)

    def _evaluate(self, expr: Any) -> Quotient:
        if not isinstance(expr, tuple):
            over, under = expr.as_integer_ratio()
            if under > _FINEST:
                raise _Stuck
            return Quotient(Poly.constant(over), Poly.constant(under))
        if expr[0] == "whole":
            return self._evaluate(expr[1])
        if expr[0] == "attribute":
            known = self.known.get(expr[1])
            return known or Quotient(Poly.constant(self.attributes[expr[1]]))
        if expr[0] == "size":
            axes = self.axes(expr[1])
            return Quotient(size_of(axes[expr[2]]))
        if expr[0] not in ("+", "-", "*", "/", "//", "%"):
            raise _Stuck
        a, b = self._evaluate(expr[1]), self._evaluate(expr[2])
        if expr[0] in "+-":
            left, right = a.over * b.under, b.over * a.under
            total = left + right if expr[0] == "+" else left - right
            return Quotient(total, a.under * b.under).simple()
        if expr[0] == "*":
            return Quotient(a.over * b.over, a.under * b.under).simple()
        result = Quotient(a.over * b.under, a.under * b.over).simple()
        if expr[0] == "/":
            return result
        if all(p.is_constant for p in (a.over, a.under, b.over, b.under)):
            x = a.over.value(_whole) // a.under.value(_whole)
            y = b.over.value(_whole) // b.under.value(_whole)
            return Quotient(Poly.constant(x // y if expr[0] == "//" else x % y))
        if expr[0] == "//":
            return result
        if result.under.terms == _ONE:
            return Quotient(Poly.constant(0))
        raise _Stuck

    def _invert(self, expr: Any, key: AttributeKey, target: Quotient) -> Quotient | None:
        """The value of `key` that makes `expr` equal `target`; None where that is not unique."""
        if not isinstance(expr, tuple):
            return None
        if expr[0] == "attribute":
            return target
        if expr[0] == "whole":
            return self._invert(expr[1], key, target)
        if expr[0] not in ("+", "-", "*", "/", "//"):
            return None
        left, right = key in _attributes(expr[1]), key in _attributes(expr[2])
        if left and right:
            return None
        other = self._evaluate(expr[2] if left else expr[1])
        if expr[0] == "+":
            rest = target.over * other.under - other.over * target.under
            new = Quotient(rest, target.under * other.under)
        elif expr[0] == "-":
            sign = Poly.constant(1 if left else -1)
            new = Quotient(
                target.over * other.under * sign + other.over * target.under,
                target.under * other.under,
            )
        elif expr[0] == "*":
            new = Quotient(target.over * other.under, target.under * other.over)
        elif left:
            new = Quotient(target.over * other.over, target.under * other.under)
        else:
            new = Quotient(other.over * target.under, other.under * target.over)
        return self._invert(expr[1] if left else expr[2], key, new.simple())

    def _constant(self, expr: Any) -> bool:
        """Does the number depend on no width that is free?"""
        if not isinstance(expr, tuple):
            return True
        if expr[0] == "attribute":
            known = self.known.get(expr[1])
            return known is None or (known.over.is_constant and known.under.is_constant)
        if expr[0] == "size":
            return size_of(self.axes(expr[1])[expr[2]]).is_constant
        if expr[0] == "width":
            return False
        return all(map(self._constant, expr[1:]))

    def _dims_of(self, expr: Any) -> list[Dim]:
        if not isinstance(expr, tuple) or expr[0] == "attribute":
            return []
        if expr[0] == "size":
            return size_of(self.axes(expr[1])[expr[2]]).dims
        return [dim for part in expr[1:] for dim in self._dims_of(part)]

    # -- ties -----------------------------------------------------------------------------------
    def _tie(self, a: Poly, b: Poly, why: str) -> None:
        if a.terms == b.terms:
            return
        difference = a - b
        if not difference.terms:
            return
        # Widths are never zero: heads * (a - b) == 0 leaves the number of heads free.
        for dim in set.intersection(*(set(monomial) for monomial, _ in difference.terms)):
            shared = difference.over(Poly.variable(dim))
            difference = shared if shared is not None else difference
        dims = difference.dims
        if not dims or not any(d in self.relevant for d in dims):
            return
        # All but the widest dim of each product keep their size.
        for monomial, _ in difference.terms:
            if len(monomial) > 1:
                widest = max(monomial, key=lambda d: d.size)
                self._freeze([d for d in monomial if d is not widest], why)
        difference = _substituted(difference)
        if any(not monomial for monomial, _ in difference.terms) or len(difference.terms) < 2:
            self._freeze(difference.dims, why)
            return
        if any(len(m) > 1 for m, _ in difference.terms):
            self._freeze(difference.dims, why)
            return
        first, *rest = difference.dims
        for dim in rest:
            self.parent[self._find(dim)] = self._find(first)

    def _find(self, dim: Dim) -> Dim:
        self.parent.setdefault(dim, dim)
        while self.parent[dim] is not dim:
            dim = self.parent[dim]
        return dim

    def _freeze(self, dims: Iterable[Dim], why: str) -> None:
        for dim in dims:
            if dim.pinned is None:
                dim.pinned = why


def _substituted(poly: Poly) -> Poly:
    total = Poly.constant(0)
    for monomial, c in poly.terms:
        term = Poly.constant(c)
        for dim in monomial:
            term = term * Poly.variable(dim)
        total = total + term
    return total


def _attributes(expr: Any) -> dict[AttributeKey, None]:
    """The attributes in an expression, in the order in which they stand there."""
    if not isinstance(expr, tuple) or expr[0] in ("size", "width"):
        return {}
    if expr[0] == "attribute":
        return {expr[1]: None}
    return {key: None for part in expr[1:] for key in _attributes(part)}


def _whole(dim: Dim) -> int:
    return dim.size
