"""Remove units for good: a transaction on parameters, buffers, gradients and optimiser state.

For kept units, the kept positions of any axis follow by recursion over its tree, so surgery is
`index_select` with the kept positions of every dimension of every tensor. Then the model's Python
is repaired, the forward pass is run once without arithmetic and compared with what the axes
predict, and, by default, the result is compared with the silenced original. On any error the
model is exactly as before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sentei.graph.analysis import Analysis
from sentei.graph.axis import Dim, dims, left, width
from sentei.graph.capture import capture, named_tensors, unwrap
from sentei.graph.capture.settings import put_back
from sentei.graph.errors import PruneError, VerificationError
from sentei.graph.groups import Groups
from sentei.graph.history import remember
from sentei.graph.repair import agree, new_attributes, stock_attributes, write_attribute
from sentei.graph.rows import kept_along, take
from sentei.graph.stock import STAND_INS
from sentei.graph.tape import AttributeKey, Node, Tape, Value, flatten
from sentei.graph.verify import Verification, compare, silenced_outputs, widened

__all__ = ["Mismatch", "Surgery", "keep_masks", "remove"]

Call = tuple[tuple[Any, ...], Mapping[str, Any]]


class Mismatch(PruneError):
    """The pruned model does not run as the axes predict; `dims` are involved."""

    def __init__(self, message: str, dims: tuple[Dim, ...] = ()) -> None:
        super().__init__(message)
        self.dims = dims


class Differs(Mismatch, VerificationError):
    """The pruned model does not compute what the silenced original computes; `dims` make it so."""


class _OtherNumber(Mismatch):
    """A number differs that may have been computed from values, or only decides a branch."""


@dataclass(frozen=True)
class Surgery:
    """What was done to a model, enough to do it again to a fresh one.

    kept: tensor name -> {dimension: kept positions}; a matrix of positions where they differ from
        row to row (see `sentei.graph.rows`).
    attributes: the integers that were rewritten.
    swapped: modules whose class became a stand-in, with the stand-in's name.
    scaled: tensor name -> {dimension: factors of the kept positions}, for exact compensation.
    """

    kept: dict[str, dict[int, Tensor]]
    attributes: dict[AttributeKey, int]
    swapped: dict[str, str]
    scaled: dict[str, list[tuple[int, Tensor]]]
    units: dict[str, Tensor]
    verification: Verification | None = None

    def shrink(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What surgery makes of tensors by name: factors applied, kept positions selected."""
        return {name: self._shrunk(name, tensor) for name, tensor in tensors.items()}

    def _shrunk(self, name: str, data: Tensor) -> Tensor:
        for dim, factors in self.scaled.get(name, ()):
            shape = [1] * data.dim()
            shape[dim] = -1
            data = data * factors.to(data).view(shape)
        return _select(data, self.kept.get(name, {}))


def keep_masks(groups: Groups, keep: Mapping[str, Tensor]) -> dict[Dim, Tensor]:
    """Boolean masks by dim from kept unit indices by group name, checked."""
    masks: dict[Dim, Tensor] = {}
    for name, kept in keep.items():
        group = groups[name]
        kept = torch.as_tensor(kept, dtype=torch.long)
        rows = group.dim.outer.size if group.dim.outer is not None else 0
        if kept.dim() == 2 and len(kept) != rows:
            raise PruneError(
                f"{name}: units for each outer index ask for {rows} rows, got {len(kept)}"
                if rows
                else f"{name}: the same units must go for every outer index; give one list"
            )
        if kept.numel() == 0:
            raise PruneError(f"{name}: cannot remove all {group.size} units; keep at least one")
        if kept.min() < 0 or kept.max() >= group.size:
            raise PruneError(
                f"{name}: units are numbered 0 to {group.size - 1}, got {int(kept.min())} to "
                f"{int(kept.max())}"
            )
        chosen = torch.zeros(*kept.shape[:-1], group.size, dtype=torch.bool)
        chosen.scatter_(-1, kept, True)
        if kept.dim() == 2 and len(set(chosen.sum(1).tolist())) > 1:
            raise PruneError(f"{name}: every outer index must keep as many units")
        masks[group.dim] = chosen
    for members in groups.classes():
        shares = {
            g.name: (left(masks[g.dim]) if g.dim in masks else g.size) * (g.step**-1)
            for g in members
        }
        if len({round(s, 9) for s in shares.values()}) > 1:
            raise PruneError(
                "these groups must keep equal shares, because the code computes one width from "
                f"another: {', '.join(f'{g.name} ({g.size})' for g in members)}"
            )
    # Widths that no parameter has (copies, scratch tensors) follow those they are tied to.
    for tied in groups.analysis.solution.classes:
        cut = next((d for d in tied if d in masks), None)
        for dim in tied:
            if cut is not None and dim not in masks and dim not in groups.by_dim:
                count = left(masks[cut]) * dim.size // cut.size
                masks[dim] = torch.arange(dim.size) < count
    return masks


def remove(
    model: nn.Module,
    groups: Groups,
    keep: Mapping[str, Tensor],
    call: Call,
    *,
    optimizer: torch.optim.Optimizer | None = None,
    verify: bool = True,
) -> Surgery:
    """Keep the units `keep[name]` of the groups named, all units of others, in place.

    Args:
        groups: from `analyze` on this model.
        call: positional and keyword arguments for the forward pass (the example input).
        optimizer: its per-parameter state follows.
        verify: compare with the silenced original on the example input.
    Raises:
        PruneError: the plan is inconsistent, or the model's Python cannot be repaired. As
            `Mismatch` it says which dims are to blame: where the code itself does not tell, halves
            of the plan are tried until that is known.
        VerificationError: the result does not compute what the silenced original computes.
        In both cases the model is as before.
    """
    try:
        return _remove(model, groups, keep, call, optimizer=optimizer, verify=verify)
    except (Mismatch, VerificationError) as error:
        differs = isinstance(error, VerificationError)
        if not differs and set(keep_masks(groups, keep)) - set(getattr(error, "dims", ())):
            raise
        culprits = _culprits(model, groups, keep, call, verify=differs)
        if len(culprits) == len(keep):
            raise
        blamed = tuple(groups[name].dim for name in culprits)
        raise (Differs if differs else Mismatch)(str(error), blamed) from error


def _culprits(
    model: nn.Module, groups: Groups, keep: Mapping[str, Tensor], call: Call, *, verify: bool
) -> set[str]:
    """The groups without which the rest of the plan holds, found by trying halves of it."""
    tries = _TRIES

    def fails(part: list[list[str]]) -> bool:
        nonlocal tries
        tries -= 1
        some = {name: keep[name] for members in part for name in members}
        with _Transaction(unwrap(model), None):  # taken back, whatever comes out
            try:
                _remove(model, groups, some, call, optimizer=None, verify=verify)
            except PruneError:
                return True
        return False

    def search(part: list[list[str]]) -> list[list[str]]:
        """Those to blame of a part that fails."""
        if len(part) == 1 or tries <= 0:
            return part
        halves = part[: len(part) // 2], part[len(part) // 2 :]
        found = [members for half in halves if fails(half) for members in search(half)]
        return found or part  # either half alone is well: only together they fail

    decided = [[g.name for g in members if g.name in keep] for members in groups.classes()]
    return {name for members in search([m for m in decided if m]) for name in members}


_TRIES = 64
"""Parts of a plan to try before what is not yet known to be innocent counts as guilty."""


def _remove(
    model: nn.Module,
    groups: Groups,
    keep: Mapping[str, Tensor],
    call: Call,
    *,
    optimizer: torch.optim.Optimizer | None,
    verify: bool,
) -> Surgery:
    model = unwrap(model)
    masks = keep_masks(groups, keep)
    analysis = groups.analysis
    surgery = _plan(model, analysis, masks, keep)
    reference = silenced_outputs(model, analysis, masks, call) if verify else None
    with _Transaction(model, optimizer) as transaction:
        apply(model, surgery, transaction)
        detour = _dry_run(model, analysis, masks, call)
        if reference is None:
            if detour is not None:
                raise detour
            transaction.commit()
            return surgery
        try:
            report = compare(model, reference, call, weights=surgery.shrink)
        except PruneError:
            raise
        except Exception as error:
            raise _not_running(model, analysis, masks, call, error) from error
        if report.passed and (detour is None or report.conclusive):
            transaction.commit()
            return replace(surgery, verification=report)
        small = None if report.passed else widened(model, call, analysis.differentiates)
    # The model is as before. Where rounding decides (which box, which expert comes first), two
    # networks that compute the same differ in their own precision: the judge is float64.
    wide = widened(model, call, analysis.differentiates) if small is not None else None
    if small is not None and wide is not None:
        reference = silenced_outputs(wide[0], analysis, masks, wide[1])
        if reference is not None:
            judged = compare(small[0], reference, small[1], weights=surgery.shrink)
            # A model that answers NaN in float64 would agree with anything: then float32 stands.
            report = judged if judged.conclusive else report
    if detour is not None and not (report.passed and report.conclusive):
        raise detour
    if not report.passed:
        raise VerificationError(
            f"the pruned network differs from the silenced original by {report.error:.2e} "
            f"(relative; tolerance {report.tolerance:.0e}); the model is unchanged. "
            "Please report this model."
        )
    with _Transaction(model, optimizer) as transaction:
        apply(model, surgery, transaction)
        transaction.commit()
    return replace(surgery, verification=report)


def _not_running(
    model: nn.Module,
    analysis: Analysis,
    masks: Mapping[Dim, Tensor],
    call: Call,
    error: Exception,
) -> Mismatch:
    """The pruned model runs without values, and not with them: where does it stop?"""
    node = None
    try:
        capture(model, *call, abstract=False)
    except Exception as again:
        node = _failed_at(analysis.passes[0][1], again, partial(_touched, analysis, masks))
    line = str(error).partition("\n")[0]
    return Mismatch(
        f"the pruned model does not run ({type(error).__name__}: {line})",
        _suspects(analysis, masks, node),
    )


def _counter(masks: Mapping[Dim, Tensor]) -> Callable[[Dim], int]:
    """How many units the masks leave of a dim."""
    return lambda dim: left(masks[dim]) if dim in masks else dim.size


def _plan(
    model: nn.Module, analysis: Analysis, masks: Mapping[Dim, Tensor], units: Mapping[str, Tensor]
) -> Surgery:
    """Positions, attributes and stand-ins that the masks ask for; touches nothing."""
    full: dict[Dim, Tensor] = {}

    def keep(dim: Dim) -> Tensor:
        if dim in masks:
            return masks[dim]
        return full.setdefault(dim, torch.ones(dim.size, dtype=torch.bool))

    touched = set(masks)
    kept: dict[str, dict[int, Tensor]] = {}
    for name, axes in analysis.parameters.items():
        for i, axis in enumerate(axes):
            if touched.isdisjoint(dims(axis)):
                continue
            kept.setdefault(name, {})[i] = kept_along(axes, i, keep)

    count = _counter(masks)
    attributes = new_attributes(analysis, count)
    swapped: dict[str, str] = {}
    for name, module in model.named_modules():
        if type(module) in STAND_INS and any(
            n.startswith(f"{name}." if name else "") for n in kept
        ):
            swapped[name] = STAND_INS[type(module)].__name__
    scaled = analysis.compensation(count)
    return Surgery(
        kept, attributes, swapped, scaled, {k: torch.as_tensor(v) for k, v in units.items()}
    )


@torch.inference_mode(False)  # what comes out can be trained, wherever it was cut
def apply(model: nn.Module, surgery: Surgery, transaction: _Transaction | None = None) -> None:
    """Do what the record says to a model of the original shape."""
    remember(model, surgery)
    stand_ins = {kind.__name__: kind for kind in STAND_INS.values()}
    for name, kind in surgery.swapped.items():
        stand_ins[kind].adopt(model.get_submodule(name))
    new: dict[int, Tensor] = {}
    tensors = named_tensors(model)
    for name in {**surgery.scaled, **surgery.kept}:
        if name not in tensors:
            raise PruneError(f"the model has no tensor {name!r}")
        origin, tensor = tensors[name]
        positions = surgery.kept.get(name, {})
        new[id(tensor)] = surgery._shrunk(name, tensor.detach())
        if origin == "parameter":  # a plain tensor where the module is compiled by `torch.jit`
            if transaction is not None:
                transaction.slice_state(tensor, positions)
            gradient = tensor.grad
            renew(tensor, new[id(tensor)])
            if gradient is not None:
                tensor.grad = _select(gradient, positions)
    for module in model.modules():
        for store in (module._buffers, vars(module)):
            for key, value in list(store.items()):
                if (
                    isinstance(value, Tensor)
                    and not isinstance(value, nn.Parameter)
                    and id(value) in new
                ):
                    if isinstance(module, torch.jit.ScriptModule):
                        setattr(module, key, new[id(value)])
                    else:
                        store[key] = new[id(value)]
    for where, number in surgery.attributes.items():
        if where.module or where.path:
            write_attribute(model, where, number)
    for module in model.modules():
        agree(module)
        for attribute, size in stock_attributes(module).items():
            if vars(module)[attribute] != size:
                vars(module)[attribute] = size


def renew(parameter: Tensor, data: Tensor) -> None:
    """Give a parameter other data, of another shape maybe, without a gradient.

    While anything of an earlier graph lives (the last loss, a DDP wrapper), autograd keeps the node
    that adds up the parameter's gradient, with the old shape, and the next backward pass would
    refuse the new one. Only another type of data makes it forget that node.
    """
    parameter.grad = None
    if parameter.shape != data.shape:
        other = torch.float16 if parameter.dtype is not torch.float16 else torch.float32
        parameter.data = torch.empty(0, dtype=other, device=parameter.device)
    parameter.data = data


def _select(tensor: Tensor, positions: Mapping[int, Tensor]) -> Tensor:
    return take(tensor, positions) if positions else tensor.clone()


class _Transaction:
    """Remembers a model, and puts everything back unless `commit` was called."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer | None) -> None:
        self.modules = [(m, type(m), dict(vars(m)), dict(m._buffers)) for m in model.modules()]
        self.parameters = [(p, p.data, p.grad) for p in model.parameters()]
        self.configs = _config_states(model)
        self.optimizer = optimizer
        self.state: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self.committed = False

    def __enter__(self) -> _Transaction:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.committed:
            self.rollback()

    def commit(self) -> None:
        self.committed = True

    def slice_state(self, parameter: Tensor, positions: Mapping[int, Tensor]) -> None:
        if self.optimizer is None:
            return
        state = self.optimizer.state.get(parameter)
        if state:
            self.state.append((state, dict(state)))
            for key, value in state.items():
                if isinstance(value, Tensor) and value.dim():
                    state[key] = _follow(key, value, parameter, positions)

    def rollback(self) -> None:
        for parameter, data, gradient in self.parameters:
            renew(parameter, data)
            parameter.grad = gradient
        for module, kind, state, buffers in self.modules:
            if isinstance(module, torch.jit.ScriptModule):
                for name, buffer in buffers.items():
                    setattr(module, name, buffer)  # all that surgery changes in compiled code
                continue
            if type(module) is not kind:
                module.__class__ = kind
            vars(module).clear()
            vars(module).update(state)
            module._buffers.clear()
            module._buffers.update(buffers)
        _restore_states(self.configs)
        for live, before in self.state:
            live.clear()
            live.update(before)


def _follow(key: str, value: Tensor, parameter: Tensor, positions: Mapping[int, Tensor]) -> Tensor:
    """A tensor that an optimiser holds for a parameter, as surgery leaves it.

    Where rows keep other units and the tensor is a sum over the rows, the k-th units of all rows
    share one number from now on, the mean of theirs.
    """
    places, by_row = _positions_of(key, value, parameter, positions)
    for dim, rows in [] if by_row else [*places.items()]:
        if rows.dim() == 2:
            rows = rows.to(value.device)
            value = torch.stack([value.index_select(dim, row) for row in rows]).mean(0)
            del places[dim]
    return _select(value, places)


def _positions_of(
    key: str, value: Tensor, parameter: Tensor, positions: Mapping[int, Tensor]
) -> tuple[dict[int, Tensor], bool]:
    """The positions to keep of a tensor that an optimiser holds for a parameter; does it have the
    parameter's rows?

    It has the parameter's shape; or, factored (Adafactor), width 1 in a dimension that was summed
    up, or not that dimension at all.

    Raises:
        PruneError: it has another shape: what its numbers belong to cannot be told.
    """
    ours, whole = tuple(value.shape), tuple(parameter.shape)
    if len(ours) == len(whole) and all(a in (1, b) for a, b in zip(ours, whole, strict=True)):
        return {d: kept for d, kept in positions.items() if ours[d] == whole[d]}, ours[0] == whole[
            0
        ]
    fits = [d for d in range(len(whole)) if whole[:d] + whole[d + 1 :] == ours]
    # Of a square matrix, the shape does not tell rows from columns; the name does.
    named = {"row": len(whole) - 1, "col": len(whole) - 2}
    fits = [d for word, d in named.items() if word in key and d in fits] or fits
    if len(fits) == 1:
        gone = fits[0]
        return {d - (d > gone): kept for d, kept in positions.items() if d != gone}, gone != 0
    raise PruneError(
        f"the optimizer's {key!r} of shape {list(ours)} cannot follow a parameter of shape "
        f"{list(whole)}; prune without optimizer=, and make a new one for the pruned model"
    )


def _config_states(model: nn.Module) -> list[tuple[Any, Any]]:
    """Copies of the lists, dicts and settings objects in which attributes may be rewritten."""
    from sentei.graph.capture.settings import ATOMS, INTERNAL, holds_settings, settings

    found: list[tuple[Any, Any]] = []
    seen: set[int] = set()

    def visit(value: Any, depth: int) -> None:
        if type(value) in ATOMS or depth == 0 or id(value) in seen:
            return
        if isinstance(value, (nn.Module, Tensor)):
            return
        seen.add(id(value))
        if holds_settings(value) and not isinstance(value, (list, tuple)):
            attributes, items = settings(value)
            found.append((value, (attributes, items)))
            value = items | attributes
        elif isinstance(value, (list, dict)):
            found.append((value, list(value) if isinstance(value, list) else dict(value)))
        elif not isinstance(value, tuple):
            return
        for item in value.values() if isinstance(value, dict) else value:
            visit(item, depth - 1)

    for module in model.modules():
        for key, value in vars(module).items():
            if key not in INTERNAL:
                visit(value, 4)
    return found


def _restore_states(states: list[tuple[Any, Any]]) -> None:
    """Write back what `_config_states` copied."""
    for owner, saved in states:
        if isinstance(owner, list):
            owner[:] = saved
        elif isinstance(saved, dict):
            owner.clear()
            owner.update(saved)
        else:
            put_back(owner, saved)


def _dry_run(
    model: nn.Module, analysis: Analysis, masks: Mapping[Dim, Tensor], call: Call
) -> Mismatch | None:
    """Run the pruned model without arithmetic and compare every operator with the prediction.

    Returns:
        None where all is as predicted. A `Mismatch` where the code took another branch (a loop or
        an `if` on a width) or may have computed a number from values: only a numeric comparison
        can tell whether that computes the same.
    Raises:
        Mismatch: the pruned model raises, or a tensor has another shape than predicted.
    """

    count = _counter(masks)
    detour: Mismatch | None = None
    for training, tape in analysis.passes:
        try:
            now = capture(model, *call, training=training, abstract=tape.abstract)
        except Exception as error:
            raise Mismatch(
                "the model's code cannot be repaired for these widths "
                f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})",
                _suspects(
                    analysis, masks, _failed_at(tape, error, partial(_touched, analysis, masks))
                ),
            ) from error
        if tape.random:
            continue  # it runs; which of its operators are which cannot be told
        found = _check(tape, now, analysis, masks, count)
        # A real run branches on values, too: another branch says nothing there.
        if tape.abstract or isinstance(found, _OtherNumber):
            detour = found or detour
    return detour


def _check(
    before: Tape,
    now: Tape,
    analysis: Analysis,
    masks: Mapping[Dim, Tensor],
    count: Callable[[Dim], int],
) -> Mismatch | None:
    before_nodes, now_nodes = _substance(before), _substance(now)
    expected_numbers = {id(scale.node) for scale in analysis.facts.scales}
    number: Mismatch | None = None
    for old, new in zip(before_nodes, now_nodes, strict=False):
        where = f" in {old.module}" if old.module else ""
        if old.op is not new.op:
            return number or Mismatch(
                f"the code takes another branch{where}: {old.name} became {new.name}",
                _suspects(analysis, masks, old),
            )
        for a, b in zip(old.outputs, new.outputs, strict=False):
            expected = tuple(width(axis, count) for axis in analysis.axes(a))
            if expected != b.shape:
                what = f"{old.name}{where} should give {list(expected)} and gives {list(b.shape)}"
                if old.module != new.module:
                    what = (
                        "the code looks at a width and takes another branch: it now runs "
                        f"{new.module or 'the model itself'} where it ran "
                        f"{old.module or 'the model itself'}"
                    )
                error = Mismatch(what, _suspects(analysis, masks, old))
                if before.abstract or expected != a.shape:
                    raise error
                return number or error  # a real run counts by values, too: how many it found
        changed = [] if id(old) in expected_numbers else _changed_numbers(old, new)
        if changed:
            kind = _OtherNumber if not before.abstract or _compares(old) else Mismatch
            error = kind(
                f"{old.name}{where} uses a number computed from a width, and the factor cannot be "
                f"folded into parameters ({changed[0][0]:g} became {changed[0][1]:g})",
                _suspects(analysis, masks, old),
            )
            if kind is Mismatch:
                raise error
            number = number or error
    if len(before_nodes) != len(now_nodes):
        return number or Mismatch(
            f"the model ran {len(before_nodes)} operators before and {len(now_nodes)} after",
            _suspects(analysis, masks, None),
        )
    return number


def _compares(node: Node) -> bool:
    """Is the outcome true or false? Then a number in it decides what runs, and scales nothing."""
    return bool(node.outputs) and node.outputs[0].dtype is torch.bool


def _changed_numbers(old: Node, new: Node) -> list[tuple[float, float]]:
    """Floating-point numbers that differ, single-valued tensors included; where the answer is known
    to be computed from widths, too, they are dealt with where that acts."""
    if any(value.expr is not None for value in old.outputs):
        return []

    def number(leaf: Any) -> float | None:
        return leaf.number if isinstance(leaf, Value) else leaf if isinstance(leaf, float) else None

    return [
        (number(a), number(b))  # type: ignore[misc]
        for a, b in zip(
            flatten((old.args, old.kwargs)), flatten((new.args, new.kwargs)), strict=False
        )
        if number(a) is not None and number(b) is not None and number(a) != number(b)
    ]


def _failed_at(
    before: Tape, error: Exception, touches: Callable[[Node], Collection[Dim]]
) -> Node | None:
    """The operator of the original pass at which the pruned pass broke off.

    Where that one has nothing to do with what was pruned, the code itself may have complained (an
    `assert`) of what it had just computed: the operator before.
    """
    broken = getattr(error, "sentei_tape", None)
    if broken is None:
        return None
    nodes = _substance(before)
    place = min(len(_substance(broken)), len(nodes) - 1)
    if place and not touches(nodes[place]) and touches(nodes[place - 1]):
        return nodes[place - 1]
    return nodes[place]


def _substance(tape: Tape) -> list[Node]:
    """The operators without those that appear or not depending on memory layout."""
    idle = {"contiguous", "clone", "to", "_to_copy", "detach", "alias"}
    return [node for node in tape.substance if node.operator not in idle]


def _touched(analysis: Analysis, masks: Mapping[Dim, Tensor], node: Node) -> set[Dim]:
    """The pruned dims of what an operator reads and writes."""
    values = [v for v in flatten((node.args, node.kwargs, node.outputs)) if isinstance(v, Value)]
    return {d for v in values for a in analysis.axes(v) for d in dims(a) if d in masks}


def _suspects(analysis: Analysis, masks: Mapping[Dim, Tensor], node: Any) -> tuple[Dim, ...]:
    """The pruned dims that an operator touches, or all pruned dims."""
    if node is None:
        return tuple(masks)
    found = _touched(analysis, masks, node)
    if not found and node.module:
        near = node.module.rpartition(".")[0] or node.module
        for prefix in (f"{node.module}.", f"{near}."):
            found = found or {
                d
                for name, axes in analysis.parameters.items()
                if name.startswith(prefix)
                for a in axes
                for d in dims(a)
                if d in masks
            }
    return tuple(found) or tuple(masks)
