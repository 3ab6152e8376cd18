"""The algebra of axes, held to its laws by an oracle of plain boolean vectors.

A statement about axes is sound if it holds for the positions that remain, whichever units of
unpinned dims are removed. So every test draws what to keep, and compares with numpy's own idea of
slicing, concatenating and reshaping.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sentei.graph import axis as algebra
from sentei.graph.axis import (
    Axis,
    Concat,
    Dim,
    Fixed,
    Misaligned,
    Product,
    concat,
    cut,
    dims,
    factor,
    mask,
    note,
    pin,
    positions,
    product,
    resolve,
    split,
    unify,
    width,
)
from sentei.graph.rules.base import regroup, same
from sentei.graph.rules.base import split as split_or_pin

SIZES = [2, 3, 4, 6, 12]


def trees(depth: int = 2) -> st.SearchStrategy[Axis]:
    """Random axes; dims may occur more than once, but not twice in one product."""
    leaf = st.one_of(st.builds(Dim, st.sampled_from(SIZES)), st.builds(Fixed, st.integers(1, 3)))
    if depth == 0:
        return leaf
    below = trees(depth - 1)
    return st.one_of(
        leaf,
        st.lists(below, min_size=1, max_size=3).map(concat),
        st.lists(below, min_size=1, max_size=2).map(product),
        below.map(lambda a: concat([a, a])),
        below.map(lambda a: product([Fixed(2), a])),
    )


small_trees = trees().filter(lambda a: 1 <= a.size <= 72)


class Keep:
    """A fixed random choice of units; pinned dims keep all of theirs."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.chosen: dict[Dim, Tensor] = {}

    def __call__(self, dim: Dim) -> Tensor:
        if dim.pinned:
            return torch.ones(dim.size, dtype=torch.bool)
        if dim not in self.chosen:
            self.chosen[dim] = torch.rand(dim.size, generator=self.generator) < 0.6
        return self.chosen[dim]

    def mask(self, axis: Axis) -> Tensor:
        return mask(axis, self)


def outer(a: Tensor, b: Tensor) -> Tensor:
    return (a[:, None] & b[None, :]).flatten()


seeds = st.integers(0, 2**16)


# -- one operation --------------------------------------------------------------------------------
@given(axis=small_trees, data=st.data(), seed=seeds)
def test_cut_preserves_positions(axis: Axis, data: st.DataObject, seed: int) -> None:
    k = data.draw(st.integers(0, axis.size))
    left, right = cut(axis, k)
    keep = Keep(seed)
    assert (left.size, right.size) == (k, axis.size - k)
    assert torch.equal(keep.mask(left), keep.mask(axis)[:k])
    assert torch.equal(keep.mask(right), keep.mask(axis)[k:])


@given(axis=small_trees, data=st.data(), seed=seeds)
def test_split_preserves_positions(axis: Axis, data: st.DataObject, seed: int) -> None:
    at = sorted(data.draw(st.lists(st.integers(0, axis.size), max_size=3)))
    sizes = [b - a for a, b in itertools.pairwise([0, *at, axis.size])]
    pieces = split(axis, sizes)
    keep = Keep(seed)
    assert [p.size for p in pieces] == sizes
    for piece, want in zip(pieces, keep.mask(axis).split(sizes), strict=True):
        assert torch.equal(keep.mask(piece), want)


@given(axis=small_trees, data=st.data(), seed=seeds)
def test_factor_preserves_positions(axis: Axis, data: st.DataObject, seed: int) -> None:
    k = data.draw(st.sampled_from([k for k in range(1, axis.size + 1) if axis.size % k == 0]))
    try:
        first, inner = factor(axis, k)
    except Misaligned:
        return
    keep = Keep(seed)
    assert (first.size, inner.size) == (k, axis.size // k)
    assert torch.equal(outer(keep.mask(first), keep.mask(inner)), keep.mask(axis))


@given(axis=small_trees, other=small_trees, seed=seeds)
def test_products_and_concatenations_are_what_numpy_does(
    axis: Axis, other: Axis, seed: int
) -> None:
    keep = Keep(seed)
    a, b = keep.mask(axis), keep.mask(other)
    assert torch.equal(keep.mask(concat([axis, other])), torch.cat([a, b]))
    assert torch.equal(keep.mask(product([axis, other])), outer(a, b))


@given(axis=small_trees, other=small_trees, seed=seeds)
def test_unified_axes_keep_the_same_positions(axis: Axis, other: Axis, seed: int) -> None:
    """Also where no common refinement exists, once `same` has pinned both."""
    n = min(axis.size, other.size)
    a, b = cut(axis, n)[0], cut(other, n)[0]
    same(a, b)
    keep = Keep(seed)
    assert torch.equal(keep.mask(a), keep.mask(b))


@given(axis=small_trees, seed=seeds)
def test_width_counts_the_mask(axis: Axis, seed: int) -> None:
    """Exactly so for kept sets; `width` takes only the number of units each dim keeps."""
    keep = Keep(seed)
    assert width(axis, lambda d: int(keep(d).sum())) == int(keep.mask(axis).sum())
    assert width(axis, lambda d: d.size) == axis.size


@given(axis=small_trees)
def test_positions_are_what_a_mask_without_the_unit_lacks(axis: Axis) -> None:
    for dim in dict.fromkeys(dims(axis)):
        if _repeats(axis, dim):
            continue
        found = positions(axis, dim)
        for unit in range(dim.size):

            def without(d: Dim, dim: Dim = dim, unit: int = unit) -> Tensor:
                return torch.arange(d.size) != (unit if d is dim else -1)

            gone = (~mask(axis, without)).nonzero().flatten()
            assert sorted(found[unit].tolist()) == gone.tolist()


def _repeats(axis: Axis, dim: Dim) -> bool:
    """Does the dim occur twice in one product?"""
    axis = resolve(axis)
    parts = getattr(axis, "parts", ())
    if isinstance(axis, Product) and sum(dim in set(dims(p)) for p in parts) > 1:
        return True
    return any(_repeats(p, dim) for p in parts)


# -- unify ----------------------------------------------------------------------------------------
def units(axes: Iterable[Axis]) -> set[frozenset[tuple[int, int]]]:
    """The structure, free of names: for each unit that may go, the (axis, position)s it takes."""
    covered: dict[tuple[Dim, int], set[tuple[int, int]]] = {}
    for number, axis in enumerate(axes):
        for at, owners in enumerate(_owners(resolve(axis))):
            for owner in owners:
                covered.setdefault(owner, set()).add((number, at))
    return {frozenset(where) for where in covered.values()}


def _owners(axis: Axis) -> list[set[tuple[Dim, int]]]:
    if isinstance(axis, Dim):
        return [set() if axis.pinned else {(axis, i)} for i in range(axis.size)]
    if isinstance(axis, Fixed):
        return [set() for _ in range(axis.size)]
    parts = [_owners(p) for p in axis.parts]
    if isinstance(axis, Concat):
        return [x for part in parts for x in part]
    out = parts[0]
    for inner in parts[1:]:
        out = [a | b for a in out for b in inner]
    return out


# A shape is a recipe for axes, so that one drawn tree can be built twice, from dims of its own.
Shape = int | tuple[str, tuple["Shape", ...]]
shapes = st.recursive(
    st.sampled_from(SIZES),
    lambda below: st.tuples(
        st.sampled_from(["+", "*"]), st.lists(below, min_size=2, max_size=3).map(tuple)
    ),
    max_leaves=4,
)


def build(shape: Shape) -> Axis:
    if isinstance(shape, int):
        return Dim(shape)
    return (concat if shape[0] == "+" else product)([build(s) for s in shape[1]])


@given(a=shapes, b=shapes)
def test_unify_is_symmetric(a: Shape, b: Shape) -> None:
    n = min(build(a).size, build(b).size)

    def outcome(swapped: bool) -> set[frozenset[tuple[int, int]]]:
        x, y = build(a), build(b)
        left, right = cut(x, n)[0], cut(y, n)[0]
        same(*((right, left) if swapped else (left, right)))
        return units([x, y])

    assert outcome(False) == outcome(True)


@given(a=small_trees, b=small_trees)
def test_unify_is_idempotent(a: Axis, b: Axis) -> None:
    n = min(a.size, b.size)
    left, right = cut(a, n)[0], cut(b, n)[0]
    same(left, right)
    before = units([a, b])
    same(left, right)
    same(right, left)
    same(left, left)
    assert units([a, b]) == before


@given(a=small_trees)
def test_an_axis_equals_itself_at_no_cost(a: Axis) -> None:
    before = units([a])
    unify(a, a)
    assert units([a]) == before
    assert not any(d.pinned for d in dims(a))


# -- reshape --------------------------------------------------------------------------------------
FACTORS = st.lists(st.sampled_from([2, 3, 4]), min_size=1, max_size=4)


@given(shape=FACTORS, data=st.data())
def test_reshape_there_and_back_is_the_identity(shape: list[int], data: st.DataObject) -> None:
    axes: list[Axis] = [Dim(n) for n in shape]
    there = data.draw(regroupings(prod(shape)))
    back = regroup(regroup(axes, there), shape)
    pinned = {d for a in axes for d in dims(a) if d.pinned}
    for old, new in zip(axes, back, strict=True):
        if not pinned & set(dims(old)):
            assert resolve(old) is new or units([old]) == units([new])


def regroupings(n: int) -> st.SearchStrategy[list[int]]:
    """Shapes of n elements."""

    @st.composite
    def draw(draw: Callable[..., int]) -> list[int]:
        left, out = n, []
        while left > 1 and len(out) < 4:
            k = draw(st.sampled_from([k for k in range(1, left + 1) if left % k == 0]))
            out.append(k)
            left //= k
        return [*out, left]

    return draw()


@given(data=st.data(), seed=seeds)
@settings(max_examples=200)
def test_slicing_and_rearranging_commute(data: st.DataObject, seed: int) -> None:
    """Reshape, split, cat and permute in a random order; then remove, before or after."""
    first = data.draw(st.lists(st.sampled_from([2, 3, 4, 6]), min_size=1, max_size=3))
    start: list[Axis] = [Dim(n) for n in first]
    # Every element is its own number, so equality says that positions did not move.
    full = torch.arange(prod(first)).view(first)
    axes, log = list(start), []
    x = full
    for _ in range(data.draw(st.integers(1, 4))):
        kind = data.draw(st.sampled_from(["reshape", "split", "cat", "permute"]))
        if kind == "reshape":
            shape = data.draw(regroupings(x.numel()))
            axes = regroup(axes, shape)
            log.append((kind, list(axes)))
            x = x.reshape(shape)
        elif kind == "permute":
            order = data.draw(st.permutations(range(x.dim())))
            axes, x = [axes[i] for i in order], x.permute(order)
            log.append((kind, order))
        elif kind == "split":
            dim = data.draw(st.integers(0, x.dim() - 1))
            k = data.draw(st.integers(0, x.shape[dim] - 1))
            pieces = split_or_pin(axes[dim], [k, x.shape[dim] - k])
            axes[dim] = pieces[1]
            log.append((kind, (dim, pieces)))
            x = x.split([k, x.shape[dim] - k], dim)[1]
        elif x.numel() <= 144:
            dim = data.draw(st.integers(0, x.dim() - 1))
            axes[dim] = concat([resolve(axes[dim])] * 2)
            log.append((kind, dim))
            x = torch.cat([x, x], dim)

    keep = Keep(seed)
    small = full
    for dim, axis in enumerate(start):
        small = small[(slice(None),) * dim + (keep.mask(axis),)]
    for kind, how in log:
        if kind == "reshape":
            small = small.reshape([int(keep.mask(a).sum()) for a in how])
        elif kind == "permute":
            small = small.permute(how)
        elif kind == "cat":
            small = torch.cat([small, small], how)
        else:
            dim, pieces = how
            small = small.split([int(keep.mask(p).sum()) for p in pieces], dim)[1]

    want = x
    for dim, axis in enumerate(axes):
        want = want[(slice(None),) * dim + (keep.mask(axis),)]
    assert torch.equal(small, want)


# -- many statements ------------------------------------------------------------------------------
Statement = tuple[str, int, int]


def statements(
    count: int, size: int, divisors: Sequence[int] = ()
) -> st.SearchStrategy[list[Statement]]:
    divisors = divisors or [k for k in range(2, size) if size % k == 0]
    one = st.one_of(
        st.tuples(st.just("unify"), st.integers(0, count - 1), st.integers(0, count - 1)),
        st.tuples(st.just("cut"), st.integers(0, count - 1), st.integers(1, size - 1)),
        st.tuples(st.just("factor"), st.integers(0, count - 1), st.sampled_from(divisors)),
    )
    return st.lists(one, min_size=2, max_size=6)


def apply(axes: list[Axis], todo: Iterable[Statement]) -> list[Callable[[Keep], bool]]:
    """State everything; returns what each statement promises for a choice of units."""
    promises: list[Callable[[Keep], bool]] = []
    for kind, i, k in todo:
        a = axes[i]
        if kind == "unify":
            b = axes[k]
            same(a, b)
            promises.append(lambda keep, a=a, b=b: torch.equal(keep.mask(a), keep.mask(b)))
        else:
            try:
                p, q = cut(a, k) if kind == "cut" else factor(a, k)
            except Misaligned as error:
                pin(a, str(error))
                continue
            join = torch.cat if kind == "cut" else (lambda pair: outer(*pair))
            promises.append(
                lambda keep, a=a, p=p, q=q, join=join: torch.equal(
                    join([keep.mask(p), keep.mask(q)]), keep.mask(a)
                )
            )
    return promises


@given(size=st.sampled_from([6, 8, 12, 24]), data=st.data(), seed=seeds)
@settings(max_examples=300)
def test_every_statement_still_holds_after_all_the_others(
    size: int, data: st.DataObject, seed: int
) -> None:
    axes: list[Axis] = [Dim(size) for _ in range(4)]
    promises = apply(axes, data.draw(statements(4, size)))
    keep = Keep(seed)
    assert all(promise(keep) for promise in promises)


def structure(size: int, todo: Iterable[Statement]) -> tuple[set[frozenset[tuple[int, int]]], bool]:
    """The units after all statements, and whether anything had to be pinned."""
    axes: list[Axis] = [Dim(size) for _ in range(4)]
    apply(axes, todo)
    return units(axes), any(d.pinned for a in axes for d in dims(a))


@given(data=st.data())
@settings(max_examples=300)
def test_the_order_of_statements_does_not_matter(data: st.DataObject) -> None:
    """Where factors nest (each divides the next), as heads, groups and widths of networks do."""
    chain = data.draw(st.sampled_from([(2, 4, 8), (3, 6, 12), (2, 6, 12), (2, 4, 12)]))
    todo = data.draw(statements(4, 24, chain))
    assert structure(24, todo)[0] == structure(24, data.draw(st.permutations(todo)))[0]


@given(size=st.sampled_from([6, 8, 12, 24]), data=st.data())
@settings(max_examples=300)
def test_order_matters_at_most_for_what_is_pinned(size: int, data: st.DataObject) -> None:
    """The honest limit. `view(2, 12)` and `view(3, 8)` of one axis have no common refinement as
    products, so the axis is pinned; cut up first, the same axis is a concatenation that both views
    agree on. Either answer is sound; without a pin the answers are equal."""
    todo = data.draw(statements(4, size))
    one, pinned_one = structure(size, todo)
    two, pinned_two = structure(size, data.draw(st.permutations(todo)))
    assert one == two or pinned_one or pinned_two


def test_a_cut_inside_a_product_is_found_in_either_order() -> None:
    """The first cut leaves 3 + 21, so `view(4, 6)` meets a piece that is no multiple of 6."""
    todo: list[Statement] = [("factor", 0, 4), ("cut", 0, 3)]
    assert structure(24, todo) == structure(24, todo[::-1])
    axis = Dim(24)
    cut(axis, 3)
    outside, _ = factor(axis, 4)
    assert [d.size for d in dims(outside)] == [3]  # the outer position that is cut cannot go


# -- edges ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [0, 1])
def test_degenerate_sizes(size: int) -> None:
    axis = Fixed(size)
    assert [p.size for p in cut(axis, 0)] == [0, size]
    assert [p.size for p in cut(axis, size)] == [size, 0]
    assert [p.size for p in factor(axis, 1)] == [1, size]
    assert [p.size for p in split(axis, [size, 0, 0])] == [size, 0, 0]
    assert split(axis, []) == []
    assert mask(axis, Keep(0)).tolist() == [True] * size
    other = Dim(4)
    assert concat([other, axis]).size == 4 + size
    assert product([other, axis]).size == 4 * size
    unify(axis, Fixed(size))


def test_nothing_and_one_vanish() -> None:
    d = Dim(4)
    assert product([Fixed(1), d, Fixed(1)]) is d
    assert concat([Fixed(0), d, Fixed(0)]) is d
    assert product([]).size == 1
    assert concat([]).size == 0


def test_an_empty_product_has_no_dims() -> None:
    """Else a dim of size zero could be bound to a tree that holds it."""
    empty = Dim(0)
    unify(empty, product([empty, Dim(4)]))
    assert mask(empty, Keep(0)).tolist() == []


def test_neighbouring_constants_merge() -> None:
    axis = concat([Fixed(2, "first"), Fixed(3, "second")])
    assert isinstance(axis, Fixed)
    assert (axis.size, axis.why) == (5, "first")
    axis = product([Fixed(2, "first"), Fixed(3, "second")])
    assert isinstance(axis, Fixed)
    assert (axis.size, axis.why) == (6, "first")


@pytest.mark.parametrize("k", [-1, 5])
def test_cut_outside(k: int) -> None:
    with pytest.raises(Misaligned, match=f"cannot cut 4 positions at {k}"):
        cut(Dim(4), k)


@pytest.mark.parametrize(
    "k, words", [(3, "4 positions do not go into 3"), (0, "into 0"), (-2, "into -2")]
)
def test_factor_that_does_not_divide(k: int, words: str) -> None:
    with pytest.raises(Misaligned, match=words):
        factor(Dim(4), k)


def test_sizes_that_differ() -> None:
    with pytest.raises(Misaligned, match="sizes differ: 2 and 3"):
        unify(Dim(2), Dim(3))


def test_products_without_common_factors() -> None:
    a, b = product([Dim(2), Dim(3)]), product([Dim(3), Dim(2)])
    with pytest.raises(Misaligned, match="no common factor structure"):
        unify(a, b)
    same(a, b)
    assert all(d.pinned and "no common factor" in d.pinned for d in [*dims(a), *dims(b)])


def test_the_first_reason_stays() -> None:
    d = Dim(4)
    pin(d, "first")
    pin(d, "second")
    assert d.pinned == "first"


def test_reasons_and_facts_follow_a_dim_to_what_it_becomes() -> None:
    d = Dim(6)
    note(d, "normalised")
    pin(d, "because")
    outside, inside = factor(d, 2)
    assert {x.pinned for x in [*dims(outside), *dims(inside)]} == {"because"}
    assert all("normalised" in x.facts for x in dims(d))
    e = Dim(6)
    unify(e, d)
    assert units([e]) == set()


def test_a_constant_pins_what_equals_it() -> None:
    d = Dim(4)
    unify(Fixed(4, "model input"), d)
    assert d.pinned == "model input"
    e = Dim(4)
    unify(e, Fixed(4, "data"))
    assert e.pinned == "data"


def test_binding_is_seen_by_every_holder() -> None:
    d = Dim(12)
    holder = concat([d, d])
    heads, inside = factor(d, 3)
    assert list(dims(holder)) == [heads, inside] * 2
    assert resolve(holder).size == 24


def test_public_names_exist() -> None:
    assert all(hasattr(algebra, name) for name in algebra.__all__)
