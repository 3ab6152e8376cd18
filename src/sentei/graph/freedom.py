"""Which inner widths may keep other units for each outer index?

Every attention head may lose other channels than its neighbours, as long as all lose as many; so
may every group of a grouped convolution, of its outputs and of its inputs. A dim is *free in* an
outer dim if the two always travel together:

- in every parameter it stands behind the outer dim in the same product, or it stands in another
  dimension of a tensor whose dimension 0 the outer dim is in (`weight[groups · outputs, inputs]`);
- in every tensor of the captured passes that carries it, the outer dim is there, too, and only
  once. Where anything is summed, picked or compared across the outer dim, a tensor shows up that
  has the one without the other, and the dim is not free;
- no operator that keeps the shape (softmax, a running sum, a norm) goes along the outer dim, and
  no tensor compares outer indices with one another (`q @ k.mT` over heads).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from sentei.graph.analysis import Analysis
from sentei.graph.axis import Axis, Concat, Dim, Fixed, Product, dims, resolve
from sentei.graph.tape import Node, Value

__all__ = ["outers"]

Pairs = dict[Dim, list[Dim]]  # each dim that may be free, with the outer dims it may be free in


def outers(analysis: Analysis) -> dict[Dim, Dim]:
    """Each dim that is free, with the outer dim it is free in."""
    pairs = _candidates(analysis)
    if not pairs:
        return {}
    over = {h for outer in pairs.values() for h in outer}
    relevant = over.union(pairs)
    checked: dict[tuple[int, ...], list[Axis]] = {}  # alive, for their ids to be theirs
    crowded: dict[int, list[Axis]] = {}  # values with an outer dim in several dimensions
    for value, axes in analysis.values.items():
        finest: list[Axis] = [axis for axis in map(resolve, axes) if not isinstance(axis, Fixed)]
        key = tuple(map(id, finest))
        if key not in checked:
            checked[key] = finest
            _part(pairs, relevant, finest)
        if len(finest) > 1 and _several(over, finest):
            crowded[value] = finest
    for tape in analysis.tapes:
        for node in tape.nodes if pairs else ():
            if node.operator in _ALONG:
                _mixed(pairs, node, analysis)
            if crowded:
                _compared(pairs, node, crowded, analysis)
    free = {d: outer[0] for d, outer in pairs.items()}
    # One level of rows is all that surgery knows.
    return {d: h for d, h in free.items() if h not in free}


def _candidates(analysis: Analysis) -> Pairs:
    """What the parameters allow."""
    weights = [[resolve(axis) for axis in axes] for axes in analysis.parameters.values() if axes]
    # Most dims are the outputs of a plain layer, behind nothing: these need no further look.
    plain = {d for first, *_ in weights for d in _terms(first) if isinstance(d, Dim)}
    found: dict[Dim, list[Dim]] = {}
    for axes in weights:
        if all(isinstance(t, Fixed) or t in plain for axis in axes for t in _terms(axis)):
            continue
        for dim, outer in _in_parameter(axes):
            known = found.get(dim)
            found[dim] = outer if known is None else [h for h in known if h in outer]
    pairs: Pairs = {}
    for d, outer in found.items():
        if outer and d not in plain and d.pinned is None and "normalised" not in d.facts:
            outer = [h for h in outer if h.pinned is None]
            if outer:
                pairs[d] = outer
    return pairs


def _terms(axis: Axis) -> Sequence[Axis]:
    return axis.parts if isinstance(axis, Concat) else (axis,)


def _in_parameter(axes: Sequence[Axis]) -> list[tuple[Dim, list[Dim]]]:
    """For each place of a dim in a parameter the dims it may be free in, as far as that goes."""
    places: list[tuple[Dim, Dim | None, int]] = []
    for i, axis in enumerate(axes):
        _places(axis, None, i, places)
    count = Counter([dim for dim, _, _ in places])
    first = axes[0].parts if axes and isinstance(axes[0], Product) else axes[:1]
    rows = [p for p in first if isinstance(p, Dim) and count[p] == 1]
    out = []
    for dim, before, i in places:
        outer = [] if before is None else [before]
        if i and count[dim] == 1:
            outer += [h for h in rows if h is not before]
        out.append((dim, outer))
    return out


def _places(
    axis: Axis, outer: Dim | None, at: int, found: list[tuple[Dim, Dim | None, int]]
) -> None:
    """(dim, the first dim before it in its product, dimension), for every place."""
    if isinstance(axis, Dim):
        found.append((axis, outer, at))
    elif isinstance(axis, Concat):
        for part in axis.parts:
            _places(part, None, at, found)
    elif isinstance(axis, Product):
        first: Dim | None = None
        for part in axis.parts:
            _places(part, first, at, found)
            if isinstance(part, Dim) and first is None:
                first = part


def _part(pairs: Pairs, relevant: set[Dim], axes: Sequence[Axis]) -> None:
    """Drop the pairs that a tensor with these axes has the one of without the other."""
    inside = [[d for d in dims(axis) if d in relevant] for axis in axes]
    seen = Counter([d for found in inside for d in found])
    if not seen:
        return
    behind: Counter[tuple[Dim, Dim]] = Counter()
    for axis in axes:
        _behind(axis, pairs, behind)

    def together(dim: Dim, outer: Dim) -> bool:
        # Each time inside a product with its outer dim, or each once.
        return seen[dim] == behind[dim, outer] or seen[dim] == seen[outer] == 1

    _keep(pairs, seen, together)


def _several(over: set[Dim], axes: Sequence[Axis]) -> bool:
    count = Counter([d for axis in axes for d in set(dims(axis)) if d in over])
    return any(n > 1 for n in count.values())


def _compared(
    pairs: Pairs, node: Node, crowded: Mapping[int, Sequence[Axis]], analysis: Analysis
) -> None:
    """Drop the pairs of whose dim an operator makes or reads outer indices side by side."""
    around = [*node.reads, *node.outputs]
    beside = [[set(dims(axis)) for axis in crowded[id(v)]] for v in around if id(v) in crowded]
    if beside:
        there = {d for v in around for axis in analysis.axes(v) for d in dims(axis)}

        def apart(dim: Dim, outer: Dim) -> bool:
            return not any(
                sum(outer in found and dim not in found for found in axes) > 1 for axes in beside
            )

        _keep(pairs, there, apart)


def _keep(pairs: Pairs, there: Iterable[Dim], good: Callable[[Dim, Dim], bool]) -> None:
    """Of the dims that are there, keep the pairs that are good."""
    for dim in there:
        if dim not in pairs:
            continue
        left = [h for h in pairs[dim] if good(dim, h)]
        if left:
            pairs[dim] = left
        else:
            del pairs[dim]


def _behind(axis: Axis, pairs: Mapping[Dim, list[Dim]], count: Counter[tuple[Dim, Dim]]) -> None:
    if isinstance(axis, Product):
        plain = [p for p in axis.parts if isinstance(p, Dim)]
        for dim in plain:
            for outer in pairs.get(dim, ()):
                if plain.count(outer) == 1:
                    count[dim, outer] += 1
    for part in getattr(axis, "parts", ()):
        if not isinstance(part, Dim):
            _behind(part, pairs, count)


# Operators that mix what stands along some dimensions and return as many, with where these are.
_BY_DIM = {
    "softmax", "_softmax", "log_softmax", "_log_softmax", "_safe_softmax", "cumsum", "cumsum_",
}  # fmt: skip
_BY_SHAPE = {"layer_norm", "native_layer_norm", "rms_norm", "_fused_rms_norm"}
_SPATIAL = {
    "batch_norm", "native_batch_norm", "cudnn_batch_norm", "_native_batch_norm_legit",
    "instance_norm",
}  # fmt: skip
_ALONG = _BY_DIM | _BY_SHAPE | _SPATIAL


def _mixed(pairs: Pairs, node: Node, analysis: Analysis) -> None:
    """Drop the pairs whose outer dim an operator goes along, in a tensor that carries the dim."""
    x = node.args[0]
    if not isinstance(x, Value):
        return
    axes = [resolve(axis) for axis in analysis.axes(x)]
    if node.operator in _BY_DIM:
        dim = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else -1)
        along = axes[int(dim) :][:1]
    elif node.operator in _BY_SHAPE:
        along = axes[-len(node.args[1]) :]
    else:
        along = [axis for i, axis in enumerate(axes) if i != 1]
    mixed = {d for axis in along for d in dims(axis)}
    if mixed:
        there = {d for axis in axes for d in dims(axis)} - mixed
        _keep(pairs, there, lambda _, outer: outer not in mixed)
