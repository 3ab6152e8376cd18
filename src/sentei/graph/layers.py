"""Whole layers and residual branches as units: find, delete, insert, replace.

A **layer** is an element of a `ModuleList` or `Sequential` that returns its input plus something:
a residual block, a transformer layer. Deleting it hands its input on. Where nothing but sums lies
between input and output that is exactly the layer with its branches times zero; where a
normalisation follows the sum (post-norm), the sum is passed on unnormalised, as is usual.

A **branch** is the something: a module whose output is added to a tensor it was computed from, with
whatever runs for it alone. Deleting it puts parameter-free stand-ins in place that return zeros in
the structure the originals returned; the network with the branch times zero computes the same.

Both are found on the tape of one forward pass: from the output back through sums to the input.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack

from sentei.graph.axis import Fixed
from sentei.graph.blueprint import (
    blueprint,
    changed,
    configured,
    follow,
    followed,
    read_back,
    saved_shapes,
)
from sentei.graph.capture import (
    _adopt_stand_ins,
    _module_stack,
    _Recorder,
    _restored,
    capture,
    tensors_in,
    unwrap,
)
from sentei.graph.cost import node_macs
from sentei.graph.errors import PruneError, VerificationError, closest
from sentei.graph.groups import call_arguments
from sentei.graph.surgery import _config_states
from sentei.graph.tape import Node, Tape, Value, flatten
from sentei.graph.verify import _TOLERANCE, _run, _seeded

__all__ = ["Layer", "Layers", "delete_layer", "insert_layer", "layers", "replace_layer"]

Arguments = tuple[tuple[Any, ...], Mapping[str, Any]]
# What hands a tensor on as it is; of shapes, what keeps positions in order.
_PASSES = {
    "dropout", "dropout_", "feature_dropout", "contiguous", "clone", "to", "_to_copy", "detach",
    "alias", "view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze",
    "view_as", "type_as", "lift_fresh",
}  # fmt: skip
# What turns zeros into zeros.
_ZERO_TO_ZERO = _PASSES | {
    "mul", "mul_", "div", "neg", "permute", "transpose", "movedim", "slice", "roll", "select",
    "swapaxes", "constant_pad_nd", "pad", "t", "relu", "gelu", "silu", "tanh",
}  # fmt: skip
_SUMS = {"add", "add_", "sub", "sub_"}
_NONNEGATIVE = {"relu", "relu_", "relu6", "sigmoid", "softmax", "hardsigmoid", "abs", "square"}
_KEEPS_SIGN = _PASSES | {"max_pool2d", "max_pool1d", "max_pool3d", "adaptive_avg_pool2d"}
# What may follow the sum in a layer whose deletion is not exactly its branches times zero.
_AFTER = {
    "layer_norm", "rms_norm", "_fused_rms_norm", "group_norm", "batch_norm", "relu", "relu_",
    "gelu", "silu", "silu_", "leaky_relu", "leaky_relu_", "hardswish", "hardswish_", "elu", "mish",
}  # fmt: skip
_DEPTHS = re.compile(r"layer|depth|block")
_NUMBERS = re.compile(r"idx|index|layer_id|layer_num|block_id|layer_number")


@dataclass(frozen=True)
class Layer:
    """A unit of depth.

    name: of the module. kind: "layer" or "branch".
    params, macs: what its deletion saves, on the example input.
    exact: its deletion is exactly the original with the branches times zero; otherwise something
        that followed the sum goes as well.
    modules: what is taken out or replaced.
    """

    name: str
    kind: str
    params: int
    macs: int
    exact: bool
    modules: tuple[str, ...] = field(repr=False)
    _zeros: tuple[tuple[int, int], ...] = field(repr=False)  # (operator, operand) to silence


class Layers(Mapping[str, Layer]):
    """The layers and branches that can be deleted, by name; prints as a table."""

    def __init__(self, found: Mapping[str, Layer], seen: _Seen) -> None:
        self._found = dict(found)
        self._seen = seen

    def __getitem__(self, name: str) -> Layer:
        if name not in self._found:
            raise KeyError(f"no layer {name!r}; {closest(name, self._found)}")
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def __repr__(self) -> str:
        rows = [("layer", "kind", "params", "MACs", "deletion")]
        for layer in self.values():
            exact = "exact" if layer.exact else "exact but for what follows the sum"
            rows.append((layer.name, layer.kind, f"{layer.params:,}", f"{layer.macs:,}", exact))
        wide = [max(len(row[i]) for row in rows) for i in range(5)]
        return "\n".join(
            f"{a:<{wide[0]}}  {b:<{wide[1]}}  {c:>{wide[2]}}  {d:>{wide[3]}}  {e}"
            for a, b, c, d, e in rows
        )


# -- the public functions -------------------------------------------------------------------------
def layers(
    model: nn.Module,
    example_inputs: Any = None,
    *,
    args: tuple[Any, ...] | None = None,
    kwargs: Mapping[str, Any] | None = None,
) -> Layers:
    """Whole layers and residual branches that `delete_layer` can take out.

    Args:
        example_inputs: a tensor, a tuple of positional arguments, or a dict of keyword arguments;
            `args` and `kwargs` give both at once.
    Raises:
        PruneError: no or unusable example inputs.

    >>> class Residual(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.f = nn.Linear(4, 4)
    ...     def forward(self, x):
    ...         return x + self.f(x)
    >>> net = nn.Sequential(nn.Linear(3, 4), Residual(), Residual(), nn.Linear(4, 2))
    >>> layers(net, torch.zeros(1, 3))
    layer  kind    params  MACs  deletion
    1      layer       20    16  exact
    1.f    branch      20    16  exact
    2      layer       20    16  exact
    2.f    branch      20    16  exact
    """
    return _layers(unwrap(model), call_arguments(example_inputs, args, kwargs))


def delete_layer(
    model: nn.Module,
    name: str,
    example_inputs: Any = None,
    *,
    args: tuple[Any, ...] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    verify: bool = True,
) -> Layer:
    """Take a layer out of its list, or replace a residual branch by zeros, in place.

    Counts (`num_layers`), numbers of the layers behind it (`layer_idx`, by which caches go) and,
    for whole layers of Hugging Face models, the configuration follow.

    Args:
        name: a name in `layers(model, ...)`.
        verify: compare with the original whose branches are multiplied by zero.
    Returns:
        what was deleted.
    Raises:
        PruneError: no such layer, or it cannot be deleted (says why).
        VerificationError: the result differs from the original with the branches silenced.
        In both cases the model is as before.

    >>> class Residual(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.f = nn.Linear(4, 4)
    ...     def forward(self, x):
    ...         return x + self.f(x)
    >>> net = nn.Sequential(nn.Linear(3, 4), Residual(), Residual(), nn.Linear(4, 2))
    >>> delete_layer(net, "1", torch.zeros(1, 3)).params
    20
    >>> len(net)
    3
    """
    model = unwrap(model)
    call = call_arguments(example_inputs, args, kwargs)
    found = _layers(model, call, trial=False)  # its own deletion is trial enough
    if name not in found:
        raise PruneError(_why_not(model, name, found))
    layer = found[name]
    verify = verify and not any(p.is_meta for p in model.parameters())
    reference = _silenced(model, layer, found._seen, call) if verify else None
    with _all_or_nothing(model):
        if layer.kind == "layer":
            _resize(model, name, lambda items, i: items[:i] + items[i + 1 :])
        else:
            for module in layer.modules:
                stand_in = Silent.of(model.get_submodule(module), found._seen.only_call(module))
                _put(model, module, stand_in)
            _close_ranks(model, found._seen.numbers(layer.modules))
        _check_runs(model, call, found._seen, f"without {name}")
        if reference is not None:
            _compare(_run(model, *call), reference, name)
    return layer


def insert_layer(
    model: nn.Module,
    after: str,
    module: nn.Module,
    example_inputs: Any = None,
    *,
    args: tuple[Any, ...] | None = None,
    kwargs: Mapping[str, Any] | None = None,
) -> str:
    """Put `module` behind the element `after` of a `ModuleList` or `Sequential`, in place.

    Args:
        after: name of the element; or of the list itself, to put the module first.
    Returns:
        the name of the new element.
    Raises:
        PruneError: there is no such element, or the model does not run with the module there, or
            gives outputs of another shape. The model is as before.

    >>> net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> insert_layer(net, "1", nn.Linear(4, 4), torch.zeros(1, 3))
    '2'
    >>> len(net)
    4
    """
    model = unwrap(model)
    call = call_arguments(example_inputs, args, kwargs)
    if not isinstance(module, nn.Module):
        raise PruneError(f"insert_layer: give a module; got {type(module).__name__}")
    if any(m is module for m in model.modules()):
        raise PruneError(
            "insert_layer: this module is already part of the model; insert a copy "
            "(copy.deepcopy), or its weights would be shared"
        )
    seen = _watch(model, call)
    container = _submodule(model, after)
    if _is_list(container):
        after = _join(after, "")
    with _all_or_nothing(model):
        new = _resize(model, after, lambda items, i: [*items[: i + 1], module, *items[i + 1 :]])
        _check_runs(model, call, seen, f"with {type(module).__name__} as {new}", same_outputs=True)
    return new


def replace_layer(
    model: nn.Module,
    name: str,
    module: nn.Module,
    example_inputs: Any = None,
    *,
    args: tuple[Any, ...] | None = None,
    kwargs: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Put `module` in the place of the module called `name`, in place; returns the old one.

    The new module takes over the number of the old one (`layer_idx`), where it has one.

    Raises:
        PruneError: there is no such module, or the model does not run with the new one, or gives
            outputs of another shape. The model is as before.

    >>> net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> replace_layer(net, "1", nn.GELU(), torch.zeros(1, 3))
    ReLU()
    """
    model = unwrap(model)
    call = call_arguments(example_inputs, args, kwargs)
    if not isinstance(module, nn.Module):
        raise PruneError(f"replace_layer: give a module; got {type(module).__name__}")
    old = _submodule(model, name)
    if old is model:
        raise PruneError("replace_layer: the name of a part of the model is needed")
    seen = _watch(model, call)
    with _all_or_nothing(model, module):
        numbers = {k: n for k, n in vars(old).items() if type(n) is int and _NUMBERS.search(k)}
        for part in module.modules():
            for key, number in numbers.items():
                if type(vars(part).get(key)) is int:
                    vars(part)[key] = number
        _put(model, name, module)
        what = f"with {type(module).__name__} as {name}"
        _check_runs(model, call, seen, what, same_outputs=True)
    return old


# -- what ran -------------------------------------------------------------------------------------
@dataclass(eq=False)
class _Call:
    """One call of one module: the operators it ran, what went in and came out."""

    name: str
    start: int
    end: int
    inputs: list[Value]
    outputs: list[Value]
    given: Any = field(repr=False)  # (args, kwargs) and result as they were
    result: Any = field(repr=False)

    @property
    def span(self) -> int:
        return self.end - self.start


@dataclass(eq=False)
class _Seen:
    """One forward pass, with the calls of all modules."""

    model: nn.Module
    tape: Tape
    calls: dict[str, list[_Call]]

    def only_call(self, name: str) -> _Call:
        return self.calls[name][0]

    def producers(self, value: Value) -> list[int]:
        return self._producers.get(id(value), [])

    def users(self, value: Value) -> list[int]:
        return self._users.get(id(value), [])

    def __post_init__(self) -> None:
        self._producers: dict[int, list[int]] = {}
        self._users: dict[int, list[int]] = {}
        for i, node in enumerate(self.tape.nodes):
            for value in node.outputs:
                self._producers.setdefault(id(value), []).append(i)
            for value in flatten((node.args, node.kwargs)):
                if isinstance(value, Value):
                    self._users.setdefault(id(value), []).append(i)
        self.returned = {id(v) for v in self.tape.outputs}

    def numbers(self, modules: tuple[str, ...]) -> dict[str, list[int]]:
        """Numbers of layers (`layer_idx`) that these modules hold, by attribute."""
        found: dict[str, list[int]] = {}
        for name in modules:
            for part in self.model.get_submodule(name).modules():
                for key, value in vars(part).items():
                    if type(value) is int and _NUMBERS.search(key):
                        found.setdefault(key, []).append(value)
        return {key: sorted(set(numbers)) for key, numbers in found.items()}


def _watch(model: nn.Module, call: Arguments) -> _Seen:
    """Run once without arithmetic and note what every module was given and returned."""
    names = {id(m): name for name, m in model.named_modules()}
    calls: dict[str, list[_Call]] = {}
    open_: list[tuple[int, int]] = []

    def recorder() -> _Recorder | None:
        modes = _get_current_dispatch_mode_stack()
        return next((m for m in reversed(modes) if isinstance(m, _Recorder)), None)

    def values(tree: Any, now: _Recorder) -> list[Value]:
        return [now.value(t) for t in _tensors(tree)]

    def enter(module: nn.Module, args: Any) -> None:
        now = recorder()
        if now is not None:
            open_.append((id(module), len(now.tape.nodes)))

    def leave(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        now = recorder()
        if now is None or not open_:
            return
        start = open_.pop()[1]
        name = names.get(id(module))
        if name is None:
            return
        calls.setdefault(name, []).append(
            _Call(
                name, start, len(now.tape.nodes), values((args, kwargs), now),
                values(output, now), (args, kwargs), output,
            )
        )  # fmt: skip

    before = register_module_forward_pre_hook(enter)
    after = register_module_forward_hook(leave, with_kwargs=True)
    try:
        tape = capture(model, *call)
    finally:
        before.remove()
        after.remove()
    return _Seen(model, tape, calls)


def _tensors(tree: Any) -> list[Tensor]:
    return [t for _, t in tensors_in(tree)]


def _op(node: Node) -> str:
    return str(node.op._schema.name.split("::")[-1])


# -- finding --------------------------------------------------------------------------------------
def _layers(model: nn.Module, call: Arguments, *, trial: bool = True) -> Layers:
    """What looks deletable; with `trial`, where in doubt, only what the model runs without."""
    seen = _watch(model, call)
    finder = _Finder(seen)
    found: list[tuple[int, Layer]] = []
    for name, module in model.named_modules():
        if not _is_list(module):
            continue
        for key, element in module.named_children():
            layer = finder.layer(_join(name, key), element)
            # A list of unlike elements may be read by position, not walked through.
            mixed = isinstance(module, nn.ModuleList) and len({type(m) for m in module}) > 1
            if layer is not None and (
                not (mixed and trial) or _runs_without(model, layer.name, call)
            ):
                found.append((seen.only_call(layer.name).start * 2, layer))
    whole = {layer._zeros for _, layer in found}
    for layer in finder.branches():
        # A block of one branch that no part of stands alone is listed once, as a layer.
        alone = len(layer.modules) == 1
        if alone or layer._zeros not in whole:
            found.append((layer._zeros[0][0] * 2 + 1, layer))
    found.sort(key=lambda pair: _order(pair[1].name))
    return Layers({layer.name: layer for _, layer in found}, seen)


class _Undo(Exception):
    """Leaves a trial."""


def _runs_without(model: nn.Module, name: str, call: Arguments) -> bool:
    try:
        with _all_or_nothing(model):
            _resize(model, name, lambda items, i: items[:i] + items[i + 1 :])
            capture(model, *call)
            raise _Undo
    except _Undo:
        return True
    except Exception:
        return False  # whatever the model's code makes of it, it is not the layer to take out


def _order(name: str) -> list[tuple[int, int | str]]:
    """Names in the order people count: block.2 before block.10."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in name.split(".")]


def _is_list(module: nn.Module) -> bool:
    return isinstance(module, (nn.ModuleList, nn.Sequential))


class _Finder:
    def __init__(self, seen: _Seen) -> None:
        self.seen = seen
        self.nodes = seen.tape.nodes

    def layer(self, name: str, module: nn.Module) -> Layer | None:
        """The element `name` as a layer; None where it is not one."""
        calls = self.seen.calls.get(name, [])
        if len(calls) != 1 or not calls[0].outputs:
            return None
        call, out = calls[0], calls[0].outputs[0]
        for stream in call.inputs:
            if stream.shape != out.shape or not stream.dtype.is_floating_point:
                continue
            path = _Path(self.seen, stream, call.start)
            if path.reach(out, call.end) and path.zeros:
                if self._leaks(call, out):
                    return None
                macs = self._macs(range(call.start, call.end))
                return Layer(
                    name, "layer", self._params((name,)), macs, path.exact, (name,),
                    tuple(path.zeros),
                )  # fmt: skip
        return None

    def _leaks(self, call: _Call, out: Value) -> bool:
        """Whether something but the output is computed here and used elsewhere."""
        inside = range(call.start, call.end)
        for i in inside:
            for value in self.nodes[i].outputs:
                if value is out or value in call.inputs:
                    continue
                if any(u >= call.end for u in self.seen.users(value)):
                    return True
        return False

    def branches(self) -> Iterator[Layer]:
        for i, node in enumerate(self.nodes):
            if _op(node) not in _SUMS or not _plain_sum(node):
                continue
            for operand in (1, 0) if _op(node).startswith("add") else (1,):
                layer = self._branch(i, operand)
                if layer is not None:
                    yield layer
                    break

    def _branch(self, at: int, operand: int) -> Layer | None:
        node = self.nodes[at]
        branch, stream = node.args[operand], node.args[1 - operand]
        if branch is stream or branch.shape != stream.shape:
            return None
        since = max([p for p in self.seen.producers(stream) if p < at], default=-1)
        if not self._comes_from(branch, stream, since, at):
            return None
        call = self._module(branch, since, at)
        if call is None or len(self.seen.calls[call.name]) != 1:
            return None
        if self._leaks(call, call.outputs[0]):
            return None
        dead = self._dead(call, since, at)
        modules = self._covered(call, dead)
        params = self._params(modules)
        if not params:
            return None
        return Layer(
            call.name, "branch", params, self._macs(dead), True, modules, ((at, operand),)
        )

    def _comes_from(self, value: Value, stream: Value, since: int, at: int) -> bool:
        """Whether `value` was computed from `stream` by operators after `since`."""
        todo, met = [(value, at)], set()
        while todo:
            value, before = todo.pop()
            if value is stream:
                return True
            for i in self.seen.producers(value):
                if since < i < before and i not in met:
                    met.add(i)
                    node = self.nodes[i]
                    operands = flatten((node.args, node.kwargs))
                    todo += [(v, i) for v in operands if isinstance(v, Value)]
        return False

    def _module(self, branch: Value, since: int, at: int) -> _Call | None:
        """The call with most operators whose output becomes the branch, zeros staying zeros."""
        best: _Call | None = None
        value, before = branch, at
        outputs = self._by_output(since, at)
        while True:
            for call in outputs.get(id(value), []):
                if call.end <= before and call.span and (best is None or call.span >= best.span):
                    best = call
            made = [p for p in self.seen.producers(value) if since < p < before]
            producer = max(made, default=None)
            if producer is None or _op(self.nodes[producer]) not in _ZERO_TO_ZERO:
                return best
            node = self.nodes[producer]
            operands = [a for a in node.args[:2] if isinstance(a, Value)]
            operands = [a for a in operands if a.origin == "op"] or operands
            if not operands or (len(operands) > 1 and _op(node) not in ("mul", "mul_")):
                return best
            value, before = operands[0], producer

    def _by_output(self, since: int, at: int) -> dict[int, list[_Call]]:
        found: dict[int, list[_Call]] = {}
        for calls in self.seen.calls.values():
            for call in calls:
                if call.outputs and since < call.start and call.end <= at:
                    found.setdefault(id(call.outputs[0]), []).append(call)
        return found

    def _dead(self, call: _Call, since: int, at: int) -> list[int]:
        """Operators that run for the call alone: its own, and what nobody else uses."""
        dead = set(range(call.start, call.end))
        for i in range(call.start - 1, since, -1):
            node = self.nodes[i]
            values = [v for v in node.outputs if not any(v is a for a in flatten(node.args))]
            if not values:  # handed its input on
                dead.add(i)
                continue
            used = [u for v in values for u in self.seen.users(v) if u != i]
            if used and set(used) <= dead and not any(id(v) in self.seen.returned for v in values):
                dead.add(i)
        return sorted(dead)

    def _covered(self, call: _Call, dead: list[int]) -> tuple[str, ...]:
        """The outermost modules that ran dead operators only, and have parameters."""
        gone = set(dead)
        out = [call.name]
        for name, calls in self.seen.calls.items():
            if len(calls) != 1 or not calls[0].span or not calls[0].outputs:
                continue
            if not set(range(calls[0].start, calls[0].end)) <= gone:
                continue
            module = self.seen.model.get_submodule(name)
            if not any(True for _ in module.parameters()) or _inside(name, call.name):
                continue
            if Silent.recipe(calls[0]) is not None:
                out.append(name)
        return tuple(n for n in out if not any(_inside(n, o) and n != o for o in out))

    def _params(self, modules: tuple[str, ...]) -> int:
        model = self.seen.model
        own = {id(p): p for n in modules for p in model.get_submodule(n).parameters()}
        for name, module in model.named_modules():
            if not any(_inside(name, n) for n in modules):
                for parameter in module._parameters.values():
                    own.pop(id(parameter), None)
        return sum(p.numel() for p in own.values())

    def _macs(self, indices: Any) -> int:
        def axes(value: Value) -> list[Any]:
            return [Fixed(n) for n in value.shape]

        return sum(
            coefficient * prod(a.size for a in sizes)
            for i in indices
            for coefficient, sizes in node_macs(self.nodes[i], axes)
        )


def _inside(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")


def _plain_sum(node: Node) -> bool:
    """a + b or a - b of whole tensors, unscaled."""
    if len(node.args) < 2 or not all(isinstance(a, Value) for a in node.args[:2]):
        return False
    alpha = node.kwargs.get("alpha", node.args[2] if len(node.args) > 2 else 1)
    return bool(alpha == 1) and node.args[0].shape == node.args[1].shape == node.outputs[0].shape


class _Path:
    """From a value back to the stream through sums; notes what was added on the way.

    zeros: (operator, operand) of each summand. exact: nothing but sums lay on the way.
    """

    def __init__(self, seen: _Seen, stream: Value, start: int) -> None:
        self.seen, self.stream, self.start = seen, stream, start
        self.zeros: list[tuple[int, int]] = []
        self.exact = True

    def reach(self, value: Value, before: int) -> bool:
        at = max((p for p in self.seen.producers(value) if self.start <= p < before), default=None)
        if at is None:
            return value is self.stream
        node = self.seen.tape.nodes[at]
        name = _op(node)
        if name in _SUMS and _plain_sum(node):
            for operand in (0, 1) if name.startswith("add") else (0,):
                kept = len(self.zeros), self.exact
                if self.reach(node.args[operand], at):
                    other = _Path(self.seen, self.stream, self.start)
                    if other.reach(node.args[1 - operand], at):
                        return False  # the stream twice
                    self.zeros.append((at, 1 - operand))
                    return True
                del self.zeros[kept[0] :]
                self.exact = kept[1]
            return False
        source = node.args[0] if node.args and isinstance(node.args[0], Value) else None
        if source is None:
            return False
        if name in _PASSES:
            return self.reach(source, at)
        if name in _AFTER:
            kept_exact = self.exact
            self.exact = self.exact and name.startswith("relu") and self._nonnegative()
            if self.reach(source, at):
                return True
            self.exact = kept_exact
        return False

    def _nonnegative(self) -> bool:
        """Whether the stream came out of a ReLU or the like, so that another changes nothing."""
        value, before = self.stream, self.start
        while True:
            at = max((p for p in self.seen.producers(value) if p < before), default=None)
            if at is None:
                return False
            node = self.seen.tape.nodes[at]
            if _op(node) in _NONNEGATIVE:
                return True
            if _op(node) not in _KEEPS_SIGN or not isinstance(node.args[0], Value):
                return False
            value, before = node.args[0], at


def _why_not(model: nn.Module, name: str, found: Layers) -> str:
    seen = found._seen
    try:
        module = model.get_submodule(name)
    except AttributeError:
        return f"no layer {name!r}; {closest(name, found)}"
    near = [n for n in found if _inside(n, name)]
    hint = f". Inside it: {', '.join(map(repr, near[:4]))}" if near else ""
    calls = seen.calls.get(name, [])
    if not calls:
        return f"{name} ({type(module).__name__}) is not called on the example input{hint}"
    if len(calls) > 1:
        return f"{name} ({type(module).__name__}) is called {len(calls)} times, as several layers"
    call = calls[0]
    streams = [v for v in call.inputs if v.dtype.is_floating_point]
    if not streams or not call.outputs:
        return f"{name} ({type(module).__name__}) does not turn a tensor into a tensor{hint}"
    old, new = list(streams[0].shape), list(call.outputs[0].shape)
    if not any(v.shape == call.outputs[0].shape for v in streams):
        return (
            f"{name} ({type(module).__name__}) cannot be deleted: it turns {old} into {new}, and "
            f"what follows needs {new}{hint}"
        )
    finder = _Finder(seen)
    if finder._leaks(call, call.outputs[0]):
        return (
            f"{name} ({type(module).__name__}) cannot be deleted: other parts of the model use "
            f"something else that is computed in it{hint}"
        )
    parent = model.get_submodule(name.rpartition(".")[0])
    where = "" if _is_list(parent) else " and it is in no ModuleList or Sequential,"
    return (
        f"{name} ({type(module).__name__}) cannot be deleted: its output is not its input plus "
        f"something,{where} nor is it added to what it was computed from{hint}"
    )


# -- stand-ins ------------------------------------------------------------------------------------
class Silent(nn.Module):
    """Stands in for a deleted branch: zeros in the structure that the original returned.

    Other outputs than tensors are returned as they were; inputs that were handed through are
    handed through. Plain attributes (numbers, names, flags) of the original stay readable.
    """

    replaced: str
    _steps: list[tuple[str, Any]]
    _spec: Any

    @staticmethod
    def recipe(call: _Call) -> tuple[Any, Any] | None:
        """How to make each output from the inputs; None where that cannot be told."""
        given = pytree.tree_leaves(call.given)
        leaves, spec = pytree.tree_flatten(call.result)
        steps: list[tuple[str, Any]] = []
        for leaf in leaves:
            same = next((i for i, g in enumerate(given) if g is leaf), None)
            if not isinstance(leaf, Tensor):
                handed = same is not None and not isinstance(leaf, (int, float, str, type(None)))
                if not handed and not isinstance(leaf, (int, float, str, type(None))):
                    return None
                steps.append(("input", same) if handed else ("constant", leaf))
                continue
            if same is not None:
                steps.append(("input", same))
                continue
            best: tuple[int, int] | None = None
            for i, g in enumerate(given):
                if isinstance(g, Tensor) and g.is_floating_point():
                    common = 0
                    for a, b in zip(g.shape, leaf.shape, strict=False):
                        if a != b:
                            break
                        common += 1
                    if common and (best is None or common > best[1]):
                        best = i, common
            if best is None:
                if leaf is leaves[0]:
                    return None
                steps.append(("constant", None))  # nobody uses it, or there would be no stand-in
                continue
            steps.append(("zeros", (best[0], best[1], tuple(map(int, leaf.shape[best[1] :])))))
        return steps, spec

    @classmethod
    def of(cls, module: nn.Module, call: _Call) -> Silent:
        recipe = cls.recipe(call)
        if recipe is None:
            raise PruneError(
                f"{call.name} ({type(module).__name__}) cannot be replaced: what it returns cannot "
                "be made from what it is given"
            )
        made = cls()
        for key, value in vars(module).items():
            if type(value) in (int, float, str, bool) and key not in vars(made):
                vars(made)[key] = value
        for key in module._parameters:
            made.register_parameter(key, None)
        made.replaced = type(module).__name__
        made._steps, made._spec = recipe
        made.train(module.training)
        return made

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        given = pytree.tree_leaves((args, kwargs))
        out = []
        for what, value in self._steps:
            if what == "constant":
                out.append(value)
            elif what == "input":
                out.append(given[value])
            else:
                i, common, rest = value
                out.append(given[i].new_zeros((*given[i].shape[:common], *rest)))
        return pytree.tree_unflatten(out, self._spec)

    def extra_repr(self) -> str:
        return f"in place of {self.replaced}"


# -- changing -------------------------------------------------------------------------------------
@contextmanager
def _all_or_nothing(*models: nn.Module) -> Iterator[None]:
    """Everything as before if anything inside raises."""
    parts = [(m, dict(vars(m))) for model in models for m in model.modules()]
    stores = [
        (vars(m)[key], dict(vars(m)[key]))
        for m, _ in parts
        for key in ("_modules", "_parameters", "_buffers")
    ]
    configs = [state for model in models for state in _config_states(model)]
    try:
        yield
    except BaseException:
        for module, state in parts:
            vars(module).clear()
            vars(module).update(state)
        for store, items in stores:
            store.clear()
            store.update(items)
        for owner, saved in configs:
            if isinstance(owner, list):
                owner[:] = saved
            else:
                target = owner if isinstance(owner, dict) else vars(owner)
                target.clear()
                target.update(saved)
        raise


def _submodule(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError:
        known = [n for n, _ in model.named_modules() if n]
        raise PruneError(f"no module {name!r}; {closest(name, known)}") from None


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, key = name.rpartition(".")
    model.get_submodule(parent)._modules[key] = module


def _join(*parts: str) -> str:
    return ".".join(p for p in parts if p) if parts[-1] else f"{parts[0]}." if parts[0] else ""


def _resize(
    model: nn.Module,
    name: str,
    change: Callable[[list[nn.Module], int], list[nn.Module]],
) -> str:
    """Change the list that `name` is in; counts, numbers and configuration follow.

    Returns the name behind `name` afterwards.
    """
    where, _, key = name.rpartition(".")
    container = model.get_submodule(where)
    if not _is_list(container):
        raise PruneError(
            f"{name!r} is not an element of a ModuleList or Sequential but of "
            f"{type(container).__name__}"
        )
    keys = list(container._modules)
    before = [m for m in container._modules.values() if m is not None]
    at = keys.index(key) if key else -1
    numbered = _numbered(before)
    after = change(before, at)
    if not after:
        raise PruneError(f"{name}: the last element of {where or 'the model'} must stay")
    config = _stated(model, len(before), len(after), at) if configured(model) else None
    if keys == [str(i) for i in range(len(keys))]:
        names = [str(i) for i in range(len(after))]
    else:  # a Sequential with names of its own keeps them
        by_id = dict(zip(map(id, before), keys, strict=True))
        free = (str(i) for i in itertools.count() if str(i) not in keys)
        names = [by_id.get(id(m)) or next(free) for m in after]
    container._modules.clear()
    container._modules.update(zip(names, after, strict=True))
    _renumber(after, numbered)
    owner = model.get_submodule(where.rpartition(".")[0]) if where else model
    for attribute, value in list(vars(owner).items()):
        if type(value) is int and value == len(before) and _DEPTHS.search(attribute):
            vars(owner)[attribute] = len(after)
    if config is not None:
        _settle(model, config)
    return _join(where, names[at + 1]) if at + 1 < len(names) else _join(where, names[-1])


def _numbered(items: list[nn.Module]) -> list[tuple[str, str]]:
    """(module, attribute) inside the elements that hold the element's own number."""
    found: list[tuple[str, str]] = []
    if len(items) < 2:
        first = {(n, k) for n, m in items[0].named_modules() for k in vars(m)} if items else set()
        return [(n, k) for n, k in first if _NUMBERS.search(k)]
    held: dict[tuple[str, str], dict[int, Any]] = {}
    for i, item in enumerate(items):
        for name, module in item.named_modules():
            for key, value in vars(module).items():
                if type(value) is int and _NUMBERS.search(key):
                    held.setdefault((name, key), {})[i] = value
    for where, values in held.items():
        if all(value == i for i, value in values.items()):
            found.append(where)
    return found


def _renumber(items: list[nn.Module], numbered: list[tuple[str, str]]) -> None:
    for i, item in enumerate(items):
        parts = dict(item.named_modules())
        for name, key in numbered:
            state: dict[str, Any] = parts[name].__dict__ if name in parts else {}
            if type(state.get(key)) is int:
                state[key] = i


def _close_ranks(model: nn.Module, gone: Mapping[str, list[int]]) -> None:
    """Numbers behind those that are gone move up, so that caches are filled from the first on."""
    for key, numbers in gone.items():
        for module in model.modules():
            value = vars(module).get(key)
            # Only who still works by that number counts: layers around keep theirs.
            if type(value) is int and not isinstance(module, Silent) and _attends(module):
                vars(module)[key] = value - sum(n < value for n in numbers)


def _attends(module: nn.Module) -> bool:
    """Whether a module is one of those that fill a cache: it has no numbered parts of its own."""
    return not any(
        type(n) is int and _NUMBERS.search(k)
        for part in module.modules()
        if part is not module
        for k, n in vars(part).items()
    )


# -- configurations -------------------------------------------------------------------------------
def _stated(model: nn.Module, old: int, new: int, at: int) -> list[Any]:
    """Configurations in which a depth of `old` became `new`, nearest first."""
    base = model.config
    ints = [k for k, n in vars(base).items() if type(n) is int and n == old and _DEPTHS.search(k)]
    lists = [
        k
        for k, n in vars(base).items()
        if isinstance(n, (list, tuple)) and len(n) == old and _DEPTHS.search(k)
    ]
    out = []
    for size in (1, 2):
        for some in itertools.combinations(ints, size):
            changes: dict[tuple[Any, ...], Any] = {(k,): new for k in some}
            for key in lists:
                items = list(getattr(base, key))
                if new < old:
                    del items[at]
                else:
                    items.insert(at + 1, items[max(at, 0)])
                changes[(key,)] = type(getattr(base, key))(items)
            out.append(changed(base, changes))
    return out


def _settle(model: nn.Module, options: list[Any]) -> None:
    """Write the first configuration that describes the model.

    Where none does (parts were replaced before), its code still reads the lists of layers: then
    the change that leaves no choice is written, and otherwise nothing.
    """
    wanted = saved_shapes(model)
    for config in options:
        try:
            fresh = blueprint(type(model), read_back(config))
        except Exception:
            # What its class objects to is no option.
            continue
        if saved_shapes(fresh) == wanted:
            follow(model, fresh)
            followed(model.config, config)
            return
    if len(options) == 1:
        followed(model.config, options[0])


# -- checking -------------------------------------------------------------------------------------
def _check_runs(
    model: nn.Module, call: Arguments, before: _Seen, what: str, *, same_outputs: bool = False
) -> None:
    try:
        tape = capture(model, *call)
    except Exception as error:
        line = str(error).partition("\n")[0]
        raise PruneError(
            f"the model does not run {what} ({type(error).__name__}: {line}); it is as before"
        ) from error
    old = [v.shape for v in before.tape.outputs]
    new = [v.shape for v in tape.outputs]
    if not new or new[0] != old[0] or (same_outputs and len(new) == len(old) and new != old):
        got = new[0] if new else None
        raise PruneError(
            f"the model returns shape {got} {what}, was {old[0]}; it is as before"
        )


class _Zeroing(TorchDispatchMode):
    """Multiplies chosen operands of chosen operators by zero.

    An operator is known by the module that runs it and how often that module ran it before: code
    around the model may look at values, and run other operators when it runs for real.
    """

    def __init__(self, nodes: list[Node], zeros: tuple[tuple[int, int], ...]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.path: list[str] = [""]
        self.times: dict[tuple[str, Any], int] = {}
        self.wanted: dict[tuple[str, Any, int], int] = {}
        operands = dict(zeros)
        met: dict[tuple[str, Any], int] = {}
        for i, node in enumerate(nodes):
            key = (node.module, node.op)
            if i in operands:
                self.wanted[(*key, met.get(key, 0))] = operands[i]
            met[key] = met.get(key, 0) + 1

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        key = (self.path[-1], func)
        time = self.times.get(key, 0)
        self.times[key] = time + 1
        operand = self.wanted.pop((*key, time), None)
        if operand == 0 and func._schema.name.endswith("_"):
            args[0].zero_()
        elif operand is not None:
            args = tuple(torch.zeros_like(a) if i == operand else a for i, a in enumerate(args))
        return func(*args, **(kwargs or {}))


def _silenced(
    model: nn.Module, layer: Layer, seen: _Seen, call: Arguments
) -> list[tuple[str, Tensor]]:
    """Outputs of the original with the branches times zero; of an inexact layer, passed by."""
    args, kwargs = call
    with ExitStack() as stack:
        stack.enter_context(_restored(model, copy_floats=True))
        stack.enter_context(_seeded())
        model.eval()
        _adopt_stand_ins(model)
        stack.enter_context(torch.inference_mode())
        zeroing = _Zeroing(seen.tape.nodes, layer._zeros if layer.exact else ())
        if layer.exact:
            stack.enter_context(_module_stack(model, zeroing))
            stack.enter_context(zeroing)
        else:
            handle = _passed_by(model.get_submodule(layer.name), seen.only_call(layer.name))
            stack.callback(handle.remove)
        out = model(*args, **kwargs)
    if zeroing.wanted:
        raise PruneError(
            f"{layer.name}: the sum it ends in was not met on a second run; pass verify=False to "
            "go without the comparison"
        )
    return [(path, t.detach().clone()) for path, t in tensors_in(out)]


def _passed_by(module: nn.Module, call: _Call) -> Any:
    """A hook that makes the module return its input as its first output."""
    stream = next(i for i, v in enumerate(call.inputs) if v.shape == call.outputs[0].shape)

    def hook(_: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        given = _tensors((args, kwargs))[stream]
        leaves, spec = pytree.tree_flatten(output)
        first = next(i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor))
        leaves[first] = given
        return pytree.tree_unflatten(leaves, spec)

    return module.register_forward_hook(hook, with_kwargs=True)


def _compare(
    new: list[tuple[str, Tensor]], old: list[tuple[str, Tensor]], name: str
) -> None:
    """Outputs that a layer less does not make fewer must be equal."""

    def by_name(outputs: list[tuple[str, Tensor]]) -> dict[str, list[Tensor]]:
        found: dict[str, list[Tensor]] = {}
        for path, tensor in outputs:
            found.setdefault(re.split(r"[.\[]", path)[0], []).append(tensor)
        return found

    after, before = by_name(new), by_name(old)
    for key, tensors in before.items():
        # Caches and lists of hidden states have an entry for each layer.
        if len(after.get(key, ())) != len(tensors):
            continue
        for a, b in zip(after[key], tensors, strict=True):
            if a.shape != b.shape or not a.is_floating_point():
                continue
            scale = max(b.abs().max().item(), 1e-30) if b.numel() else 1.0
            error = (a.double() - b.double()).abs().max().item() / scale if b.numel() else 0.0
            limit = _TOLERANCE.get(a.dtype, 1e-3)
            if not error <= limit:
                raise VerificationError(
                    f"without {name} the output {key or 0} differs from the original with {name} "
                    f"silenced by {error:.2e} (relative; tolerance {limit:.0e}); something else "
                    "of it is used elsewhere. The model is as before"
                )
