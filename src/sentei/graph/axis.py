"""The algebra of tensor axes: which positions of which dimensions are the same thing?

Every dimension of every tensor is described by an **axis**, a small tree:

- `Dim`: a symbolic dimension of known size. Its positions are *units*.
- `Product((a, b))`: `a` outside, `b` inside, row-major: what `flatten` makes of two dimensions.
- `Concat((a, b))`: `a` first, then `b`: what `cat` makes of two dimensions.
- `Fixed(n, why)`: `n` positions that nobody may remove (data dimensions, constants).

`Dim`s live in a union-find. Finding out that two dimensions are the same binds one to the other;
finding out that a `Dim` really is a product or a concatenation binds it to that tree, and every
tensor that carries it sees the finer structure at once.

Three operations carry everything:

- `cut(axis, k)` splits additively at position `k`,
- `factor(axis, k)` splits multiplicatively, outer part of size `k`,
- `unify(a, b)` states that two axes of one size are equal, element by element.

>>> width = Dim(12)
>>> heads, inner = factor(width, 3)        # x.view(..., 3, 4)
>>> left, right = cut(width, 4)            # x[..., :4], x[..., 4:]: the first head, the others
>>> (left.size, right.size)
(4, 8)
>>> left is resolve(inner)
True

Positions are preserved by every operation: `mask(axis, keep)` of a refined axis is the mask of the
axis before. Where two trees cannot be aligned, `unify` and its fellows raise `Misaligned`; the
caller pins what is involved (see `pin`), so that a thing we do not understand is left whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count

import torch
from torch import Tensor

__all__ = [
    "Axis", "Concat", "Dim", "Fixed", "Misaligned", "Product", "concat", "cut", "dims", "factor",
    "left", "mask", "pin", "product", "resolve", "split", "unify", "width",
]  # fmt: skip


class Misaligned(ValueError):
    """Two axes, or an axis and a size, that have no common refinement."""


_serial = count()


class Dim:
    """A symbolic dimension of `size` units.

    `pinned` is None while units may be removed, otherwise the first reason why not.
    `facts` collects remarks such as "layer_norm" that do not forbid removal but change a statistic.
    """

    __slots__ = ("bound", "facts", "outer", "pinned", "serial", "size")

    def __init__(self, size: int) -> None:
        self.size = int(size)
        self.serial = next(_serial)
        self.bound: Axis | None = None
        self.pinned: str | None = None
        self.facts: dict[str, None] = {}
        self.outer: Dim | None = None  # see `sentei.graph.freedom`

    def __repr__(self) -> str:
        return f"d{self.serial}({self.size})" + ("!" if self.pinned else "")


class Fixed:
    """`size` positions that stay, with the reason `why` (shown to the user)."""

    __slots__ = ("size", "why")

    def __init__(self, size: int, why: str = "data dimension") -> None:
        self.size = int(size)
        self.why = why

    def __repr__(self) -> str:
        return str(self.size)


class _Tree:
    """An axis made of `parts`.

    settled: the number of bindings made when every part was last seen to be in its finest form.
    """

    __slots__ = ("parts", "settled", "size")

    def __init__(self, parts: tuple[Axis, ...], size: int) -> None:
        self.parts = parts
        self.size = size
        self.settled = -1


class Product(_Tree):
    """Row-major product of `parts`, outermost first. Build with `product`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "[" + "·".join(map(repr, self.parts)) + "]"


class Concat(_Tree):
    """`parts` one after the other. Build with `concat`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "(" + "+".join(map(repr, self.parts)) + ")"


Axis = Dim | Fixed | Product | Concat


def product(parts: Sequence[Axis]) -> Axis:
    """The row-major product of `parts`, flattened; parts of size one vanish."""
    flat: list[Axis] = []
    size = 1
    for part in parts:
        size *= part.size
        for piece in part.parts if isinstance(part, Product) else (part,):
            if piece.size == 1:
                continue
            last = flat[-1] if flat else None
            if isinstance(piece, Fixed) and isinstance(last, Fixed):
                flat[-1] = Fixed(last.size * piece.size, last.why)
            else:
                flat.append(piece)
    if size == 0:
        return Fixed(0)
    if not flat:
        return Fixed(1)
    return flat[0] if len(flat) == 1 else Product(tuple(flat), size)


def concat(parts: Sequence[Axis]) -> Axis:
    """`parts` one after the other, flattened; empty parts vanish."""
    flat: list[Axis] = []
    size = 0
    for part in parts:
        size += part.size
        for piece in part.parts if isinstance(part, Concat) else (part,):
            if piece.size == 0:
                continue
            last = flat[-1] if flat else None
            if isinstance(piece, Fixed) and isinstance(last, Fixed):
                flat[-1] = Fixed(last.size + piece.size, last.why)
            else:
                flat.append(piece)
    if not flat:
        return Fixed(0)
    return flat[0] if len(flat) == 1 else Concat(tuple(flat), size)


_bindings = 0  # how many were ever made


def resolve(axis: Axis) -> Axis:
    """The axis in its finest known form: every `Dim` in the result is unbound."""
    if isinstance(axis, Fixed):
        return axis
    if isinstance(axis, Dim):
        if axis.bound is None:
            return axis
        axis.bound = resolve(axis.bound)  # path compression
        return axis.bound
    if axis.settled == _bindings:
        return axis
    parts = tuple([resolve(part) for part in axis.parts])
    finest: Axis = axis
    if any(new is not old for new, old in zip(parts, axis.parts, strict=True)):
        finest = product(parts) if isinstance(axis, Product) else concat(parts)
    if isinstance(finest, _Tree):
        finest.settled = _bindings
    return finest


def dims(axis: Axis) -> list[Dim]:
    """The unbound `Dim`s of an axis, in order, repeats included."""
    axis = resolve(axis)
    if isinstance(axis, Dim):
        return [axis]
    if isinstance(axis, Fixed):
        return []
    found: list[Dim] = []
    for part in axis.parts:
        if isinstance(part, Dim):
            found.append(part)
        elif isinstance(part, _Tree):
            found += dims(part)
    return found


def pin(axis: Axis, why: str) -> None:
    """No unit of `axis` may be removed, because of `why`. The first reason given stays."""
    for dim in dims(axis):
        if dim.pinned is None:
            dim.pinned = why


def note(axis: Axis, fact: str) -> None:
    """Remark `fact` on every `Dim` of `axis`."""
    for dim in dims(axis):
        dim.facts[fact] = None


def _bind(dim: Dim, axis: Axis) -> None:
    global _bindings
    _bindings += 1
    dim.bound = axis
    if isinstance(axis, Fixed):
        return
    if dim.pinned:
        pin(axis, dim.pinned)
    for fact in dim.facts:
        note(axis, fact)


def cut(axis: Axis, k: int) -> tuple[Axis, Axis]:
    """Split additively: the first `k` positions and the rest.

    >>> cut(product([Dim(2), Dim(3)]), 3)[0].size
    3
    """
    axis = resolve(axis)
    n = axis.size
    if not 0 <= k <= n:
        raise Misaligned(f"cannot cut {n} positions at {k}")
    if k == 0:
        return Fixed(0), axis
    if k == n:
        return axis, Fixed(0)
    if isinstance(axis, Fixed):
        return Fixed(k, axis.why), Fixed(n - k, axis.why)
    if isinstance(axis, Dim):
        left, right = _fresh(k), _fresh(n - k)
        _bind(axis, concat([left, right]))
        return left, right
    if isinstance(axis, Concat):
        before: list[Axis] = []
        parts = list(axis.parts)
        while k >= parts[0].size:
            k -= parts[0].size
            before.append(parts.pop(0))
        if k:
            left, right = cut(parts[0], k)
            before.append(left)
            parts[0] = right
        return concat([resolve(p) for p in before]), concat([resolve(p) for p in parts])
    outer, inner = axis.parts[0], product(axis.parts[1:])
    whole, rest = divmod(k, inner.size)
    left, right = cut(outer, whole)
    if not rest:
        return product([left, inner]), product([right, inner])
    # The cut falls inside one outer position: set that one apart and cut the inner axis.
    _, tail = cut(right, 1)
    first, second = cut(inner, rest)
    inner = resolve(inner)
    return concat([product([left, inner]), first]), concat([second, product([tail, inner])])


def split(axis: Axis, sizes: Sequence[int]) -> list[Axis]:
    """Split additively into consecutive pieces of the given sizes."""
    pieces: list[Axis] = []
    for size in sizes[:-1]:
        piece, axis = cut(axis, size)
        pieces.append(piece)
    if sizes:
        pieces.append(axis)
    # A later cut may have refined what an earlier piece is made of.
    return [resolve(piece) for piece in pieces]


def factor(axis: Axis, k: int) -> tuple[Axis, Axis]:
    """Split multiplicatively: `axis = outer · inner` with `outer.size == k`.

    >>> outer, inner = factor(product([Dim(4), Dim(6)]), 8)
    >>> (outer.size, inner.size)
    (8, 3)
    """
    axis = resolve(axis)
    n = axis.size
    if k <= 0 or n % k:
        raise Misaligned(f"{n} positions do not go into {k} equal parts")
    m = n // k
    if m == 1:
        return axis, Fixed(1)
    if k == 1:
        return Fixed(1), axis
    if isinstance(axis, Fixed):
        return Fixed(k, axis.why), Fixed(m, axis.why)
    if isinstance(axis, Dim):
        outer, inner = _fresh(k), _fresh(m)
        _bind(axis, product([outer, inner]))
        return outer, inner
    if isinstance(axis, Product):
        before: list[Axis] = []
        parts = list(axis.parts)
        while k % parts[0].size == 0:
            k //= parts[0].size
            before.append(parts.pop(0))
            if k == 1:
                return product(before), product(parts)
        outer, inner = factor(parts[0], k)  # raises where the sizes do not divide
        return product([*before, outer]), product([inner, *parts[1:]])
    # Whole multiples of m inside one piece keep a structure of their own; positions gathered from
    # several pieces are one outer position that cannot go alone.
    outers: list[Axis] = []
    common: Axis | None = None
    rest: Axis = axis
    while rest.size:
        first = rest.parts[0] if isinstance(rest, Concat) else rest
        whole = first.size - first.size % m
        piece, rest = cut(rest, whole or m)
        if whole:
            outer, inner = factor(piece, whole // m)
        else:
            outer, inner = Fixed(1, "pieces of different structure, reshaped together"), piece
        if common is not None:
            unify(common, inner)
        common = inner
        outers.append(outer)
        rest = resolve(rest)
    assert common is not None
    return concat([resolve(o) for o in outers]), resolve(common)


def unify(a: Axis, b: Axis) -> None:
    """State that `a` and `b` are equal position by position, refining both as needed.

    Raises:
        Misaligned: sizes differ, or no common refinement exists. What was found equal
            before that stays so; callers pin the rest.
    """
    a, b = resolve(a), resolve(b)
    if a is b:
        return
    if a.size != b.size:
        raise Misaligned(f"sizes differ: {a.size} and {b.size}")
    if isinstance(a, Fixed):
        if not isinstance(b, Fixed):
            pin(b, a.why)
        return
    if isinstance(b, Fixed):
        pin(a, b.why)
        return
    if isinstance(a, Dim) and not (isinstance(b, Dim) and b.serial > a.serial):
        _bind(a, b)  # of two dims the older one stays: what is known of it stays findable
    elif isinstance(b, Dim):
        _bind(b, a)
    elif isinstance(a, Product) and isinstance(b, Product):
        _unify_products(a, b)
    elif isinstance(a, Concat) and isinstance(b, Concat):
        _unify_concats(a, b)
    elif isinstance(a, Concat):
        assert isinstance(b, Product)
        _unify_mixed(a, b)
    else:
        assert isinstance(a, Product) and isinstance(b, Concat)
        _unify_mixed(b, a)


def _unify_products(a: Product, b: Product) -> None:
    left, right = list(a.parts), list(b.parts)
    while left and right:
        p, q = resolve(left.pop(0)), resolve(right.pop(0))
        if p.size > q.size:
            p, q, left, right = q, p, right, left
        if p.size < q.size:
            if q.size % p.size:
                raise Misaligned(f"no common factor structure: {a} and {b}")
            q, rest = factor(q, p.size)
            right.insert(0, rest)
        if isinstance(p, Product) or isinstance(q, Product):
            # Refined meanwhile by a repeated part: take it apart first.
            left[:0] = p.parts if isinstance(p, Product) else (p,)
            right[:0] = q.parts if isinstance(q, Product) else (q,)
            continue
        unify(p, q)


def _unify_concats(a: Concat, b: Concat) -> None:
    left, right = list(a.parts), list(b.parts)
    while left and right:
        p, q = resolve(left.pop(0)), resolve(right.pop(0))
        if p.size > q.size:
            p, q, left, right = q, p, right, left
        if p.size < q.size:
            q, rest = cut(q, p.size)
            right.insert(0, rest)
        unify(p, q)


def _unify_mixed(a: Concat, b: Product) -> None:
    inner = b.size // b.parts[0].size
    if any(part.size % inner for part in a.parts) and all(
        part.size % (a.size // b.parts[0].size) == 0 for part in a.parts
    ):
        outer, rest = factor(a, b.parts[0].size)
        unify(outer, b.parts[0])
        unify(rest, product(b.parts[1:]))
        return
    for part, piece in zip(a.parts, split(b, [p.size for p in a.parts]), strict=True):
        unify(part, piece)


def _fresh(size: int) -> Axis:
    return Dim(size) if size > 1 else Fixed(size, "single position")


def width(axis: Axis, kept: Callable[[Dim], int]) -> int:
    """Size of `axis` when `kept(dim)` units remain of each of its dims.

    >>> d = Dim(4)
    >>> width(concat([d, d, Fixed(1)]), lambda dim: 3)
    7
    """
    axis = resolve(axis)
    if isinstance(axis, Dim):
        return kept(axis)
    if isinstance(axis, Fixed):
        return axis.size
    total = 1 if isinstance(axis, Product) else 0
    for part in axis.parts:
        size = width(part, kept)
        total = total * size if isinstance(axis, Product) else total + size
    return total


def mask(axis: Axis, keep: Callable[[Dim], Tensor]) -> Tensor:
    """Which positions of `axis` remain, as a boolean vector of `axis.size`.

    Args:
        keep: for a dim, the boolean vector of its units that remain; for a dim that is free in an
            outer one, a matrix with a row for each outer unit.

    >>> d = Dim(2)
    >>> mask(product([Fixed(2), d]), lambda dim: torch.tensor([True, False])).tolist()
    [True, False, True, False]
    """
    axis = resolve(axis)
    if isinstance(axis, Dim):
        return keep(axis)
    if isinstance(axis, Fixed):
        return torch.ones(axis.size, dtype=torch.bool)
    masks = [mask(part, keep) for part in axis.parts]
    if isinstance(axis, Concat):
        return torch.cat(masks)
    out = torch.ones([part.size for part in axis.parts], dtype=torch.bool)
    for i, (part, own) in enumerate(zip(axis.parts, masks, strict=True)):
        shape = [1] * len(masks)
        shape[i] = part.size
        if own.dim() == 2:
            assert isinstance(part, Dim)
            outer = next(j for j, other in enumerate(axis.parts) if other is part.outer)
            shape[outer] = axis.parts[outer].size
        out &= own.view(shape)
    return out.flatten()


def left(kept: Tensor) -> int:
    """How many units a mask keeps (for each outer unit, where it has a row for each).

    >>> left(torch.tensor([[True, False], [False, True]]))
    1
    """
    return int(kept.sum()) // (len(kept) if kept.dim() == 2 else 1)


def positions(axis: Axis, dim: Dim) -> Tensor:
    """Where unit i of `dim` sits in `axis`: a long tensor of shape (dim.size, occurrences).

    >>> d = Dim(2)
    >>> positions(concat([d, product([Fixed(2), d])]), d).tolist()
    [[0, 2, 4], [1, 3, 5]]
    """
    unit = units(resolve(axis), dim)
    order = unit.argsort(stable=True)
    return order[(unit < 0).sum() :].view(dim.size, -1)


def units(axis: Axis, dim: Dim) -> Tensor:
    """For each position the unit of `dim` it belongs to, or -1."""
    axis = resolve(axis)
    if axis is dim:
        return torch.arange(dim.size)
    if isinstance(axis, (Dim, Fixed)):
        return torch.full((axis.size,), -1)
    parts = [units(part, dim) for part in axis.parts]
    if isinstance(axis, Concat):
        return torch.cat(parts)
    out = parts[0]
    for inner in parts[1:]:
        # A dim that occurs twice in one product removes more than one slice a unit: not a group.
        out = torch.maximum(out[:, None], inner[None, :]).flatten()
    return out


def beside(axis: Axis, dim: Dim) -> bool:
    """Does `dim` stand in one product with the dim it is free in?

    >>> outer, inner = Dim(2), Dim(3)
    >>> inner.outer = outer
    >>> beside(product([outer, inner]), inner), beside(inner, inner)
    (True, False)
    """
    axis = resolve(axis)
    parts = getattr(axis, "parts", ())
    if isinstance(axis, Product) and dim in parts:
        return dim.outer in parts
    return any(beside(part, dim) for part in parts)
