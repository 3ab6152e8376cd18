"""Every operator rule against the operator itself; no network, no surgery.

One row of the table is one call. All dimensions of all its tensors start as free dims; the rule
says which belong together and which stay, and what the result's axes are. Then units are removed
at random, and the claim is checked by running the operator twice:

    op(inputs without the removed units)  ==  op(inputs), without the removed units

with integer arguments set to what the rule's `need`s say. `free` is how many dims can lose units in
that call, so a rule that pins too much, or forgets to pin, fails too. In a row with `silent`, the
removed units of the second run hold that value: 0 where units are summed over, -inf in a softmax.
Where units are only normalised over and no value is neutral, removal is checked for shape alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import torchvision  # noqa: F401  (registers torch.ops.torchvision)
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from sentei.graph.analysis import Analysis, _apply
from sentei.graph.axis import Axis, Dim, Fixed, dims, mask, width
from sentei.graph.capture.recorder import align
from sentei.graph.rules import RULES, Facts, is_pointwise, recording, rule
from sentei.graph.rules import vision as vision_rules
from sentei.graph.rules.base import aten  # None for operators that this torch does not have
from sentei.graph.tape import Node, Symbol, Value, flatten

tv = torch.ops.torchvision
vision_rules.register()
INF = float("inf")
# Operators warn of odd sizes (a variance over one element) and of old names (T of three dims).
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@dataclass(frozen=True)
class Spec:
    """A tensor to make.

    kind: f(loat), s(ingle precision), c(omplex), p(ositive), u(niform in [0, 1)), b(ool),
        i(nteger below `high`), n(umbers n … 1).
    """

    kind: str
    shape: tuple[int, ...]
    high: int = 0

    def make(self, generator: torch.Generator) -> Tensor:
        if self.kind == "i":
            return torch.randint(self.high, self.shape, generator=generator)
        if self.kind == "n":
            return torch.arange(self.shape[0], 0, -1)
        if self.kind == "u":
            return torch.rand(self.shape, generator=generator, dtype=torch.float64)
        if self.kind == "c":
            return torch.randn(self.shape, generator=generator, dtype=torch.complex128)
        x = torch.randn(self.shape, generator=generator, dtype=torch.float64)
        if self.kind == "s":
            return x.float()
        return x > 0 if self.kind == "b" else x.abs() + 0.1 if self.kind == "p" else x


def f(*shape: int) -> Spec:
    return Spec("f", shape)


def s(*shape: int) -> Spec:
    return Spec("s", shape)


def c(*shape: int) -> Spec:
    return Spec("c", shape)


def p(*shape: int) -> Spec:
    return Spec("p", shape)


def u(*shape: int) -> Spec:
    return Spec("u", shape)


def n(*shape: int) -> Spec:
    return Spec("n", shape)


def i(high: int, *shape: int) -> Spec:
    return Spec("i", shape, high)


def b(*shape: int) -> Spec:
    return Spec("b", shape)


@dataclass(frozen=True)
class Row:
    op: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    free: int = 0
    silent: float | None = None
    shape_only: bool = False
    least: int = 1

    def __str__(self) -> str:
        def show(tree: Any) -> str:
            if isinstance(tree, Spec):
                return tree.kind + "x".join(map(str, tree.shape))
            if isinstance(tree, (list, tuple)):
                return "[" + ",".join(map(show, tree)) + "]"
            return str(tree)

        words = [show(a) for a in self.args] + [f"{k}={show(v)}" for k, v in self.kwargs.items()]
        return f"{str(self.op).partition('.')[2]}({','.join(words)})"


def row(op: Any, *args: Any, free: int = 0, silent: float | None = None,
        shape_only: bool = False, least: int = 1, **kwargs: Any) -> Row:  # fmt: skip
    return Row(op, args, kwargs, free, silent, shape_only, least)


def total(op: Any, *args: Any, free: int = 0, **kwargs: Any) -> Row:
    """A row where removed units are summed over, so zero hides them."""
    return Row(op, args, kwargs, free, 0.0)


# -- the machinery --------------------------------------------------------------------------------
class _Grab(TorchDispatchMode):
    """Notes the first operator and its arguments, as capture sees them."""

    call: tuple[Any, tuple[Any, ...], dict[str, Any]] | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.call is None:
            self.call = (func, args, kwargs or {})
        return func(*args, **(kwargs or {}))


def _map(tree: Any, kinds: Any, fn: Callable[[Any], Any]) -> Any:
    if isinstance(tree, kinds):
        return fn(tree)
    if isinstance(tree, (tuple, list)):
        return type(tree)(_map(x, kinds, fn) for x in tree)
    if isinstance(tree, dict):
        return {k: _map(x, kinds, fn) for k, x in tree.items()}
    return tree


def _copy(tensor: Tensor) -> Tensor:
    """A copy with the strides of the original, zero strides included."""
    return tensor.clone()


class Case:
    """One row, analysed: what it claims, and how to run it with fewer units."""

    def __init__(self, row: Row, seed: int = 0) -> None:
        self.row = row
        generator = torch.Generator().manual_seed(seed)
        made: list[Tensor] = []

        def make(spec: Spec) -> Tensor:
            made.append(spec.make(generator))
            return made[-1]

        args, kwargs = _map((row.args, row.kwargs), Spec, make)
        ints = [x for x in flatten((args, kwargs)) if type(x) is int]
        symbols = [Symbol.make(n, ("attribute", number)) for number, n in enumerate(ints)]
        grab = _Grab()
        self.values = {id(t): self._value(t) for t in made}
        before = [_copy(t) for t in made]
        with torch.inference_mode(), grab:
            row.op(*args, **kwargs)
        assert grab.call is not None
        self.op, seen, options = grab.call
        # Tensors that are not ours: scalars that the binding wrapped.
        lookup = lambda t: self.values.get(id(t), t)  # noqa: E731
        seen, options = _map((seen, options), Tensor, lookup)
        # Factory options say where, not how many.
        self.args, self.kwargs = align((seen, options), symbols)
        self.inputs = {id(self.values[id(t)]): c for t, c in zip(made, before, strict=True)}
        self.full = self.run(self.inputs, {})
        outputs = []
        for tensor in self.full:
            same = [v for v in self.order if self.last.get(id(v)) is tensor]
            reshaped = bool(same) and same[0].shape != tuple(tensor.shape)
            outputs.append(same[0] if same and not reshaped else self._value(tensor))
        self.node = Node(self.op, self.args, self.kwargs, tuple(outputs))
        self.facts = Facts()
        self.analysis = Analysis([], {}, {}, self.facts, {})
        for value in self.order:
            self.analysis.values[id(value)] = [Dim(n) if n > 1 else Fixed(n) for n in value.shape]
        with recording(self.facts) as current:
            current[-1] = self.node
            _apply(self.analysis, self.node)

    def _value(self, tensor: Tensor) -> Value:
        return Value(0, tuple(tensor.shape), tensor.dtype, "op")

    @property
    def order(self) -> list[Value]:
        return list(self.values.values())

    def axes(self, value: Value) -> list[Axis]:
        return self.analysis.values[id(value)]

    def run(self, inputs: dict[int, Tensor], ints: dict[int, int]) -> list[Tensor]:
        """The outputs of the operator on these inputs and integers."""
        self.last = {key: _copy(tensor) for key, tensor in inputs.items()}

        def plain(leaf: Any) -> Any:
            if isinstance(leaf, Symbol):
                return ints.get(leaf.expr[1], int.__index__(leaf))
            return self.last[id(leaf)]

        args, kwargs = _map((self.args, self.kwargs), (Symbol, Value), plain)
        torch.manual_seed(0)
        with torch.inference_mode():
            out = self.op(*args, **kwargs)
        return [t for t in flatten(out) if isinstance(t, Tensor)]

    def free(self) -> list[Dim]:
        values = {id(v): v for v in [*self.order, *self.node.outputs]}.values()
        found = {d: None for v in values for a in self.axes(v) for d in dims(a)}
        return [d for d in found if d.pinned is None]

    def choices(self, rng: random.Random) -> Iterator[tuple[dict[Dim, Tensor], dict[int, int]]]:
        """Random (units kept, integers) that meet the ties and needs of the call."""
        free = self.free()
        for _ in range(400):
            keep: dict[Dim, Tensor] = {}
            share = rng.choice([0.3, 0.6])
            for dim in free:
                units = list(range(dim.size))
                if rng.random() < 0.5:
                    units = rng.sample(units, rng.randint(1, dim.size))
                    units = units if rng.random() > share else units[: max(1, dim.size // 2)]
                if len(units) < self.row.least:
                    units = list(range(dim.size))
                keep[dim] = torch.zeros(dim.size, dtype=torch.bool)
                keep[dim][units] = True
            ints = self.integers(lambda d, keep=keep: int(keep[d].sum()) if d in keep else d.size)
            if ints is not None:
                yield keep, ints

    def integers(self, kept: Callable[[Dim], int]) -> dict[int, int] | None:
        for a, c, _ in self.facts.ties:
            if width(a, kept) != width(c, kept):
                return None
        found: dict[int, int] = {}
        for need in self.facts.needs:
            size = width(need.axis, kept)
            expr = getattr(need.size, "expr", None)
            if expr is None:
                if size != need.size:
                    return None
                continue
            if expr[0] == "-":
                assert expr[1] == 0, expr
                expr, size = expr[2], -size
            if found.setdefault(expr[1], size) != size:
                return None
        return found

    def check(self, keep: dict[Dim, Tensor], ints: dict[int, int]) -> None:
        def kept(dim: Dim) -> Tensor:
            return keep.get(dim, torch.ones(dim.size, dtype=torch.bool))

        small, hidden = {}, {}
        for value in self.order:
            tensor = self.inputs[id(value)]
            masks = [mask(axis, kept) for axis in self.axes(value)]
            small[id(value)] = _sliced(tensor, masks)
            if (factor := self.scale(value, kept)) != 1:
                small[id(value)] = small[id(value)] * factor
            if self.row.silent is not None and tensor.dtype is not torch.int64:
                tensor = tensor.clone()
                for dim, alive in enumerate(masks):
                    tensor[(slice(None),) * dim + (~alive,)] = self.row.silent
            hidden[id(value)] = tensor
        got, want = self.run(small, ints), self.run(hidden, {})
        mixed = self.row.silent in (None, 0.0) and any(
            "normalised" in dim.facts and not alive.all() for dim, alive in keep.items()
        )
        assert len(got) == len(want)
        for value, small_out, full_out in zip(self.node.outputs, got, want, strict=True):
            masks = [mask(axis, kept) for axis in self.axes(value)]
            sliced = _sliced(full_out, masks)
            assert small_out.shape == sliced.shape, (small_out.shape, sliced.shape)
            for fact in self.facts.means:  # the sum, times one over the width
                axis = fact.expr[2][1]
                now = width(axis, lambda d: int(kept(d).sum()))
                small_out = small_out * (now / axis.size) if fact.value is value else small_out
            numbers = any(value is numbered for numbered, *_ in self.facts.numbered)
            if not mixed and not numbers and not self.row.shape_only:
                torch.testing.assert_close(small_out, sliced, equal_nan=True, rtol=1e-9, atol=1e-9)

    def scale(self, value: Value, kept: Callable[[Dim], Tensor]) -> Any:
        """What makes up for a number that the operator computes from a width."""
        factor: Any = 1
        for fact in self.facts.scales:
            if fact.value is value:
                _, (_, axis), power = fact.expr
                now = width(axis, lambda d: int(kept(d).sum()))
                factor = factor * (axis.size / now) ** power
        return factor


def _sliced(tensor: Tensor, masks: list[Tensor]) -> Tensor:
    for dim, alive in enumerate(masks):
        tensor = tensor[(slice(None),) * dim + (alive,)]
    return tensor


def holds(row: Row) -> int:
    """Check a row on random choices; returns how many dims lost units in at least one of them."""
    case = Case(row)
    assert not case.facts.unknown, f"the rule failed: {case.facts.unknown}"
    removed: set[Dim] = set()
    rng = random.Random(0)
    for count, (keep, ints) in enumerate(case.choices(rng)):
        fresh = {d for d, alive in keep.items() if not alive.all()} - removed
        if count < 12 or fresh:
            case.check(keep, ints)
        removed |= fresh
        if count >= 12 and len(removed) == len(case.free()):
            break
    return len(removed)


# -- the table ------------------------------------------------------------------------------------
CONTRACTIONS = [
    total(aten.linear, f(2, 3, 5), f(4, 5), f(4), free=4),
    total(aten.linear, f(2, 5), f(4, 5), free=3),
    total(aten.linear, f(3, 5), f(5), free=2),
    total(aten.matmul, f(3, 4), f(4, 5), free=3),
    total(aten.matmul, f(4), f(4, 5), free=2),
    total(aten.matmul, f(3, 4), f(4), free=2),
    total(aten.matmul, f(4), f(4), free=1),
    total(aten.matmul, f(2, 3, 4), f(4, 5), free=4),
    total(aten.matmul, f(2, 1, 3, 4), f(6, 4, 5), free=5),
    total(aten.matmul, f(4), f(3, 4, 5), free=3),
    total(aten.matmul, f(3, 5, 4), f(4), free=3),
    total(aten.bmm, f(2, 3, 4), f(2, 4, 5), free=4),
    total(aten.mm, f(3, 4), f(4, 5), free=3),
    total(aten.mv, f(3, 4), f(4), free=2),
    total(aten.dot, f(4), f(4), free=1),
    total(aten.vdot, f(4), f(4), free=1),
    total(aten.inner, f(2, 4), f(3, 4), free=3),
    total(aten.inner, f(4), f(4), free=1),
    total(aten.addmm, f(5), f(3, 4), f(4, 5), free=3),
    total(aten.addmm, f(3, 5), f(3, 4), f(4, 5), beta=0.5, free=3),
    total(aten.addmm, f(3, 1), f(3, 4), f(4, 5), free=3),
    total(aten.baddbmm, f(2, 3, 5), f(2, 3, 4), f(2, 4, 5), free=4),
    total(aten.addmv, f(3), f(3, 4), f(4), free=2),
    total(aten.outer, f(3), f(4), free=2),
    total(aten.ger, f(3), f(4), free=2),
    total(aten.kron, f(2, 3), f(4, 2), free=4),
    total(aten.kron, f(2, 3), f(2)),
    total(aten.tensordot, f(2, 3, 4), f(4, 3, 5), [1, 2], [1, 0], free=4),
    total(aten.bilinear, f(2, 3), f(2, 4), f(5, 3, 4), f(5), free=4),
    total(aten.bilinear, f(2, 3), f(2, 4), f(5, 3, 4), free=4),
    total(aten.einsum, "bhqd,bhkd->bhqk", [f(2, 3, 4, 5), f(2, 3, 6, 5)], free=5),
    total(aten.einsum, "b i, i j -> b j", [f(2, 3), f(3, 4)], free=3),
    total(aten.einsum, "bi,ij", [f(2, 3), f(3, 4)], free=3),
    total(aten.einsum, "...i,ij->...j", [f(2, 5, 3), f(3, 4)], free=4),
    total(aten.einsum, "...ij,...jk", [f(2, 1, 3, 4), f(6, 4, 5)], free=5),
    total(aten.einsum, "ii->i", [f(3, 3)]),
    total(aten.einsum, "bij->bji", [f(2, 3, 4)], free=3),
    total(aten.einsum, "bij->j", [f(2, 3, 4)], free=3),
    total(aten.cdist, f(2, 3, 5), f(2, 4, 5), free=4),
    total(aten.cdist, f(3, 5), f(4, 5), 1.0, free=3),
    total(aten._cdist_forward, f(2, 3, 5), f(2, 4, 5), 2.0, None, free=4),
    total(aten.linalg_solve_triangular, f(2, 4, 4), f(2, 4, 3), upper=False, free=2),
    total(aten.linalg_solve_triangular, f(4, 4), f(2, 3, 4), upper=True, left=False, free=2),
    total(aten.cosine_similarity, f(2, 3, 4), f(2, 3, 4), 1, free=3),
    total(aten.cosine_similarity, f(2, 1, 4), f(3, 4), -1, free=3),
    total(aten.pairwise_distance, f(2, 4), f(2, 4), 2.0, 0.0, free=2),
    total(aten.pairwise_distance, f(2, 4), f(4), 2.0, 0.0, True, free=2),
    row(aten.linalg_cross, f(2, 3), f(2, 3), free=1),
    row(aten.linalg_cross, f(3, 2), f(3, 2), dim=0, free=1),
    row(aten.cross, f(3, 2), f(3, 2), 0, free=1),
    row(aten.cross, f(2, 3), f(2, 3), free=1),
    row(aten.trace, f(3, 3)),
]

CONVOLUTIONS = [
    total(aten.conv1d, f(2, 4, 7), f(6, 4, 3), f(6), free=3),
    total(aten.conv1d, f(4, 7), f(6, 4, 3), free=2),
    # A kernel of one position mixes none, as in mixers whose channels are the tokens.
    total(aten.conv1d, f(2, 4, 7), f(6, 4, 1), f(6), free=4),
    total(aten.conv1d, f(2, 4, 7), f(6, 4, 1), f(6), [2], free=3),
    total(aten.conv1d, f(2, 4, 7), f(6, 4, 1), f(6), [1], [1], free=3),
    total(aten.conv2d, f(2, 4, 5, 6), f(6, 4, 1, 3), None, [1, 1], "same", free=4),
    total(aten.conv_transpose1d, f(2, 4, 7), f(4, 6, 1), free=4),
    total(aten.conv_transpose1d, f(2, 4, 7), f(4, 6, 1), None, [2], [0], [1], free=3),
    total(aten.convolution, f(2, 4, 7), f(6, 4, 1), None, [1], [0], [1], False, [0], 1, free=4),
    total(aten.convolution, f(2, 4, 7), f(6, 4, 1), None, [2], [0], [1], False, [0], 1, free=3),
    total(aten.conv2d, f(2, 4, 5, 5), f(6, 4, 3, 3), f(6), [1, 1], [1, 1], free=3),
    total(aten.conv2d, f(2, 4, 5, 5), f(4, 1, 3, 3), f(4), [1, 1], [1, 1], [1, 1], 4, free=2),
    total(aten.conv2d, f(2, 4, 5, 5), f(8, 1, 3, 3), f(8), [1, 1], [1, 1], [1, 1], 4, free=3),
    total(aten.conv2d, f(2, 8, 5, 5), f(12, 4, 3, 3), f(12), [1, 1], "same", [1, 1], 2, free=4),
    total(aten.conv2d, f(8, 5, 5), f(12, 4, 3, 3), None, [2, 2], [0, 0], [1, 1], 2, free=3),
    total(aten.conv3d, f(1, 2, 4, 4, 4), f(3, 2, 2, 2, 2), f(3), free=2),
    total(aten.conv_transpose1d, f(2, 4, 5), f(4, 3, 3), f(3), free=3),
    total(aten.conv_transpose2d, f(2, 4, 5, 5), f(4, 3, 3, 3), f(3), free=3),
    total(
        aten.conv_transpose2d, f(2, 4, 5, 5), f(4, 3, 3, 3), f(6), [1, 1], [0, 0], [0, 0], 2, free=4
    ),
    total(
        aten.conv_transpose2d, f(4, 5, 5), f(4, 1, 3, 3), None, [1, 1], [0, 0], [0, 0], 4, free=1
    ),
    total(aten.conv_transpose3d, f(1, 2, 3, 3, 3), f(2, 4, 2, 2, 2), free=2),
    total(
        aten.convolution,
        f(2, 8, 5, 5),
        f(12, 4, 3, 3),
        f(12),
        [1, 1],
        [1, 1],
        [1, 1],
        False,
        [0, 0],
        2,
        free=4,
    ),
    total(
        aten.convolution,
        f(2, 8, 5, 5),
        f(8, 3, 3, 3),
        f(6),
        [1, 1],
        [1, 1],
        [1, 1],
        True,
        [0, 0],
        2,
        free=4,
    ),
    total(
        aten._convolution,
        f(2, 4, 5, 5),
        f(6, 4, 3, 3),
        f(6),
        [1, 1],
        [1, 1],
        [1, 1],
        False,
        [0, 0],
        1,
        False,
        False,
        False,
        False,
        free=3,
    ),
    total(
        tv.deform_conv2d,
        f(1, 4, 5, 5),
        f(6, 4, 3, 3),
        f(1, 18, 3, 3),
        p(1, 9, 3, 3),
        f(6),
        1,
        1,
        0,
        0,
        1,
        1,
        1,
        1,
        True,
        free=2,
    ),
    total(
        tv.deform_conv2d,
        f(1, 4, 5, 5),
        f(6, 2, 3, 3),
        f(1, 18, 3, 3),
        p(1, 9, 3, 3),
        f(6),
        1,
        1,
        0,
        0,
        1,
        1,
        2,
        1,
        True,
        free=2,
    ),
]

NORMS = [
    row(aten.batch_norm, f(2, 4, 3), f(4), f(4), f(4), p(4), False, 0.1, 1e-5, False, free=3),
    row(aten.batch_norm, f(3, 4), f(4), f(4), f(4), p(4), True, 0.1, 1e-5, False, free=2),
    row(aten.batch_norm, f(2, 4, 3), None, None, None, None, True, 0.1, 1e-5, False, free=3),
    row(aten.native_batch_norm, f(2, 4, 3), f(4), f(4), f(4), p(4), False, 0.1, 1e-5, free=3),
    row(aten.native_batch_norm, f(2, 4, 3), f(4), f(4), f(4), p(4), True, 0.1, 1e-5, free=3),
    row(aten._native_batch_norm_legit, f(2, 4, 3), f(4), f(4), f(4), p(4), True, 0.1, 1e-5, free=3),
    row(aten.instance_norm, f(2, 4, 3, 3), f(4), f(4), None, None, True, 0.1, 1e-5, False, free=4),
    row(aten.instance_norm, f(2, 4, 3, 3), None, None, f(4), p(4), False, 0.1, 1e-5, False, free=4),
    row(aten.layer_norm, f(2, 3, 4), [4], f(4), f(4), free=3),
    row(aten.layer_norm, f(2, 3, 4), [3, 4], f(3, 4), None, free=3),
    row(aten.layer_norm, f(2, 4), [4], free=2),
    row(aten.native_layer_norm, f(2, 3, 4), [4], f(4), f(4), 1e-5, free=3),
    row(aten.rms_norm, f(2, 3, 4), [4], f(4), free=3),
    row(aten._fused_rms_norm, f(2, 3, 4), [4], f(4), 1e-5, free=3),
    row(aten.group_norm, f(2, 6, 4), 3, f(6), f(6), free=4),
    row(aten.group_norm, f(2, 6, 4), 6, f(6), f(6), free=3),
    row(aten.group_norm, f(2, 6, 4), 1, f(6), f(6), free=3),
    row(aten.native_group_norm, f(2, 6, 4), f(6), f(6), 2, 6, 4, 3, 1e-5, free=4),
    row(aten.softmax, f(2, 4), -1, silent=-INF, free=2),
    row(aten.softmax, f(2, 4, 3), 1, silent=-INF, free=3),
    row(aten.log_softmax, f(2, 4), 1, silent=-INF, free=2),
    row(aten._softmax, f(2, 4), 1, False, silent=-INF, free=2),
    row(aten._log_softmax, f(2, 4), 1, False, silent=-INF, free=2),
    row(aten._safe_softmax, f(2, 4), 1, silent=-INF, free=2),
    row(aten.special_softmax, f(2, 4), 1, silent=-INF, free=2),
    row(aten.special_log_softmax, f(2, 4), 1, silent=-INF, free=2),
    row(aten.renorm, f(2, 3), 2, 0, 1.0, free=2),
    row(aten.renorm_, f(2, 3), 2, 0, 1.0, free=2),
    row(aten._weight_norm, f(4, 3), p(4, 1), 0, free=2),
    row(aten._weight_norm, f(4, 3, 2), p(1, 3, 1), 1, free=3),
    row(aten._weight_norm_interface, f(4, 3), p(4, 1), 0, free=2),
]

REDUCTIONS = [
    total(aten.sum, f(2, 3, 4), free=3),
    total(aten.sum, f(2, 3, 4), [1], free=3),
    total(aten.sum, f(2, 3, 4), [0, -1], True, free=3),
    total(aten.nansum, f(2, 3, 4), [1], free=3),
    row(aten.any, b(3, 4), 1, silent=0.0, free=2),
    row(aten.any, b(3, 4), silent=0.0, free=2),
    total(aten.count_nonzero, b(3, 4), [1], free=2),
    total(aten.count_nonzero, f(3, 4), [1], free=2),
    total(aten.linalg_vector_norm, f(3, 4), 2, [1], free=2),
    total(aten.linalg_vector_norm, f(3, 4), 2, [1], True, free=2),
    total(aten.linalg_vector_norm, f(3, 4), 2, free=2),
    total(aten.linalg_vector_norm, f(3, 4), INF, [1], free=2),
    total(aten.linalg_norm, f(3, 4), free=2),
    total(aten.linalg_norm, f(3, 4), 1, [1], free=2),
    total(aten.linalg_norm, f(3, 4), None, [1], True, free=2),
    total(aten.linalg_norm, f(2, 3, 4), "fro", [0, 2], free=3),
    total(aten.norm, f(3, 4), 2, [1], True, free=2),
    total(aten.norm, f(3, 4), 2, free=2),
    total(aten.norm, f(3, 4), free=2),
    total(aten.norm, f(3, 4), 1.0, [-1], free=2),
    total(aten.mean, f(2, 3, 4), [1], free=3),
    total(aten.mean, f(2, 3, 4), [-1, 1], True, free=3),
    total(aten.mean, f(2, 3), free=2),
    row(aten.nanmean, f(2, 3), [1], free=2),
    row(aten.var, f(2, 3), [1], True, free=2),
    row(aten.var, f(2, 3), True, free=2),
    row(aten.var, f(2, 3), [1], correction=0, keepdim=True, free=2),
    row(aten.std, f(2, 3), [1], free=2),
    row(aten.var_mean, f(2, 3, 4), [1], correction=1, free=3),
    row(aten.std_mean, f(2, 3, 4), [2], True, True, free=3),
    row(aten.logsumexp, f(2, 3), [1], silent=-INF, free=2),
    row(aten.special_logsumexp, f(2, 3), [1], True, silent=-INF, free=2),
    row(aten.amax, f(2, 3), [1], silent=-INF, free=2),
    row(aten.amax, f(2, 3), silent=-INF, free=2),
    row(aten.amin, f(2, 3), [1], True, silent=INF, free=2),
    row(aten.aminmax, f(2, 3), dim=1, free=2),
    row(aten.aminmax, f(2, 3), free=2),
    row(aten.prod, f(2, 3), 1, silent=1.0, free=2),
    row(aten.prod, f(2, 3), silent=1.0, free=2),
    row(aten.all, b(2, 3), 1, free=2),
    row(aten._is_all_true, b(2, 3), free=2, shape_only=True),
    row(aten._is_any_true, b(2, 3), free=2, shape_only=True),
    row(aten.max, f(2, 3), 1, free=2),
    row(aten.max, f(2, 3), 1, True, free=2),
    row(aten.max, f(2, 3), silent=-INF, free=2),
    row(aten.max, f(2, 3), f(3), free=2),
    row(aten.min, f(2, 1, 3), f(4, 3), free=3),
    row(aten.min, f(2, 3), 1, free=2),
    row(aten.argmax, f(2, 3), 1, free=1),
    row(aten.argmax, f(2, 3), 1, True, free=1),
    row(aten.argmax, f(2, 3)),
    row(aten.argmin, f(2, 3), 0, free=1),
    row(aten.topk, f(2, 5), 3),
    row(aten.topk, f(2, 5), 2, 0),
    row(aten.kthvalue, f(2, 5), 3, 1),
    row(aten.median, f(2, 5)),
    row(aten.median, f(2, 5), 1),
    row(aten.nanmedian, f(2, 5), 1),
    row(aten.mode, f(2, 5), 1),
    row(aten.sort, f(2, 5), free=1),
    row(aten.sort, f(2, 5), 0, True, free=1),
    row(aten.sort, f(2, 5), stable=True, dim=0, free=1),
    row(aten.argsort, f(2, 5), 1, free=1),
    row(aten.argsort, f(2, 5), stable=True, dim=0, free=1),
    row(aten.msort, f(3, 5), free=1),
    total(aten.cumsum, f(2, 5), 1, free=2),
    total(aten.cumsum_, f(2, 5), 0, free=2),
    row(aten.cumprod, f(2, 5), 1, free=1),
    row(aten.cummax, f(2, 5), 1, free=1),
    row(aten.cummin, f(2, 5), -1, free=1),
    row(aten.logcumsumexp, f(2, 5), 0, free=1),
    row(aten.diff, f(2, 5), free=1),
    row(aten.diff, f(4, 5), 2, 0, free=1),
    row(aten.linalg_norm, f(3, 4), 2),
    row(aten.linalg_norm, f(2, 3, 4), "nuc", [1, 2]),
    row(aten.linalg_matrix_norm, f(2, 3, 4)),
    row(aten.frobenius_norm, f(3, 4), [1]),
]

SHAPES = [
    row(aten.view, f(2, 12), [2, 3, 4], free=3),
    row(aten.view, f(2, 3, 4), [-1, 4], free=3),
    row(aten.view, f(2, 3, 4), [24], free=3),
    row(aten.view, f(6, 4), [2, 3, 2, 2], free=4),
    row(aten.view, f(4, 6), [3, 8]),
    row(aten.view, f(1, 6), [6, 1, 1], free=1),
    row(aten.reshape, f(2, 3, 4), [4, 6]),
    row(aten.reshape, f(2, 3, 4), [6, -1], free=3),
    row(aten._unsafe_view, f(2, 3, 4), [6, 4], free=3),
    row(aten.view_as, f(2, 12), f(2, 3, 4), free=6),
    row(aten.reshape_as, f(6, 4), f(2, 3, 4), free=6),
    row(aten.unflatten, f(2, 12), 1, [3, 4], free=3),
    row(aten.unflatten, f(2, 12), -1, [3, -1], free=3),
    row(aten.flatten, f(2, 3, 4), 1, free=3),
    row(aten.flatten, f(2, 3, 4), 0, 1, free=3),
    row(aten.flatten, f(2, 3, 4), free=3),
    row(aten.ravel, f(2, 3), free=2),
    row(aten.squeeze, f(2, 1, 3), least=2, free=1),
    row(aten.squeeze, f(2, 1, 3, 1), 1, free=2),
    row(aten.squeeze, f(2, 1, 3, 1), 0, free=1),
    row(aten.squeeze, f(2, 1, 3, 1), [1, 3], free=2),
    row(aten.unsqueeze, f(2, 3), 1, free=2),
    row(aten.unsqueeze, f(2, 3), -1, free=2),
    row(aten.permute, f(2, 3, 4), [2, 0, 1], free=3),
    row(aten.permute, f(2, 3, 4), [0, -1, 1], free=3),
    row(aten.transpose, f(2, 3, 4), 1, 2, free=3),
    row(aten.transpose, f(2, 3, 4), 0, -1, free=3),
    row(aten.transpose_, f(2, 3), 0, 1, free=2),
    row(aten.squeeze_, f(2, 1), 1, free=1),
    row(aten.unsqueeze_, f(2, 3), 1, free=2),
    row(aten.swapaxes_, f(2, 3), 0, 1, free=2),
    row(aten.swapdims_, f(2, 3), 0, 1, free=2),
    row(aten.swapaxes, f(2, 3), 0, 1, free=2),
    row(aten.swapdims, f(2, 3), 0, 1, free=2),
    row(aten.t, f(2, 3), free=2),
    row(aten.t, f(3), free=1),
    row(aten.t_, f(2, 3), free=2),
    row(aten.numpy_T, f(2, 3), free=2),
    row(aten.numpy_T, f(2, 3, 4), free=3),
    row(aten.mT, f(2, 3, 4), free=3),
    row(aten.mH, f(2, 3, 4), free=3),
    row(aten.adjoint, f(2, 3, 4), free=3),
    row(aten.matrix_H, f(3, 4), free=2),
    row(aten.movedim, f(2, 3, 4), 0, 2, free=3),
    row(aten.movedim, f(2, 3, 4), [0, 1], [-1, 0], free=3),
    row(aten.moveaxis, f(2, 3, 4), -1, 0, free=3),
    row(aten.expand, f(1, 3), [4, 3], free=2),
    row(aten.expand, f(3), [4, -1], free=2),
    row(aten.broadcast_to, f(3, 1), [2, 3, 4], free=3),
    row(aten.expand_as, f(1, 3), f(4, 3), free=3),
    row(aten.repeat, f(2, 3), [1, 2], free=3),
    row(aten.repeat, f(3), [4, 2], free=3),
    row(aten.tile, f(2, 3), [2], free=3),
    row(aten.repeat_interleave, f(2, 3), 4, 1, free=3),
    row(aten.repeat_interleave, f(2, 3), 4, -2, free=3),
    row(aten.repeat_interleave, f(2, 3), 4),
    row(aten.repeat_interleave, f(2, 3), i(4, 3), 1, free=1),
    row(aten.cat, [f(2, 3), f(2, 4)], 1, free=3),
    row(aten.cat, [f(2, 3), f(2, 3)], free=3),
    row(aten.cat, [f(0), f(2, 3)], 0, free=2),
    row(aten.concat, [f(2, 3), f(2, 4)], -1, free=3),
    row(aten.concatenate, [f(2, 3), f(2, 4)], 1, free=3),
    row(aten.stack, [f(2, 3), f(2, 3)], 1, free=2),
    row(aten.stack, [f(2, 3), f(2, 3)], -1, free=2),
    row(aten.hstack, [f(2, 3), f(2, 4)], free=3),
    row(aten.hstack, [f(3), f(4)], free=2),
    row(aten.vstack, [f(2, 3), f(4, 3)], free=3),
    row(aten.vstack, [f(3), f(3)], free=1),
    row(aten.hstack, [f(), f(3)], free=1),
    row(aten.dstack, [f(3), f(3)], free=1),
    row(aten.dstack, [f(2, 3), f(2, 3)], free=2),
    row(aten.dstack, [f(2, 3, 2), f(2, 3, 4)], free=4),
    row(aten.column_stack, [f(3), f(3, 2)], free=2),
    row(aten.split_with_sizes, f(2, 7), [3, 4], 1, free=3),
    row(aten.split_with_sizes, f(7, 2), [3, 4], free=3),
    row(aten.unsafe_split_with_sizes, f(7, 2), [3, 4], free=3),
    row(aten.split_with_sizes_copy, f(7, 2), [3, 4], free=3),
    row(aten.split, f(2, 6), 3, 1, free=3),
    row(aten.split, f(2, 8), 3, -1, free=1),
    row(aten.split, f(2, 3), 3, 1, free=2),
    row(aten.split, f(2, 7), [3, 4], 1, free=3),
    row(aten.unsafe_split, f(6, 2), 2, free=4),
    row(aten.chunk, f(2, 6), 3, 1, free=4),
    row(aten.chunk, f(2, 7), 3, 1),
    row(aten.chunk, f(2, 8), 2, -1, free=3),
    row(aten.unsafe_chunk, f(6, 2), 2, free=3),
    row(aten.tensor_split, f(6, 2), 3, free=4),
    row(aten.tensor_split, f(7, 2), 3, free=1),
    row(aten.tensor_split, f(7, 2), [2, 5]),
    row(aten.slice, f(2, 7), 1, 0, 3, free=3),
    row(aten.slice, f(2, 7), 1, 3, 9223372036854775807, free=3),
    row(aten.slice, f(2, 7), 1, 2, 5, free=4),
    row(aten.slice, f(2, 7), 1, -3, 9223372036854775807, free=3),
    row(aten.slice, f(2, 7), 1, 0, -3, free=3),
    row(aten.slice, f(2, 7), 1, 2, -3, free=4),
    row(aten.slice, f(2, 7), 1, -4, -3, free=3),
    row(aten.slice, f(2, 7), 1, 0, 9223372036854775807, 2, free=1),
    row(aten.slice, f(2, 8), 1, 1, 9223372036854775807, 2, free=2),
    row(aten.slice, f(2, 8), 1, 2, 9223372036854775807, 2, free=1),
    row(aten.slice, f(2, 8), 1, 0, 6, 2, free=1),
    row(aten.slice, f(2, 7), 0, 0, 2, free=2),
    row(aten.slice_copy, f(2, 7), 1, 0, 3, free=3),
    row(aten.narrow, f(2, 7), 1, 2, 3, free=4),
    row(aten.narrow, f(2, 7), 1, 0, 3, free=3),
    row(aten.narrow_copy, f(2, 7), 1, 2, 3, free=4),
    row(aten.select, f(2, 3), 1, 2, free=1),
    row(aten.select_copy, f(2, 3), -1, 0, free=1),
    row(aten.unbind, f(2, 3), 1, free=1),
    row(aten.unbind_copy, f(2, 3), free=1),
    row(aten.pad, f(2, 3), [1, 2], free=3),
    row(aten.pad, f(2, 3, 4), [0, 0, 2, 2], "constant", 1.0, free=5),
    row(aten.pad, f(2, 3, 4), [0, 0, 0, -1], free=2),
    row(aten.pad, f(2, 3, 4), [1, 1], "reflect", free=2),
    row(aten.constant_pad_nd, f(2, 3), [1, 2], free=3),
    row(aten.reflection_pad1d, f(2, 3, 4), [1, 1], free=2),
    row(aten.reflection_pad2d, f(2, 3, 4, 4), [1, 1, 1, 1], free=2),
    row(aten.reflection_pad3d, f(1, 2, 4, 4, 4), [1, 1, 1, 1, 0, 0], free=2),
    row(aten.replication_pad1d, f(2, 3, 4), [1, 1], free=2),
    row(aten.replication_pad2d, f(2, 3, 4, 4), [1, 1, 0, 0], free=3),
    row(aten.replication_pad3d, f(1, 2, 4, 4, 4), [1, 1, 0, 0, 1, 1], free=2),
    row(aten._pad_circular, f(2, 3, 4), [1, 1], free=2),
    row(aten.flip, f(2, 3), [1], free=1),
    row(aten.fliplr, f(2, 3), free=1),
    row(aten.flipud, f(2, 3), free=1),
    row(aten.roll, f(2, 3), [1], [1], free=1),
    row(aten.roll, f(2, 3), [1]),
    row(aten.rot90, f(2, 3, 4), 1, [1, 2], free=1),
    row(aten.tril, f(2, 3, 3), free=1),
    row(aten.triu, f(2, 3, 3), 1, free=1),
    row(aten.diagonal, f(2, 3, 3), 0, 1, 2),
    row(aten.diag, f(3)),
    row(aten.diag_embed, f(2, 3)),
    row(aten.linalg_diagonal, f(2, 3, 3)),
    row(aten.channel_shuffle, f(2, 6, 3, 3), 2, free=5),
    row(aten.native_channel_shuffle, f(2, 6, 3, 3), 2, free=5),
    row(aten.pixel_shuffle, f(2, 12, 3, 3), 2, free=2),
    row(aten.pixel_unshuffle, f(2, 3, 4, 4), 2, free=2),
    row(aten.unfold, f(2, 3, 6), 2, 3, 1, free=2),
    row(aten.im2col, f(2, 3, 4, 4), [2, 2], [1, 1], [0, 0], [1, 1], free=2),
    row(aten.im2col, f(3, 4, 4), [2, 2], [1, 1], [0, 0], [1, 1], free=1),
    row(aten.col2im, f(2, 12, 9), [4, 4], [2, 2], [1, 1], [0, 0], [1, 1], free=2),
    row(aten.meshgrid, [f(2), f(3)], indexing="ij"),
    row(aten.meshgrid, [f(2), f(3)]),
    row(aten.broadcast_tensors, [f(2, 1), f(3)], free=2),
    row(aten.cartesian_prod, [f(2), f(3)]),
    row(aten.combinations, f(4)),
    row(aten.atleast_1d, f(3)),
    row(aten.atleast_2d, f(3)),
    row(aten.atleast_3d, f(3, 2)),
    row(aten.view_as_complex, f(3, 2), free=1),
    row(aten.pad_sequence, [f(2, 3), f(4, 3)], True, free=1),
    row(aten.pad_sequence, [f(2, 3, 2), f(4, 3, 2)], free=2),
    row(aten.view_as_real, c(3, 2), free=2),
]

LOSSES = [
    row(aten.cross_entropy_loss, f(4, 3), i(3, 4)),
    row(aten.nll_loss, f(4, 3), i(3, 4)),
    row(aten.nll_loss_nd, f(4, 3), i(3, 4)),
    row(aten.nll_loss2d, f(2, 3, 4, 4), i(3, 2, 4, 4)),
    row(aten.ctc_loss, f(5, 2, 3), i(2, 2, 2), [5, 5], [2, 2]),
    row(aten.binary_cross_entropy, u(4, 3), u(4, 3)),
    row(aten.binary_cross_entropy_with_logits, f(4, 3), u(4, 3)),
    row(aten.kl_div, f(4, 3), u(4, 3)),
    row(aten.mse_loss, f(4, 3), f(4, 3)),
    row(aten.l1_loss, f(4, 3), f(4, 3)),
    row(aten.smooth_l1_loss, f(4, 3), f(4, 3)),
    row(aten.huber_loss, f(4, 3), f(4, 3)),
    row(aten.soft_margin_loss, f(4, 3), f(4, 3)),
    row(aten.multi_margin_loss, f(4, 3), i(3, 4)),
    row(aten.multilabel_margin_loss, f(4, 3), i(3, 4, 3)),
    row(aten.poisson_nll_loss, f(4, 3), p(4, 3), True, False, 1e-8, 1),
    row(aten.triplet_margin_loss, f(4, 3), f(4, 3), f(4, 3)),
    row(aten.cosine_embedding_loss, f(4, 3), f(4, 3), n(4)),
    row(aten.hinge_embedding_loss, f(4, 3), f(4, 3)),
    row(aten.margin_ranking_loss, f(4), f(4), f(4)),
]

FOURIER = [
    row(aten.fft_fft, f(3, 4), free=1),
    row(aten.fft_ifft, c(3, 4), None, 0, free=1),
    row(aten.fft_rfft, f(3, 4), 8, 1, "ortho", free=1),
    row(aten.fft_irfft, c(3, 4), 5, free=1),
    row(aten.fft_hfft, c(3, 4), free=1),
    row(aten.fft_ihfft, f(3, 4), free=1),
    row(aten.fft_fft2, c(2, 3, 4), free=1),
    row(aten.fft_rfft2, f(2, 3, 4, 5), None, [1, 2], free=2),
    row(aten.fft_irfft2, c(2, 3, 4, 5), [3, 4], [1, 2], free=2),
    row(aten.fft_ifft2, c(2, 3, 4), free=1),
    row(aten.fft_hfft2, c(2, 3, 4), free=1),
    row(aten.fft_ihfft2, f(2, 3, 4), free=1),
    row(aten.fft_hfftn, c(2, 3, 4), None, [2], free=2),
    row(aten.fft_ihfftn, f(2, 3, 4), None, [2], free=2),
    row(aten.fft_fftn, c(2, 3, 4)),
    row(aten.fft_ifftn, c(2, 3, 4), [3], free=2),
    row(aten.fft_rfftn, f(2, 3, 4), None, [0], free=2),
    row(aten.fft_irfftn, c(2, 3, 4), None, [-1], free=2),
    row(aten._fft_r2c, f(2, 3, 4), [1], 0, True, free=2),
    row(aten._fft_c2r, c(2, 3, 4), [2], 0, 6, free=2),
    row(aten._fft_c2c, c(2, 3, 4), [0, 1], 0, True, free=1),
    row(aten.fft_fftshift, f(2, 3, 4), [1], free=2),
    row(aten.fft_ifftshift, f(3, 4)),
]

INDEXING = [
    row(aten.index, f(5, 3, 4), [i(5, 2)], free=3),
    row(aten.index, f(5, 3, 4), [None, i(3, 2)], free=3),
    row(aten.index, f(5, 3, 4), [i(5, 2, 2), i(3, 2)], free=3),
    row(aten.index, f(5, 3, 4), [i(5, 2), None, i(4, 2)], free=2),
    row(aten.index, f(5, 3, 4), [None, i(3, 2), i(4, 2)], free=2),
    row(aten.index, f(5, 3, 4), [b(5)], free=2),
    row(aten.index, f(5, 3, 4), [b(5, 3)], free=1),
    row(aten.index, f(5, 3, 4), [None, b(3)], free=2),
    row(aten._unsafe_index, f(5, 3), [i(5, 2)], free=2),
    row(aten.index_put, f(5, 3), [i(5, 2)], f(2, 3), free=1),
    row(aten.index_put, f(5, 3), [i(5, 2)], f(3), free=1),
    row(aten.index_put_, f(5, 3), [None, i(3, 2)], f(5, 2), True, free=1),
    row(aten.index_put_, f(5, 3), [b(5)], f(3), free=1),
    row(aten._unsafe_index_put, f(5, 3), [i(5, 2)], f(2, 3), free=1),
    row(aten._index_put_impl_, f(5, 3), [i(5, 2)], f(2, 3), free=1),
    row(aten.index_select, f(5, 3), 0, i(5, 4), free=2),
    row(aten.index_select, f(5, 3), 1, i(3, 4), free=2),
    row(aten.take_along_dim, f(5, 3), i(5, 2, 3), 0, free=2),
    row(aten.gather, f(5, 3), 0, i(5, 2, 3), free=2),
    row(aten.gather, f(5, 3), 1, i(3, 5, 7), free=2),
    row(aten.gather, f(5, 3), 0, i(5, 2, 2), free=1),
    row(aten.scatter, f(5, 3), 0, i(5, 2, 3), f(2, 3), free=1),
    row(aten.scatter_, f(5, 3), 1, i(3, 5, 1), 1.0, free=1),
    row(aten.scatter_add, f(5, 3), 0, i(5, 4, 3), f(4, 3), free=1),
    row(aten.scatter_add_, f(5, 3), 0, i(5, 4, 3), f(4, 3), free=1),
    row(aten.scatter_reduce, f(5, 3), 0, i(5, 4, 3), f(4, 3), "amax", free=1),
    row(aten.scatter_reduce_, f(5, 3), 0, i(5, 4, 3), f(4, 3), "sum", free=1),
    row(aten.index_add, f(5, 3), 0, i(5, 4), f(4, 3), free=1),
    row(aten.index_add_, f(5, 3), 0, i(5, 4), f(4, 3), alpha=2.0, free=1),
    row(aten.index_copy, f(5, 3), 0, i(5, 1), f(1, 3), free=1),
    row(aten.index_copy_, f(5, 3), 1, i(3, 1), f(5, 1), free=1),
    row(aten.index_reduce, f(5, 3), 0, i(5, 4), f(4, 3), "prod", free=1),
    row(aten.index_reduce_, f(5, 3), 0, i(5, 4), f(4, 3), "amin", free=1),
    row(aten.index_fill, f(5, 3), 0, i(5, 2), 1.0, free=1),
    row(aten.index_fill_, f(5, 3), 1, i(3, 2), 1.0, free=1),
    row(aten.masked_scatter, f(2, 3), b(2, 3), f(6)),
    row(aten.masked_scatter_, f(2, 3), b(2, 3), f(6)),
    row(aten.masked_scatter, f(2, 3, 4), b(2, 3, 1), f(6, 4), free=1),
    row(aten.masked_scatter_, f(2, 3, 4), b(2, 1, 1), f(2, 3, 4), free=2),
    row(aten.masked_scatter, f(2, 3, 4), b(2, 3, 1), f(8, 3)),
    row(aten.masked_scatter, f(2, 3), b(1, 1), f(2, 3), free=1),
    row(aten.masked_select, f(2, 3), b(2, 3)),
    row(aten.nonzero, b(2, 3)),
    row(aten.nonzero_numpy, b(2, 3)),
    row(aten.argwhere, b(2, 3)),
    row(aten.take, f(2, 3), i(6, 4)),
    row(aten.unique_dim, f(2, 3), 0),
    row(aten._unique2, f(6)),
    row(aten.unique_consecutive, f(6)),
    row(aten.bincount, i(4, 6)),
    row(aten.histc, f(6)),
    row(aten.searchsorted, f(6), f(3)),
    row(aten.bucketize, f(3), f(6)),
    row(aten.segment_reduce, f(4, 3), "sum", offsets=i(1, 2), free=1),
    row(aten.embedding, f(7, 4), i(7, 2, 3), free=3),
    row(aten.embedding_bag, f(7, 4), i(7, 6), i(1, 2), False, 0, free=1),
    row(aten._embedding_bag, f(7, 4), i(7, 6), i(1, 2), free=1),
    row(aten._embedding_bag_forward_only, f(7, 4), i(7, 6), i(1, 2), free=1),
    row(aten.one_hot, i(4, 5), 4, free=1),
    row(aten.multinomial, p(2, 4), 2, shape_only=True),
]

SPACE = [
    row(aten.avg_pool1d, f(2, 3, 4), [2], free=2),
    row(aten.avg_pool2d, f(2, 3, 4, 4), [2, 2], free=2),
    row(aten.avg_pool2d, f(3, 4, 4), [2, 2], free=1),
    row(aten.avg_pool3d, f(1, 3, 4, 4, 4), [2, 2, 2], free=1),
    row(aten.adaptive_avg_pool1d, f(2, 3, 4), [2], free=2),
    row(aten.adaptive_avg_pool2d, f(2, 3, 4, 4), [1, 1], free=2),
    row(aten._adaptive_avg_pool2d, f(2, 3, 4, 4), [3, 2], free=2),
    row(aten.adaptive_avg_pool3d, f(1, 3, 4, 4, 4), [1, 2, 2], free=1),
    row(aten._adaptive_avg_pool3d, f(1, 3, 4, 4, 4), [1, 2, 2], free=1),
    row(aten.adaptive_max_pool1d, f(2, 3, 4), [2], free=2),
    row(aten.adaptive_max_pool2d, f(2, 3, 4, 4), [2, 2], free=2),
    row(aten.adaptive_max_pool3d, f(1, 3, 4, 4, 4), [2, 2, 2], free=1),
    row(aten.max_pool1d, f(2, 3, 4), [2], free=2),
    row(aten.max_pool2d, f(2, 3, 4, 4), [2, 2], free=2),
    row(aten.max_pool3d, f(1, 3, 4, 4, 4), [2, 2, 2], free=1),
    row(aten.max_pool1d_with_indices, f(2, 3, 4), [2], free=2),
    row(aten.max_pool2d_with_indices, f(2, 3, 4, 4), [2, 2], free=2),
    row(aten.max_pool3d_with_indices, f(1, 3, 4, 4, 4), [2, 2, 2], free=1),
    row(aten.fractional_max_pool2d, f(2, 3, 6, 6), [2, 2], [3, 3], u(2, 3, 2)),
    row(aten.fractional_max_pool3d, f(1, 3, 6, 6, 6), [2, 2, 2], [3, 3, 3], u(1, 3, 3)),
    row(aten.max_unpool2d, f(2, 3, 2, 2), i(16, 2, 3, 2, 2), [4, 4], free=2),
    row(
        aten.max_unpool3d,
        f(1, 3, 2, 2, 2),
        i(64, 1, 3, 2, 2, 2),
        [4, 4, 4],
        [2, 2, 2],
        [0, 0, 0],
        free=1,
    ),
    row(aten.upsample_nearest1d, f(2, 3, 4), [8], free=2),
    row(aten.upsample_nearest2d, f(2, 3, 4, 4), [8, 8], free=2),
    row(aten.upsample_nearest3d, f(1, 3, 2, 2, 2), [4, 4, 4], free=1),
    row(aten._upsample_nearest_exact1d, f(2, 3, 4), [8], free=2),
    row(aten._upsample_nearest_exact2d, f(2, 3, 4, 4), [8, 8], free=2),
    row(aten._upsample_nearest_exact3d, f(1, 3, 2, 2, 2), [4, 4, 4], free=1),
    row(aten.upsample_linear1d, f(2, 3, 4), [8], False, free=2),
    row(aten.upsample_bilinear2d, f(2, 3, 4, 4), [8, 8], False, free=2),
    row(aten.upsample_bilinear2d, f(2, 3, 4, 4), None, True, [2.0, 2.0], free=2),
    row(aten.upsample_bicubic2d, f(2, 3, 4, 4), [8, 8], False, free=2),
    row(aten.upsample_trilinear3d, f(1, 3, 2, 2, 2), [4, 4, 4], False, free=1),
    row(aten._upsample_bilinear2d_aa, f(2, 3, 4, 4), [2, 2], False, free=2),
    row(aten._upsample_bicubic2d_aa, f(2, 3, 4, 4), [2, 2], False, free=2),
    row(aten.grid_sampler, f(2, 3, 4, 4), f(2, 5, 5, 2), 0, 0, False, free=2),
    row(aten.grid_sampler_2d, f(2, 3, 4, 4), f(2, 5, 5, 2), 0, 0, False, free=2),
    row(aten.grid_sampler_3d, f(2, 3, 4, 4, 4), f(2, 5, 5, 5, 3), 0, 0, False, free=2),
    row(aten.affine_grid_generator, f(2, 2, 3), [2, 3, 4, 4], False),
    row(tv.nms, p(5, 4), p(5), 0.5),
    row(tv.roi_align, f(2, 3, 8, 8), u(4, 5), 1.0, 2, 2, 1, False, free=1),
    row(tv.roi_pool, f(2, 3, 8, 8), u(4, 5), 1.0, 2, 2, free=1),
    row(tv.ps_roi_align, f(2, 12, 8, 8), u(4, 5), 1.0, 2, 2, 1),
    row(tv.ps_roi_pool, f(2, 12, 8, 8), u(4, 5), 1.0, 2, 2),
]


def _layer(gates: int, inputs: int, hidden: int, out: int | None = None) -> list[Spec]:
    """The parameters of one direction of one recurrent layer."""
    state = hidden if out is None else out
    plain = [f(gates * hidden, inputs), f(gates * hidden, state), f(gates * hidden)]
    return [*plain, f(gates * hidden), *([f(out, hidden)] if out is not None else [])]


SEQUENCES = [
    total(aten.scaled_dot_product_attention, f(2, 3, 4, 5), f(2, 3, 6, 5), f(2, 3, 6, 7), free=6),
    total(aten.scaled_dot_product_attention, f(2, 4, 5), f(2, 6, 5), f(2, 6, 7), scale=0.3, free=5),
    total(
        aten.scaled_dot_product_attention,
        f(2, 3, 4, 5),
        f(2, 3, 6, 5),
        f(2, 3, 6, 7),
        f(2, 1, 4, 6),
        scale=0.3,
        free=6,
    ),
    total(
        aten.scaled_dot_product_attention,
        f(2, 3, 4, 5),
        f(2, 3, 6, 5),
        f(2, 3, 6, 7),
        f(4, 6),
        scale=0.3,
        free=6,
    ),
    total(
        aten.scaled_dot_product_attention,
        f(1, 6, 4, 5),
        f(1, 3, 4, 5),
        f(1, 3, 4, 5),
        is_causal=True,
        enable_gqa=True,
        scale=0.3,
        free=4,
    ),
    total(
        aten.lstm,
        f(5, 2, 3),
        [f(1, 2, 4), f(1, 2, 4)],
        _layer(4, 3, 4),
        True,
        1,
        0.0,
        False,
        False,
        False,
        free=3,
    ),
    total(
        aten.lstm,
        f(2, 5, 3),
        [f(4, 2, 4), f(4, 2, 4)],
        [*_layer(4, 3, 4), *_layer(4, 3, 4), *_layer(4, 8, 4), *_layer(4, 8, 4)],
        True,
        2,
        0.0,
        False,
        True,
        True,
        free=3,
    ),
    total(
        aten.lstm,
        f(5, 2, 3),
        [f(1, 2, 2), f(1, 2, 4)],
        _layer(4, 3, 4, 2),
        True,
        1,
        0.0,
        False,
        False,
        False,
        free=3,
    ),
    total(
        aten.gru,
        f(5, 2, 3),
        f(2, 2, 4),
        [*_layer(3, 3, 4), *_layer(3, 4, 4)],
        True,
        2,
        0.0,
        False,
        False,
        False,
        free=3,
    ),
    total(
        aten.rnn_tanh,
        f(5, 2, 3),
        f(1, 2, 4),
        _layer(1, 3, 4),
        True,
        1,
        0.0,
        False,
        False,
        False,
        free=3,
    ),
    total(
        aten.rnn_relu,
        f(5, 2, 3),
        f(2, 2, 4),
        [*_layer(1, 3, 4)[:2], *_layer(1, 3, 4)[:2]],
        False,
        1,
        0.0,
        False,
        True,
        False,
        free=3,
    ),
    total(aten.lstm_cell, f(2, 3), [f(2, 4), f(2, 4)], *_layer(4, 3, 4), free=3),
    total(aten.gru_cell, f(2, 3), f(2, 4), *_layer(3, 3, 4), free=3),
    total(aten.rnn_tanh_cell, f(2, 3), f(2, 4), *_layer(1, 3, 4), free=3),
    total(aten.rnn_relu_cell, f(2, 3), f(2, 4), *_layer(1, 3, 4), free=3),
    row(aten._pack_padded_sequence, f(5, 2, 3), n(2), False, free=1),
]

CREATION = [
    row(aten.zeros, [2, 3], free=2),
    row(aten.ones, [3], free=1),
    row(aten.full, [2, 3], 1.5, free=2),
    row(aten.empty, [2, 3], shape_only=True, free=2),
    row(aten.new_zeros, f(2), [2, 3], free=3),
    row(aten.new_ones, f(2), [3], free=2),
    row(aten.new_full, f(2), [3], 1.5, free=2),
    row(aten.new_empty, f(2), [3], shape_only=True, free=2),
    row(aten.zeros_like, f(2, 3), free=2),
    row(aten.ones_like, f(2, 3), free=2),
    row(aten.full_like, f(2, 3), 2.5, free=2),
    row(aten.empty_strided, [2, 3], [3, 1], shape_only=True),
    row(aten.new_empty_strided, f(2), [2, 3], [3, 1], shape_only=True, free=1),
    row(aten.empty_like, f(2, 3), shape_only=True, free=2),
    row(aten.arange, 4),
    row(aten.linspace, 0.0, 1.0, 4),
    row(aten.logspace, 0.0, 1.0, 4),
    row(aten.range, 0.0, 3.0),
    row(aten.eye, 3),
    row(aten.randperm, 4),
    row(aten.rand, [2, 3]),
    row(aten.randn, [2, 3]),
    row(aten.randint, 5, [2, 3]),
    row(aten.normal, 0.0, 1.0, [2, 3]),
    row(aten.rand_like, f(2, 3)),
    row(aten.randn_like, f(2, 3)),
    row(aten.randint_like, f(2, 3), 5),
    row(aten.bernoulli, u(2, 3)),
    row(aten.bernoulli_, f(2, 3), 0.5),
    row(aten.uniform_, f(2, 3)),
    row(aten.normal_, f(2, 3)),
    row(aten.log_normal_, f(2, 3)),
    row(aten.exponential_, f(2, 3)),
    row(aten.random_, f(2, 3)),
    row(aten.cauchy_, f(2, 3)),
    row(aten.geometric_, f(2, 3), 0.5),
    row(aten.poisson, p(2, 3)),
    row(aten.binomial, p(2, 3), u(2, 3)),
    row(aten._standard_gamma, p(2, 3)),
    row(aten.normal, f(2, 1), p(3)),
    row(aten.tril_indices, 3, 3),
    row(aten.triu_indices, 3, 3),
    row(aten.hann_window, 4),
    row(aten.hamming_window, 4),
    row(aten.scalar_tensor, 1.0),
    row(aten._efficientzerotensor, [2, 3]),
]

POINTWISE = [
    row(aten.add, f(2, 3), f(2, 3), free=2),
    row(aten.add, f(2, 1, 3), f(4, 1), free=3),
    row(aten.add_, f(2, 3), f(3), free=2),
    row(aten.mul, f(2, 3), 2.0, free=2),
    row(aten.where, b(2, 3), f(3), f(2, 1), free=2),
    row(aten.where, b(2, 3), f(3), 0.0, free=2),
    row(aten.masked_fill, f(2, 3), b(3), -1.0, free=2),
    row(aten.masked_fill_, f(2, 3), b(2, 3), -1.0, free=2),
    row(aten.copy_, f(2, 3), f(3), free=2),
    row(aten.copy_, f(2, 3), f(2, 3), free=2),
    row(aten.addcmul, f(2, 3), f(3), f(2, 1), free=2),
    row(aten.lerp, f(2, 3), f(2, 3), 0.3, free=2),
    row(aten.clamp, f(2, 3), p(3), free=2),
    row(aten.dropout, f(2, 3), 0.5, False, free=2),
    row(aten.feature_dropout, f(2, 3, 4), 0.5, False, free=3),
    row(aten.prelu, f(2, 3, 4), f(3), free=3),
    row(aten.prelu, f(2, 3), f(1), free=2),
    row(aten._prelu_kernel, f(2, 3, 4), f(1, 3, 1), free=3),
    row(aten.glu, f(2, 6), -1, free=2),
    row(aten.glu, f(6, 2), 0, free=2),
    row(aten.to, f(2, 3), torch.float32, free=2),
    row(aten.type_as, f(2, 3), f(4), free=3),
    row(aten.clone, f(2, 3), free=2),
    row(aten.zero_, f(2, 3), free=2),
    row(aten.fill_, f(2, 3), 1.0, free=2),
    row(aten.polar, p(2, 3), f(2, 3), free=2),
    row(aten.complex, f(2, 3), f(3), free=2),
    row(aten.type_as, f(2, 3), f(2, 3), free=4),
    row(aten.to, f(2, 3), f(2, 3), free=4),
    row(aten.where, b(2, 3)),
    row(aten.isclose, f(2, 3), f(3), free=2),
    row(aten.softplus, f(2, 3), free=2),
    row(aten.gelu, f(2, 3), approximate="tanh", free=2),
]

TABLE = [
    *CONTRACTIONS, *CONVOLUTIONS, *NORMS, *REDUCTIONS, *SHAPES, *LOSSES, *FOURIER, *INDEXING,
    *SPACE, *SEQUENCES, *CREATION, *POINTWISE,
]  # fmt: skip


@pytest.mark.parametrize("row", [r for r in TABLE if r.op is not None], ids=str)
def test_rule_is_what_the_operator_does(row: Row) -> None:
    assert holds(row) == row.free


# -- all element-wise operators -------------------------------------------------------------------
def _elementwise() -> Iterator[Any]:
    """Overloads that count as element-wise and take one to three tensors, nothing else."""
    for name in dir(torch.ops.aten):
        packet = getattr(torch.ops.aten, name)
        for overload in packet.overloads() if hasattr(packet, "overloads") else ():
            op = getattr(packet, overload)
            required = [a for a in op._schema.arguments if not a.has_default_value()]
            tensors = all(str(a.type) == "Tensor" and not a.kwarg_only for a in required)
            tensors = tensors and all(str(a.type) == "Tensor" for a in op._schema.returns)
            if name in ("to", "type_as"):
                continue  # rows above: the second tensor lends its type only
            registered = op in RULES or packet in RULES
            if is_pointwise(op) and not registered and tensors and 1 <= len(required) <= 3:
                yield op, len(required)


# Random numbers or unset memory: nothing to compare but shapes.
_NOISE = {"empty_like", "rrelu", "rrelu_"}
_KINDS: tuple[Callable[..., Spec], ...] = (f, p, u, lambda *shape: i(5, *shape), b, c)


@pytest.mark.parametrize("op, count", list(_elementwise()), ids=str)
def test_elementwise_operators(op: Any, count: int) -> None:
    name = op._schema.name.removeprefix("aten::")
    for kind in _KINDS:
        args = [kind(2, 3), kind(1, 3), kind(3)][:count]
        try:
            Case(Row(op, tuple(args)))
        except (RuntimeError, NotImplementedError, IndexError, TypeError):
            continue  # not for this type of element
        assert holds(Row(op, tuple(args), shape_only=name in _NOISE)) == 2
        return
    pytest.skip("takes other tensors than these")


# -- the registry ---------------------------------------------------------------------------------
# Registered, but no row: why.
NO_ROW = {
    "_grouped_mm": "single precision, and strides of 16 bytes",
    "_reshape_alias": "its strides argument is computed by reshape itself",
    "_pad_packed_sequence": "needs batch sizes as the operator before it made them",
    "_sparse_mm": "takes sparse tensors: a network in test_oracle.py",
    "cudnn_batch_norm": "needs cuDNN",
    "mkldnn_max_pool2d": "needs MKL-DNN tensors",
    "mkldnn_max_pool3d": "needs MKL-DNN tensors",
}


def test_every_rule_has_a_row() -> None:
    tried = {str(r.op) for r in TABLE} | {str(op.overloadpacket) for op, _ in _elementwise()}
    missing = {str(getattr(op, "overloadpacket", op)) for op in RULES} - tried
    assert {name.partition(".")[2] for name in missing} <= set(NO_ROW)


def test_the_oracle_catches_a_wrong_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RULES, torch.ops.aten.flip, lambda x, dims: x.axes)
    with pytest.raises(AssertionError, match="not close"):
        holds(row(aten.flip, f(2, 3), [1]))


def test_the_oracle_catches_a_failing_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RULES, torch.ops.aten.flip, lambda x, dims: x.axes[:1])
    with pytest.raises(AssertionError, match="the rule failed"):
        holds(row(aten.flip, f(2, 3), [1]))


def test_an_unknown_operator_pins_what_it_touches() -> None:
    case = Case(row(aten.linalg_inv, f(3, 3)))
    assert case.facts.unknown == {"aten.linalg_inv.default": 1}
    assert case.free() == []


def test_a_rule_of_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RULES, torch.ops.aten.linalg_inv, None)  # taken out again afterwards

    @rule(torch.ops.aten.linalg_inv)
    def _(x: Any) -> Any:
        return x.axes

    assert len(Case(row(aten.linalg_inv, f(3, 3))).free()) == 2
