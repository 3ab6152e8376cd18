"""Seconds as a function of widths: operators measured at some widths, the rest in between.

Every operator of the captured pass that computes something is measured by itself, on the machine at
hand, at a grid of the widths it depends on (its input and its output channels, say); between grid
points time is interpolated, linearly in every width. Two corrections make it usable for planning:

- **Monotone lower envelope.** Where an operator is slower at a smaller width, the planner takes the
  larger one instead, so the time at a width is the least time at that width or any larger:
  t(w) = min over w' >= w of measured(w'). Prediction therefore never falls when a width rises.
- **Calibration.** Operators in a model find other caches than alone, and Python takes its time
  between them. The sum is scaled so that it is right for the unpruned model, which is timed; once
  pruned models have been timed as well, a line is laid through all of them.

Widths that a machine likes are found out, too (`multiples`): an operator is timed at widths of an
odd number, twice an odd number, four times, …; the finest of these that costs no more than its
share of the work is what widths are rounded to.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import gcd, prod
from typing import Any

import numpy as np
import torch

from sentei.allocation.formula import Formulas
from sentei.allocation.movable import Together
from sentei.allocation.table import LatencyTable
from sentei.graph.axis import Dim
from sentei.graph.cost import CONTRACTIONS, allocates, copies
from sentei.graph.groups import Groups
from sentei.graph.tape import Node, Value
from sentei.graph.ties import Poly, size_of

__all__ = ["Latency", "Timing", "envelope", "interpolate", "slower_than_larger"]

# Shares of the whole width at which an operator is measured, by how many widths it depends on.
_SHARES: dict[int, tuple[float, ...]] = {
    0: (),
    1: (1 / 16, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 5 / 8, 3 / 4, 7 / 8, 1),
    2: (1 / 8, 1 / 4, 1 / 2, 3 / 4, 1),
    3: (1 / 4, 1 / 2, 1),
}
_MULTIPLES = (1, 2, 4, 8, 16)
# Two times that differ by less are equal, as far as measurement can tell.
_NOISE = 0.05
_EXCESS = 0.05


@dataclass(frozen=True)
class Timing:
    """Seconds of a forward pass on the example input.

    before, after: measured, in turns, the fastest of many runs; after is None in a dry run.
    predicted: of the pruned model, from the table.
    rounds: plans that were timed until one met the target.
    machine: where: device, processor, threads, version of PyTorch.
    """

    before: float
    predicted: float
    after: float | None
    rounds: int
    machine: dict[str, Any] = field(default_factory=dict)

    @property
    def speedup(self) -> float:
        """Measured time before over after; predicted where nothing was measured."""
        return self.before / (self.predicted if self.after is None else self.after)


def envelope(times: np.ndarray) -> np.ndarray:
    """The least time at these widths or larger ones, along every axis.

    >>> envelope(np.array([1.0, 3.0, 2.0, 4.0])).tolist()
    [1.0, 2.0, 2.0, 4.0]
    """
    for axis in range(times.ndim):
        flipped = np.flip(times, axis)
        times = np.flip(np.minimum.accumulate(flipped, axis), axis)
    return times


def interpolate(levels: Sequence[np.ndarray], times: np.ndarray, at: Sequence[float]) -> float:
    """Times between grid points, linear in each width; below the grid, its lowest level.

    Args:
        levels: for each axis of `times`, its widths, ascending.

    >>> interpolate([np.array([2.0, 4.0])], np.array([1.0, 2.0]), [3.0])
    1.5
    """
    for own, width in zip(levels, at, strict=True):
        i = int(np.searchsorted(own, width))
        if i == 0:
            times = times[0]
        elif i == len(own):
            times = times[-1]
        else:
            part = (width - own[i - 1]) / (own[i] - own[i - 1])
            times = times[i - 1] * (1 - part) + times[i] * part
    return float(times)


def slower_than_larger(times: np.ndarray, noise: float = _NOISE) -> np.ndarray:
    """Which of these times, of ascending widths, lie above that of a larger width.

    >>> slower_than_larger(np.array([1.0, 3.0, 2.0, 2.5])).tolist()
    [False, True, False, False]
    """
    best = np.minimum.accumulate(times[::-1])[::-1]
    return np.append(times[:-1] > (1 + noise) * best[1:], False)


@dataclass(frozen=True, eq=False)
class _Tensor:
    """A tensor operand: sizes as polynomials in widths."""

    sizes: tuple[Poly, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class _Shape:
    """A tensor operand of a certain size."""

    sizes: tuple[int, ...]
    dtype: torch.dtype

    def __repr__(self) -> str:
        return f"{str(self.dtype).removeprefix('torch.')}{list(self.sizes)}"


@dataclass(frozen=True, eq=False)
class _Operator:
    """An operator as a function of the widths it depends on.

    bases: what it depends on; every size in it is a constant, or one of these times an integer.
    """

    op: Any
    args: Any
    kwargs: Any
    bases: tuple[Poly, ...]
    node: Node

    def at(self, widths: Sequence[int]) -> tuple[str, Callable[[], Callable[[], Any]]]:
        """Its signature with bases of these widths, and what builds its run."""
        known = {base.terms: n for base, n in zip(self.bases, widths, strict=True)}

        def number(poly: Poly) -> int:
            if poly.is_constant:
                return poly.value(_whole)
            base, times = _normal(poly)
            return known[base.terms] * times

        def fill(tree: Any) -> Any:
            if isinstance(tree, _Tensor):
                return _Shape(tuple(number(p) for p in tree.sizes), tree.dtype)
            if isinstance(tree, Poly):
                return number(tree)
            if isinstance(tree, (tuple, list)):
                items = [fill(x) for x in tree]
                # A list of sizes may come with a whole float in it, which calls by hand refuse.
                if any(type(x) is int for x in items):
                    return [int(x) if type(x) is float and x.is_integer() else x for x in items]
                return items
            if isinstance(tree, dict):
                return {k: fill(v) for k, v in tree.items()}
            if isinstance(tree, bool) or not isinstance(tree, (int, float)):
                return tree
            return int(tree) if isinstance(tree, int) else float(tree)

        args, kwargs = fill(self.args), fill(self.kwargs)
        inside = ", ".join([*map(repr, args), *(f"{k}={v!r}" for k, v in kwargs.items())])
        return f"{self.op}({inside})", lambda: self._build(args, kwargs)

    device: torch.device = field(default=torch.device("cpu"))

    def _build(self, args: Any, kwargs: Any) -> Callable[[], Any]:
        def make(tree: Any) -> Any:
            if isinstance(tree, _Shape):
                return _filled(tree, self.device)
            if isinstance(tree, list):
                return [make(x) for x in tree]
            if isinstance(tree, dict):
                return {k: make(v) for k, v in tree.items()}
            return tree

        operands, options = make(args), make(kwargs)
        if "device" in options and options["device"] is not None:
            options["device"] = self.device
        return lambda: self.op(*operands, **options)


class _Measured:
    """An operator with its grid of times."""

    def __init__(self, operator: _Operator) -> None:
        self.operator = operator
        whole = [base.value(_whole) for base in operator.bases]
        owners = [d for base in operator.bases for d in base.dims]
        self.whole: np.ndarray | None = None
        if len(whole) <= max(_SHARES) and len(owners) == len(set(owners)):
            self.levels = [_levels(n, _SHARES[len(whole)]) for n in whole]
            self.points = list(itertools.product(*(own.tolist() for own in self.levels)))
        else:  # too many widths for a grid, or one holds another: all of them by their mean share
            self.whole = np.array(whole)
            self.points = [
                tuple(b.value(lambda d, s=s: max(1, round(s * d.size))) for b in operator.bases)
                for s in _SHARES[2]
            ]
            self.levels = [np.array([(np.array(p) / self.whole).mean() for p in self.points])]
        self.shape = tuple(len(own) for own in self.levels)
        self.signatures: list[str] = []

    def runs(self) -> dict[str, Any]:
        found = [self.operator.at(point) for point in self.points]
        self.signatures = [signature for signature, _ in found]
        return dict(found)

    def fill(self, known: Mapping[str, float | None]) -> bool:
        """Take the times from the table; False where one could not be measured."""
        times = [known[signature] for signature in self.signatures]
        if any(t is None for t in times):
            self.raw = self.smooth = np.zeros(self.shape)
            return False
        self.raw = np.array(times, dtype=float).reshape(self.shape)
        self.smooth = envelope(self.raw)
        return True

    def doubted(self, known: Mapping[str, float | None]) -> list[str]:
        """What was slower than a larger one: it is, or was disturbed."""
        if not self.fill(known):
            return []
        slower = self.raw > (1 + _NOISE) * self.smooth
        return list(itertools.compress(self.signatures, slower.ravel()))

    def time(self, widths: Sequence[float], raw: bool = False) -> float:
        times = self.raw if raw else self.smooth
        if self.whole is not None:
            widths = [float((np.array(widths) / self.whole).mean())]
        return interpolate(self.levels, times, widths)


class Latency:
    """Predicted seconds of one forward pass, for any widths.

    Args:
        groups: of the model. table: where times come from.
        measured: seconds of the unpruned model, to calibrate; none: the plain sum of operators.
    """

    def __init__(self, groups: Groups, table: LatencyTable, measured: float | None = None) -> None:
        self.groups, self.table = groups, table
        operators = _operators(groups, table.device)
        by_pattern: dict[tuple[str, tuple[Any, ...]], _Measured] = {}
        self.places: list[_Measured] = []
        runs: dict[str, Any] = {}
        for operator in operators:
            # The same operator at the same shapes that follow the same widths: counted twice.
            signature, _ = operator.at([b.value(_whole) for b in operator.bases])
            pattern = (signature, tuple(b.terms for b in operator.bases))
            if pattern not in by_pattern:
                by_pattern[pattern] = _Measured(operator)
                runs |= by_pattern[pattern].runs()
            self.places.append(by_pattern[pattern])
        self.patterns = list(by_pattern.values())
        table.measure(
            runs, doubted=lambda: itertools.chain(*(p.doubted(table.known) for p in self.patterns))
        )
        self.unmeasured = sorted(
            {str(p.operator.op) for p in self.patterns if not p.fill(table.known)}
        )
        self.counts = [sum(p is q for q in self.places) for p in self.patterns]
        self.line = (1.0, 0.0)  # factor on the sum of operators, and what is added
        self._points: list[tuple[float, float]] = []
        if measured is not None:
            self.calibrate(lambda dim: dim.size, measured)

    def calibrate(self, kept: Callable[[Dim], int], measured: float) -> None:
        """Learn that a model of these widths took `measured` seconds."""
        scale, offset = self.line
        whole = (self.of(kept) - offset) / scale
        if whole <= 0:
            return
        self._points.append((whole, measured))
        x, y = np.array(self._points).T
        self.line = measured / whole, 0.0
        if np.ptp(x) > 0:
            slope, level = np.polyfit(x, y, 1)
            if slope > 0 and level >= 0:  # else noise: trust the last
                self.line = float(slope), float(level)

    def of(self, kept: Callable[[Dim], int]) -> float:
        """Seconds when `kept(dim)` units remain of each dim."""
        scale, offset = self.line
        return offset + scale * sum(
            n * p.time([b.value(kept) for b in p.operator.bases])
            for p, n in zip(self.patterns, self.counts, strict=True)
        )

    def compiled(self, dims: Mapping[Dim, int]) -> Callable[[np.ndarray], float]:
        """The same as a function of the widths of `dims`, in their order."""
        return self._compiled(dims, range(len(self.patterns)), raw=False)

    def _compiled(
        self, dims: Mapping[Dim, int], chosen: Iterable[int], raw: bool
    ) -> Callable[[np.ndarray], float]:
        place: dict[Any, int] = {}
        bases: list[Poly] = []
        parts: list[tuple[_Measured, int, list[int]]] = []
        for i in chosen:
            pattern = self.patterns[i]
            own = []
            for base in pattern.operator.bases:
                if base.terms not in place:
                    place[base.terms] = len(bases)
                    bases.append(base)
                own.append(place[base.terms])
            parts.append((pattern, self.counts[i], own))
        formulas = Formulas(bases, dims)
        scale, offset = self.line

        def seconds(widths: np.ndarray) -> float:
            values = formulas(widths).astype(float).tolist()
            total = 0.0
            for pattern, count, own in parts:
                total += count * pattern.time([values[i] for i in own], raw)
            return offset + scale * total

        return seconds

    def slower(self, together: Together, rungs: np.ndarray) -> np.ndarray:
        """Which numbers of shares are slower than a larger one, all other widths being whole."""
        dims = {g.dim: i for i, g in enumerate(together.members)}
        touched = [
            i
            for i, p in enumerate(self.patterns)
            if any(d in dims for b in p.operator.bases for d in b.dims)
        ]
        seconds = self._compiled(dims, touched, raw=True)
        unit = np.array([g.size // together.shares for g in together.members])
        return slower_than_larger(np.array([seconds(unit * n) for n in rungs]))

    # -- widths the machine likes ---------------------------------------------------------------
    def multiples(self) -> dict[str, int]:
        """Group name -> the finest multiple at which its contractions run at full speed.

        1 where no contraction is wide enough to tell.
        """
        by_kind: dict[str, list[_Operator]] = {}
        for pattern in self.patterns:
            if _kind(pattern.operator) and _anchors(pattern.operator) is not None:
                by_kind.setdefault(_kind(pattern.operator), []).append(pattern.operator)
        liked = {kind: self._liked(operators) for kind, operators in by_kind.items()}
        found: dict[str, int] = {}
        for group in self.groups.values():
            kinds = {
                _kind(p.operator)
                for p in self.patterns
                if any(group.dim in b.dims for b in p.operator.bases)
            }
            most = max((liked.get(kind, 1) for kind in kinds), default=1)
            # A quarter of the width at most, or there is nothing left to choose from.
            while most > 1 and most * 4 > _whole_width(group.dim, self.patterns):
                most //= 2
            found[group.name] = most
        return found

    def _liked(self, operators: list[_Operator], samples: int = 3) -> int:
        """The finest multiple that costs no more than its share, for the largest operators."""
        largest = sorted(operators, key=_work, reverse=True)[:samples]
        offsets = (0, *_MULTIPLES, 32)
        runs: dict[str, Any] = {}
        table: list[list[tuple[str, float]]] = []
        for operator in largest:
            row = []
            for offset in offsets:
                widths = [n + offset for n in _anchors(operator) or ()]
                signature, build = operator.at(widths)
                runs[signature] = build
                row.append((signature, float(prod(widths))))
            table.append(row)
        self.table.measure(runs)
        excess: dict[int, list[float]] = {}
        for row in table:
            times = [self.table.known.get(signature) for signature, _ in row]
            seconds = np.array([np.nan if t is None else t for t in times])
            work = np.array([w for _, w in row])
            # What each would cost if time were linear in the work between both ends.
            fair = np.interp(work, work[[0, -1]], seconds[[0, -1]])
            for offset, more in zip(offsets[1:-1], (seconds / fair - 1)[1:-1], strict=True):
                if np.isfinite(more):
                    excess.setdefault(offset, []).append(float(more))
        if not excess:
            return 1
        chosen = _MULTIPLES[-1]
        for multiple in reversed(_MULTIPLES):
            if float(np.median(excess[multiple])) > _EXCESS:
                break
            chosen = multiple
        return chosen


# -- operators from the tape ----------------------------------------------------------------------
def _operators(groups: Groups, device: torch.device) -> list[_Operator]:
    """The operators of the evaluation pass that compute something."""
    analysis = groups.analysis
    needs: dict[int, dict[int, Any]] = {}
    for need in analysis.facts.needs:
        needs.setdefault(id(need.node), {})[id(need.size)] = need.axis
    tape = analysis.tapes[0]
    moved, fresh = copies(tape), allocates(tape)
    found = []
    for i, node in enumerate(tape.nodes):
        if not node.outputs or not (i in fresh or node.op._schema.is_mutable):
            continue
        own = needs.get(id(node), {})
        bases: dict[Any, Poly] = {}

        def follow(tree: Any, own: dict[int, Any] = own, bases: dict[Any, Poly] = bases) -> Any:
            def poly(axis: Any) -> Poly:
                size = size_of(axis)
                if not size.is_constant:
                    base, _ = _normal(size)
                    bases.setdefault(base.terms, base)
                return size

            if isinstance(tree, Value):
                return _Tensor(tuple(poly(a) for a in analysis.axes(tree)), tree.dtype)
            if isinstance(tree, bool):
                return tree
            if isinstance(tree, int) and id(tree) in own:
                return poly(own[id(tree)])
            if isinstance(tree, (tuple, list)):
                return [follow(x) for x in tree]
            if isinstance(tree, dict):
                return {k: follow(v) for k, v in tree.items()}
            return tree

        op, args, kwargs = node.op, node.args, node.kwargs
        if i in moved:  # a reshape that has to copy
            op, args, kwargs = torch.ops.aten.clone.default, node.args[:1], {}
        filled = follow(args), follow(kwargs)
        found.append(_Operator(op, *filled, tuple(bases.values()), node, device))
    return found


def _filled(shape: _Shape, device: torch.device) -> torch.Tensor:
    if shape.dtype.is_floating_point:
        # Positive (variances), and far from denormal numbers, which are slow.
        return torch.rand(shape.sizes, device=device).add(0.1).to(shape.dtype)
    fill = torch.ones if shape.dtype is torch.bool else torch.zeros
    return fill(shape.sizes, dtype=shape.dtype, device=device)


def _normal(poly: Poly) -> tuple[Poly, int]:
    """A polynomial as (base, integer): 3·w is 3 times w."""
    times = gcd(*(c for _, c in poly.terms))
    return Poly(tuple((m, c // times) for m, c in poly.terms)), times


def _levels(whole: int, shares: Iterable[float]) -> np.ndarray:
    """Widths at these shares, at multiples that kernels like where there is room."""
    multiple = 16 if whole >= 64 else 8 if whole >= 32 else 1
    found = {whole}
    for share in shares:
        found.add(min(whole, max(1, multiple * round(share * whole / multiple))))
    return np.array(sorted(found), dtype=float).astype(int)


def _kind(operator: _Operator) -> str:
    """Contractions by kind: what likes one width need not like another. Others: ""."""
    name = operator.node.operator
    if name not in CONTRACTIONS:
        return ""
    grouped = "conv" in name and any(type(a) is Poly for a in operator.args)
    return f"{name} in groups" if grouped else name


def _anchors(operator: _Operator) -> list[int] | None:
    """A round width for each base, with room for 32 more; None where one is too narrow to tell.

    Just above a round width a kernel that works in blocks wastes most.
    """
    wholes = [base.value(_whole) for base in operator.bases]
    if not wholes or min(wholes) < 64:
        return None
    return [max(32, (whole // 2 - 32) // 32 * 32) for whole in wholes]


def _work(operator: _Operator) -> float:
    sizes = [v.shape for v in (*operator.node.args, *operator.node.outputs) if isinstance(v, Value)]
    return float(prod(prod(shape) for shape in sizes)) ** 0.5


def _whole_width(dim: Dim, patterns: Iterable[_Measured]) -> int:
    """The widest base that holds this dim."""
    return max(
        (b.value(_whole) for p in patterns for b in p.operator.bases if dim in b.dims),
        default=dim.size,
    )


def _whole(dim: Dim) -> int:
    return dim.size
