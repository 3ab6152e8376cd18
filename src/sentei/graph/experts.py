"""Whole experts of a mixture as units: find, delete.

A **mixture** is a module in which a router scores experts, some of them are chosen by `topk`, `max`
or `argmax`, and only those run. An expert is a slice of parameters that stack all of them, or an
element of a list. Removing expert e removes its slice or element, and what the router knows of it;
the choice is as in the original with the removed experts' logits at minus infinity, so scores that
are normalised are normalised over the kept ones.

The router is found on the tape of one forward pass: back from the choice to the linear layer that
makes the logits. Whether all else was found is checked by comparison, and a mixture that is built
in another way is left as it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from sentei.graph.capture import capture, named_tensors, tensors_in, unwrap
from sentei.graph.capture.around import module_stack, restored
from sentei.graph.capture.planting import adopt_stand_ins
from sentei.graph.errors import PruneError, VerificationError, closest
from sentei.graph.groups import call_arguments
from sentei.graph.history import Gone
from sentei.graph.layers.change import all_or_nothing, elements, forget, take_out
from sentei.graph.layers.check import compare, referenced
from sentei.graph.surgery import Surgery, _Transaction, apply
from sentei.graph.tape import AttributeKey, Node, Tape, Value
from sentei.graph.verify import Reference, Verification, _run, _seeded, outputs_differ

__all__ = ["Mixture", "Mixtures", "delete_experts", "experts"]

_CHOICES = {"topk", "argmax", "max"}
_CASTS = {"to", "_to_copy", "float", "double", "type_as", "contiguous", "clone", "detach", "alias"}
_TURNS = {"t", "transpose", "mT"}
# Integers that count the experts of a mixture, and those that do not.
_COUNTS, _OTHERS = re.compile(r"expert"), re.compile(r"per_to|top_?k|shared|capacity|group")


@dataclass(frozen=True)
class Mixture:
    """A layer that chooses among experts.

    name: of the module. experts: how many there are. chosen: how many run for each token.
    params: of one expert, with its share of the router.
    verification: after `delete_experts`, how the model compares with the original silenced.
    """

    name: str
    experts: int
    chosen: int
    params: int
    verification: Verification | None = field(default=None, repr=False)
    _router: tuple[str, ...] = field(default=(), repr=False)  # tensors with a row for each expert
    _columns: tuple[str, ...] = field(default=(), repr=False)  # the same, with a column
    _stacks: tuple[str, ...] = field(default=(), repr=False)  # tensors with a slice for each
    _lists: tuple[str, ...] = field(default=(), repr=False)  # containers with an element for each
    _logits: tuple[str, Any, int] = field(default=("", None, 0), repr=False)


class Mixtures(Mapping[str, Mixture]):
    """The mixtures of a model, by name; prints as a table."""

    def __init__(self, found: Iterable[Mixture]) -> None:
        self._found = {m.name: m for m in found}

    def __getitem__(self, name: str) -> Mixture:
        if name not in self._found:
            raise KeyError(f"no mixture {name!r}; {closest(name, self._found)}")
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def __repr__(self) -> str:
        rows = [("mixture", "experts", "chosen", "params of one")]
        rows += [(m.name, str(m.experts), str(m.chosen), f"{m.params:,}") for m in self.values()]
        wide = [max(len(row[i]) for row in rows) for i in range(4)]
        return "\n".join(
            f"{a:<{wide[0]}}  {b:>{wide[1]}}  {c:>{wide[2]}}  {d:>{wide[3]}}".rstrip()
            for a, b, c, d in rows
        )


def experts(
    model: nn.Module,
    example_inputs: Any = None,
    *,
    args: tuple[Any, ...] | None = None,
    kwargs: Mapping[str, Any] | None = None,
) -> Mixtures:
    """The mixtures whose experts `delete_experts` can take out.

    Args:
        example_inputs: a tensor, a tuple of positional arguments, or a dict of keyword arguments;
            `args` and `kwargs` give both at once.
    Raises:
        PruneError: no or unusable example inputs.
    """
    model = unwrap(model)
    return _find(model, call_arguments(example_inputs, args, kwargs))


def delete_experts(
    model: nn.Module,
    name: str,
    gone: Iterable[int],
    example_inputs: Any = None,
    *,
    args: tuple[Any, ...] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    verify: bool = True,
    optimizer: torch.optim.Optimizer | None = None,
) -> Mixture:
    """Take experts out of a mixture, with their part of the router, in place.

    Attributes that count the experts of this mixture follow; a configuration and attributes that
    count those of the whole model follow once all its mixtures agree again.

    Args:
        name: a name in `experts(model, ...)`.
        gone: numbers of the experts to remove.
        verify: compare with the original whose router never chooses them.
        optimizer: state of stacked parameters follows, parameters that are gone are forgotten.
    Returns:
        what remains, with its `verification`.
    Raises:
        PruneError: no such mixture or expert, or fewer would remain than are chosen, or the model
            does not run without them.
        VerificationError: the result differs from the original with the experts silenced.
        In both cases the model is as before.
    """
    model = unwrap(model)
    call = call_arguments(example_inputs, args, kwargs)
    found = _find(model, call)
    if name not in found:
        raise PruneError(f"no mixture {name!r}; {closest(name, found)}")
    mixture = found[name]
    removed = sorted(set(map(int, gone)))
    kept = [i for i in range(mixture.experts) if i not in removed]
    if not removed or removed[0] < 0 or removed[-1] >= mixture.experts:
        raise PruneError(f"{name}: experts are numbered 0 to {mixture.experts - 1}, got {removed}")
    if len(kept) < mixture.chosen:
        raise PruneError(
            f"{name} chooses {mixture.chosen} of its {mixture.experts} experts for each token; "
            f"{len(kept)} would remain"
        )
    surgery = _surgery(model, mixture, kept)
    before = None
    if verify and not any(p.is_meta for p in model.parameters()):
        before = referenced(model, lambda: _silence(model, mixture, removed, call))
    had = {id(p) for p in model.parameters()}
    with all_or_nothing(model), _Transaction(model, optimizer) as transaction:
        apply(model, surgery, transaction)
        for container in mixture._lists:
            take_out(model, Gone(container, elements=tuple(kept)))
        remains = _follow(model, mixture, found, len(kept), call)
        report = None
        if before is not None:
            second = before.reference.second
            if second is not None:
                weights = surgery.shrink(second.weights)
                reference = replace(before.reference, second=replace(second, weights=weights))
                before = replace(before, reference=reference)
            report = compare(model, before, f"these experts of {name}", call)
        transaction.commit()
    if optimizer is not None:
        forget(optimizer, had - {id(p) for p in model.parameters()})
    return replace(remains, verification=report)


# -- finding --------------------------------------------------------------------------------------
def _find(model: nn.Module, call: Any) -> Mixtures:
    tape = capture(model, *call)
    producer = {id(v): n for n in tape.nodes for v in n.outputs if not _hands_on(n, v)}
    tensors = named_tensors(model)
    found: dict[str, Mixture] = {}
    for node in tape.nodes:
        if node.operator not in _CHOICES or not node.args or not isinstance(node.args[0], Value):
            continue
        router = _router(node.args[0], producer)
        if router is None:
            continue
        logits, rows, columns = router
        mixture = _mixture(model, tensors, node, logits, rows, columns, tape)
        if mixture is not None:
            known = found.get(mixture.name)
            chosen = max(mixture.chosen, known.chosen) if known else mixture.chosen
            found[mixture.name] = replace(known or mixture, chosen=chosen)
    return Mixtures(found.values())


def _hands_on(node: Node, value: Value) -> bool:
    return any(value is a for a in node.args)


def _router(
    value: Value, producer: Mapping[int, Node]
) -> tuple[Node, tuple[str, ...], tuple[str, ...]] | None:
    """(operator that makes the logits, tensors with a row for each expert, with a column)."""
    extra: list[str] = []
    while True:
        node = producer.get(id(value))
        if node is None:
            return None
        if node.operator in ("linear", "matmul", "mm", "addmm", "einsum"):
            break
        for other in node.args[1:] if node.operator.startswith("add") else ():
            if isinstance(other, Value) and other.name and other.shape[-1:] == value.shape[-1:]:
                extra.append(other.name)  # a bias that balances the choice
        source = next((a for a in node.args if isinstance(a, Value) and not a.name), None)
        if source is None:
            return None
        value = source
    operands = [a for a in node.args if isinstance(a, Value)]
    turned = node.operator != "linear"
    biases = operands[2:] if node.operator == "linear" else []
    if node.operator == "addmm":
        biases, operands = operands[:1], operands[1:]
    if len(operands) < 2:
        return None
    weight = operands[1]
    while not weight.name:  # cast, or turned around
        maker = producer.get(id(weight))
        if maker is None or maker.operator not in _CASTS | _TURNS:
            return None
        turned ^= maker.operator in _TURNS
        weight = maker.args[0]
    for bias in biases:
        while not bias.name and id(bias) in producer:
            bias = producer[id(bias)].args[0]
        if bias.name:
            extra.append(bias.name)
    rows = (*extra,) if turned else (weight.name, *extra)
    return node, rows, (weight.name,) if turned else ()


def _mixture(
    model: nn.Module,
    tensors: Mapping[str, tuple[str, Tensor]],
    choice: Node,
    logits: Node,
    rows: tuple[str, ...],
    columns: tuple[str, ...],
    tape: Tape,
) -> Mixture | None:
    count = logits.outputs[0].shape[-1]
    if count < 2 or any(n not in tensors for n in (*rows, *columns)):
        return None
    if any(tensors[n][1].shape[0] != count for n in rows):
        return None
    scope = (*columns, *rows)[0].rpartition(".")[0]
    while True:
        stacks, lists = _experts(model, tensors, scope, count, {*rows, *columns})
        if stacks or lists:
            break
        if not scope:
            return None
        scope = scope.rpartition(".")[0]
    shape = choice.args[0].shape
    chosen = 1
    if choice.operator == "topk" and shape[-1] == count:
        chosen = int(choice.args[1])
    held = [*rows, *columns, *stacks]
    own = sum(tensors[n][1].numel() for n in held if tensors[n][0] == "parameter")
    own += sum(p.numel() for n in lists for p in model.get_submodule(n).parameters())
    time = sum(
        n.module == logits.module and n.op is logits.op
        for n in tape.nodes[: next(i for i, n in enumerate(tape.nodes) if n is logits)]
    )
    return Mixture(
        scope, count, chosen, own // count, None, rows, columns, stacks, lists,
        (logits.module, logits.op, time),
    )  # fmt: skip


def _experts(
    model: nn.Module,
    tensors: Mapping[str, tuple[str, Tensor]],
    scope: str,
    count: int,
    router: set[str],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Stacked tensors and lists of modules inside `scope` that hold one part for each expert."""
    dot = f"{scope}." if scope else ""
    inside = {n: t for n, (_, t) in tensors.items() if n.startswith(dot) and n not in router}
    homes = {n.rpartition(".")[0] for n, t in inside.items() if t.dim() > 2 and t.shape[0] == count}
    stacks = tuple(
        n for n, t in inside.items()
        if n.rpartition(".")[0] in homes and t.dim() > 1 and t.shape[0] == count
    )  # fmt: skip
    lists = tuple(
        name
        for name, module in model.named_modules()
        if name.startswith(dot) and isinstance(module, (nn.ModuleList, nn.ModuleDict))
        if len(elements(module)) == count
        if len({type(module.get_submodule(key)) for key in elements(module)}) == 1
    )
    return stacks, lists


# -- changing -------------------------------------------------------------------------------------
def _surgery(model: nn.Module, mixture: Mixture, kept: list[int]) -> Surgery:
    positions = torch.tensor(kept)
    cut = {name: {0: positions} for name in (*mixture._router, *mixture._stacks)}
    cut |= {name: {named_tensors(model)[name][1].dim() - 1: positions} for name in mixture._columns}
    attributes: dict[AttributeKey, int] = {}
    for name, module in model.get_submodule(mixture.name).named_modules():
        path = ".".join(filter(None, (mixture.name, name)))
        for key in _counting(module, mixture.experts):
            attributes[AttributeKey(path, (key,))] = len(kept)
    return Surgery(cut, attributes, {}, {}, {})


def _counting(owner: Any, count: int) -> list[str]:
    return [
        key
        for key, value in vars(owner).items()
        if type(value) is int and value == count
        if _COUNTS.search(key) and not _OTHERS.search(key)
    ]


def _follow(model: nn.Module, mixture: Mixture, before: Mixtures, count: int, call: Any) -> Mixture:
    """Run the model; what counts the experts of all mixtures follows where they agree again."""
    try:
        after = _find(model, call)
    except Exception as error:
        line = str(error).partition("\n")[0]
        raise PruneError(
            f"the model does not run without these experts of {mixture.name} "
            f"({type(error).__name__}: {line}); it is as before"
        ) from error
    if mixture.name not in after or after[mixture.name].experts != count:
        raise PruneError(f"{mixture.name} is no mixture of {count} experts afterwards")
    if after.keys() == before.keys() and {m.experts for m in after.values()} == {count}:
        settled = {f"{m}." for m in after}
        owners = [m for n, m in model.named_modules() if not f"{n}.".startswith((*settled,))]
        config = getattr(model, "config", None)
        for owner in [*owners, *([config] if hasattr(config, "__dict__") else [])]:
            for key in _counting(owner, mixture.experts):
                setattr(owner, key, count)
    return after[mixture.name]


# -- checking -------------------------------------------------------------------------------------
class _Silencing(TorchDispatchMode):
    """Puts the logits of removed experts, and what is chosen by, at minus infinity."""

    def __init__(self, mixture: Mixture, removed: list[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.path: list[str] = [""]
        self.mixture, self.removed = mixture, removed
        self.times = 0
        self.met = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        where, op, time = self.mixture._logits
        name = func._schema.name.split("::")[-1]
        here = f"{self.path[-1]}.".startswith(f"{self.mixture.name}." if self.mixture.name else "")
        if self.met and here and name in _CHOICES and isinstance(args[0], Tensor):
            args = (self._without(args[0]), *args[1:])
        out = func(*args, **(kwargs or {}))
        if func is op and self.path[-1] == where:
            if self.times == time:
                self.met = True
                out = self._without(out)
            self.times += 1
        return out

    def _without(self, scores: Tensor) -> Tensor:
        """The scores with those of removed experts at minus infinity, if these are scores."""
        count = self.mixture.experts
        if not scores.is_floating_point() or scores.dim() < 1:
            return scores
        flat = scores if scores.shape[-1] == count else None
        if flat is None and scores.dim() > 1 and scores.shape[-1] * scores.shape[-2] == count:
            flat = scores.reshape(*scores.shape[:-2], count)  # experts in groups
        if flat is None:
            return scores
        index = torch.tensor(self.removed, device=scores.device)
        return flat.index_fill(-1, index, -torch.inf).reshape(scores.shape)


def _silence(model: nn.Module, mixture: Mixture, removed: list[int], call: Any) -> Reference:
    args, kwargs = call
    plain = _run(model, args, kwargs)
    with ExitStack() as stack:
        stack.enter_context(restored(model, copy_floats=True))
        stack.enter_context(_seeded())
        model.eval()
        adopt_stand_ins(model.modules())
        silencing = _Silencing(mixture, removed)
        stack.enter_context(torch.inference_mode())
        stack.enter_context(module_stack(model, silencing))
        stack.enter_context(silencing)
        out = model(*args, **kwargs)
    if not silencing.met:
        raise VerificationError(
            f"{mixture.name}: its router was not met on a second run; pass verify=False to go "
            "without the comparison"
        )
    found = [(path, t.detach().clone()) for path, t in tensors_in(out)]
    return Reference(found, moved=outputs_differ(plain, found))
