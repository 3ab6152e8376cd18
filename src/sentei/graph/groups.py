"""Groups: what stands or falls together.

A **group** is one root `Dim` that reaches a parameter. Its `size` units can be removed one by one;
removing unit i removes, in every slice, the positions of that unit.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from math import gcd, lcm
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from sentei.graph.analysis import Analysis, analyze_tapes
from sentei.graph.axis import Axis, Dim, Fixed, Product, dims, positions, resolve, width
from sentei.graph.blueprint import without_cache
from sentei.graph.capture import capture, unwrap
from sentei.graph.cost import Cost, CostModel
from sentei.graph.errors import PruneError, closest
from sentei.graph.freedom import outers
from sentei.graph.tape import Tape, undisturbed

__all__ = ["Group", "Groups", "Slice", "analyze"]


@dataclass(frozen=True, eq=False)
class Slice:
    """Where a group's units sit in one dimension of one parameter (or buffer).

    positions: long tensor (units, occurrences): the positions of unit i along `dim`.
    """

    parameter: str
    dim: int
    axis: Axis = field(repr=False)
    root: Dim = field(repr=False)

    @cached_property
    def positions(self) -> Tensor:
        return positions(self.axis, self.root)


@dataclass(frozen=True, eq=False)
class Group:
    """Units that are removed together, with everything that goes with them.

    name: stable, from the module whose output it is; protect or target groups by it.
    kind: "channels", "blocks" (heads, conv groups: outer part of a wider axis) or "block width".
    pinned: None, or why no unit may be removed.
    normalised: removal changes a statistic (layer norm, softmax, mean) taken over the units.
    step: units are removed in multiples of this (ties between widths ask for it, and kernels that
        take rows of whole 16 bytes).
    tied: names of groups that must keep the same share.
    outer: the group in which this one is free: each outer unit (head) may keep others, as many.
    """

    name: str
    size: int
    kind: str
    slices: tuple[Slice, ...]
    pinned: str | None
    normalised: bool
    step: int
    tied: tuple[str, ...]
    dim: Dim = field(repr=False)
    outer: str | None = None

    def __len__(self) -> int:
        return self.size


class Groups(Mapping[str, Group]):
    """The prunable groups of a model, by name; `.pinned` holds the others, each with its reason."""

    def __init__(self, analysis: Analysis, protect: Iterable[str] = ()) -> None:
        self.analysis = analysis
        protect = tuple(protect)
        self._all = _build(analysis, protect)
        self._free = {g.name: g for g in self._all if g.pinned is None}
        self.pinned = {g.name: g for g in self._all if g.pinned is not None}
        self.by_dim = {g.dim: g for g in self._all}
        self.unknown = dict(analysis.facts.unknown)

    def __getitem__(self, name: str) -> Group:
        if name in self._free:
            return self._free[name]
        if name in self.pinned:
            raise PruneError(f"group {name!r} is pinned: {self.pinned[name].pinned}")
        raise KeyError(f"no group {name!r}; {closest(name, self._free)}")

    def __contains__(self, name: object) -> bool:
        return name in self._free

    def __iter__(self) -> Iterator[str]:
        return iter(self._free)

    def __len__(self) -> int:
        return len(self._free)

    @cached_property
    def costs(self) -> CostModel:
        """Parameters, MACs and activations as formulas in the widths."""
        return CostModel(self.analysis)

    def cost(self, widths: Mapping[str, int] | None = None) -> Cost:
        """Cost when the groups named keep so many units (all units for others)."""
        by_dim = {self[name].dim: n for name, n in (widths or {}).items()}
        return self.costs.evaluate(lambda d: by_dim.get(d, d.size))

    def find(self, patterns: str | Sequence[str]) -> list[Group]:
        """Groups whose name matches any of the patterns (`fnmatch`)."""
        patterns = [patterns] if isinstance(patterns, str) else patterns
        return [g for g in self.values() if any(_matches(g.name, p) for p in patterns)]

    def without(self, dims: Iterable[Dim], why: str) -> Groups:
        """The groups when `dims` keep all their units because of `why`."""
        for dim in dims:
            dim.pinned = dim.pinned or why
        self.analysis.resolve()
        return Groups(self.analysis)

    def classes(self) -> list[list[Group]]:
        """Groups that are decided together: tied groups in one list, each other group alone."""
        seen: set[str] = set()
        out: list[list[Group]] = []
        for group in self.values():
            if group.name not in seen:
                members = [group, *(self._free[n] for n in group.tied)]
                seen.update(g.name for g in members)
                out.append(members)
        return out

    def __repr__(self) -> str:
        from sentei.graph.table import text

        return text(self)

    def __rich__(self) -> Any:
        from sentei.graph.table import rich_table

        return rich_table(self)

    def _repr_html_(self) -> str:
        from sentei.graph.table import html

        return html(self)


def analyze(
    model: nn.Module,
    example_inputs: Any = None,
    *,
    args: tuple[Any, ...] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    protect: Iterable[str | nn.Module] = (),
    train: bool = True,
) -> Groups:
    """Find out which slices of which parameters stand or fall together.

    Args:
        example_inputs: a tensor, a tuple of positional arguments, or a dict of keyword arguments;
            `args` and `kwargs` give both at once.
        protect: group names, patterns (`"head*"`), parameter or module names, or modules, that
            keep all their units.
        train: also capture train mode, for branches that only training runs.
    Raises:
        PruneError: no or unusable example inputs.
        Exception: whatever the model's own forward raises; the model is as before.

    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> list(analyze(net, torch.randn(3, 4)))
    ['0']
    """
    model = _usable(model)
    protect = [protect] if isinstance(protect, (str, nn.Module)) else list(protect)
    call = without_cache(model, *call_arguments(example_inputs, args, kwargs))
    patterns = protect_names(model, protect)
    analysis = analyze_tapes(captures(model, *call, train=train))
    numbers: frozenset[int] = frozenset()
    while not numbers >= analysis.facts.literals:
        # Numbers stand in the way that are no part of the model but of its code: follow them, too.
        # Behind them others may turn up.
        numbers |= analysis.facts.literals
        try:
            analysis = analyze_tapes(captures(model, *call, train=train, literals=numbers))
        except Exception:  # code that takes nothing but plain numbers
            break
    groups = Groups(analysis, patterns)
    _check_protected(groups, model, protect)
    return groups


def captures(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    train: bool = True,
    literals: frozenset[int] = frozenset(),
) -> list[Tape]:
    """The tapes to analyze: eval mode, and train mode where that runs on these inputs and the
    code asks for the mode at all."""
    try:
        tapes = [capture(model, args, kwargs, literals=literals)]
    except Exception as error:
        error.add_note(
            f"raised by the forward of {type(model).__name__} on the example inputs, in eval mode; "
            "the model is as before"
        )
        raise
    if train and not tapes[0].any_mode:
        # Many models want other inputs for training (targets, larger batches).
        with suppress(Exception):
            tapes.append(
                capture(
                    model, args, kwargs, training=True, abstract=tapes[0].abstract,
                    literals=literals,
                )
            )  # fmt: skip
        if len(tapes) > 1 and not tapes[0].abstract:
            # A layer that is skipped now and then: how many numbers were drawn before depends on
            # widths in a real run, so no two passes of it can be compared.
            again = capture(model, args, kwargs, training=True, abstract=False, seed=1)
            tapes[1].random = [n.op for n in again.nodes] != [n.op for n in tapes[1].nodes]
    return tapes


def call_arguments(
    example_inputs: Any, args: tuple[Any, ...] | None, kwargs: Mapping[str, Any] | None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments from what the user gave as example inputs."""
    if example_inputs is not None and (args is not None or kwargs is not None):
        raise PruneError("give example_inputs, or args= and kwargs=, not both")
    if isinstance(example_inputs, Mapping):
        kwargs = example_inputs
    elif isinstance(example_inputs, tuple):
        args = example_inputs
    elif example_inputs is not None:
        args = (example_inputs,)
    if not args and not kwargs:
        raise PruneError(
            "no example inputs: give a tensor, a tuple of arguments or a dict of keyword arguments "
            "that the model's forward accepts"
        )
    for tensor in [*(args or ()), *(kwargs or {}).values()]:
        if isinstance(tensor, Tensor) and tensor.numel() == 0:
            raise PruneError(
                f"an example input is empty (shape {tuple(tensor.shape)}); "
                "give at least one sample of real size"
            )
    return tuple(args or ()), dict(kwargs or {})


def protect_names(model: nn.Module, protect: Iterable[str | nn.Module]) -> list[str]:
    """Patterns for what `protect=` names; modules by their qualified names."""
    if isinstance(protect, (str, nn.Module)):
        protect = [protect]
    names = {id(m): n for n, m in model.named_modules()}
    out: list[str] = []
    for item in protect:
        if not isinstance(item, (str, nn.Module)):
            raise PruneError(f"protect: want names, patterns or modules; got {item!r}")
        if isinstance(item, nn.Module):
            if id(item) not in names:
                raise PruneError(f"protect: {type(item).__name__} is not a module of this model")
            out += [names[id(item)], f"{names[id(item)]}.*"]
        else:
            out.append(item)
    return out


def _check_protected(groups: Groups, model: nn.Module, protect: Iterable[str | nn.Module]) -> None:
    """A misspelt name protects nothing, and would be noticed too late."""
    known = [*groups, *groups.pinned]
    known += [n for n, _ in [*model.named_modules(), *model.named_parameters()] if n]
    known = list(dict.fromkeys(known))
    for item in protect:
        if isinstance(item, str) and not any(_matches(n, item) for n in known):
            raise PruneError(
                f"protect: {item!r} is no group, module or parameter; {closest(item, known)}"
            )


def _usable(model: nn.Module) -> nn.Module:
    """The module itself, unwrapped, if it can be analyzed at all."""
    given: Any = model
    if isinstance(given, type):
        raise PruneError(f"model must be an nn.Module; got the class {given.__name__} itself")
    if not isinstance(given, nn.Module):
        raise PruneError(f"model must be an nn.Module; got a {type(given).__name__}")
    model = unwrap(model)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if isinstance(tensor, (UninitializedParameter, UninitializedBuffer)):
            raise PruneError(f"{name} has no size yet (a lazy module); run the model once first")
    return model


@undisturbed()
def _build(analysis: Analysis, protect: tuple[str, ...]) -> list[Group]:
    slices: dict[Dim, list[Slice]] = {}
    outer: set[Dim] = set()
    inner: set[Dim] = set()
    for name, axes in analysis.parameters.items():
        for i, axis in enumerate(axes):
            axis = resolve(axis)
            for dim in dict.fromkeys(dims(axis)):
                slices.setdefault(dim, []).append(Slice(name, i, axis, dim))
            if not isinstance(axis, (Dim, Fixed)):
                _nesting(axis, outer, inner)
    origins = analysis.origins
    slices = {d: s for d, s in slices.items() if any(origins[x.parameter] != "buffer" for x in s)}
    names = _names(slices, analysis)
    classes = {d: c for c in analysis.solution.classes for d in c if not d.pinned}
    for dim, members in slices.items():
        for pattern in protect:
            parts = [names[dim], *(p for s in members for p in _owners(s, pattern))]
            if any(_matches(part, pattern) for part in parts):
                for mate in classes.get(dim, (dim,)):
                    mate.pinned = mate.pinned or f"protected by {pattern!r}"
    free = outers(analysis)
    aligned = _aligned(analysis)
    out: list[Group] = []
    for dim, members in slices.items():
        dim.outer = free.get(dim)
        tied = [d for d in classes.get(dim, (dim,)) if d in slices and not d.pinned]
        shares = gcd(*(d.size for d in tied)) if tied else dim.size
        shares //= lcm(*(m // gcd(m, d.size // shares) for d in tied if (m := aligned.get(d))))
        kind = "blocks" if dim in outer else "block width" if dim in inner else "channels"
        out.append(
            Group(
                name=names[dim],
                size=dim.size,
                kind=kind,
                slices=tuple(members),
                pinned=dim.pinned,
                normalised="normalised" in dim.facts,
                step=dim.size // shares,
                tied=tuple(names[d] for d in tied if d is not dim),
                dim=dim,
                outer=names[dim.outer] if dim.outer is not None else None,
            )
        )
    return out


def _aligned(analysis: Analysis) -> dict[Dim, int]:
    """dim -> what its width must be a multiple of, where a kernel asks it of an axis.

    Of an axis with several dims nothing is said: they could meet it together.
    """
    found: dict[Dim, int] = {}
    for axis, multiple in analysis.facts.aligned:
        free = {d for d in dims(axis) if not d.pinned}
        if len(free) == 1 and axis.size % multiple == 0:
            (dim,) = free
            each = axis.size - width(axis, lambda d: d.size - (d in free))  # noqa: B023
            found[dim] = lcm(found.get(dim, 1), multiple // gcd(multiple, each))
    return found


def _matches(name: str, pattern: str) -> bool:
    # Names such as "embed.weight[1]" are patterns, too, which do not match themselves.
    return name == pattern or fnmatch.fnmatch(name, pattern)


def _owners(s: Slice, pattern: str) -> list[str]:
    """Names a pattern may mean for a slice: a module's or parameter's own outputs (dimension 0)."""
    if s.dim != 0:
        return []
    module = s.parameter.rpartition(".")[0]
    return [s.parameter, module]


def _nesting(axis: Axis, outer: set[Dim], inner: set[Dim]) -> None:
    parts = getattr(axis, "parts", ())
    if isinstance(axis, Product):
        free = [p for p in parts if any(True for _ in dims(p))]
        for i, part in enumerate(free):
            if len(free) > 1:
                (inner if i == len(free) - 1 else outer).update(dims(part))
    for part in parts:
        if not isinstance(part, Dim):
            _nesting(part, outer, inner)


def _names(slices: Mapping[Dim, Sequence[Slice]], analysis: Analysis) -> dict[Dim, str]:
    """Name each dim after the module that makes it: the first weight whose output it is."""
    names: dict[Dim, str] = {}
    taken: set[str] = set()
    for dim, members in slices.items():
        name = next(c for c in _candidates(dim, members, analysis) if c and c not in taken)
        taken.add(name)
        names[dim] = name
    return names


def _candidates(dim: Dim, members: Sequence[Slice], analysis: Analysis) -> Iterator[str]:
    """Names for a dim, the best first."""
    best = min(members, key=lambda s: _rank(s, analysis))
    module, _, _ = best.parameter.rpartition(".")
    inside = list(dict.fromkeys(dims(best.axis)))
    suffix = f"/{inside.index(dim)}" if len(inside) > 1 else ""
    alone = len(analysis.parameters[best.parameter]) == 1
    where = "" if best.dim == 0 or alone else f"[{best.dim}]"
    if not where:
        yield f"{module}{suffix}"
    yield f"{best.parameter}{where}{suffix}"
    for s in sorted(members, key=lambda s: _rank(s, analysis)):
        yield f"{s.parameter}[{s.dim}]/{list(dict.fromkeys(dims(s.axis))).index(dim)}"
    yield f"{best.parameter}#{dim.serial}"


def _rank(s: Slice, analysis: Analysis) -> tuple[int, ...]:
    axes = analysis.parameters[s.parameter]
    made_here = s.dim == 0 and len(axes) > 1
    return (analysis.origins[s.parameter] == "buffer", not made_here, s.dim)
