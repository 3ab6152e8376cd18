"""Find layers and branches on the tape: from the output back through sums to the input."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

from torch import nn

from sentei.graph.axis import Fixed
from sentei.graph.capture import capture
from sentei.graph.cost import node_macs
from sentei.graph.errors import closest
from sentei.graph.layers.change import all_or_nothing, resize
from sentei.graph.layers.found import Layer, Layers
from sentei.graph.layers.silent import Silent
from sentei.graph.layers.watch import (
    Arguments,
    Call,
    Seen,
    inside,
    is_list,
    join,
    watch,
)
from sentei.graph.tape import Node, Value, flatten

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


def find(model: nn.Module, call: Arguments, *, trial: bool = True) -> Layers:
    """What looks deletable; with `trial`, where in doubt, only what the model runs without."""
    seen = watch(model, call)
    finder = _Finder(seen)
    found: list[tuple[int, Layer]] = []
    for name, module in model.named_modules():
        if not is_list(module):
            continue
        for key, element in module.named_children():
            layer = finder.layer(join(name, key), element)
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
        with all_or_nothing(model):
            resize(model, name, lambda items, i: items[:i] + items[i + 1 :])
            capture(model, *call)
            raise _Undo
    except _Undo:
        return True
    except Exception:
        return False  # whatever the model's code makes of it, it is not the layer to take out


def _order(name: str) -> list[tuple[int, int | str]]:
    """Names in the order people count: block.2 before block.10."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in name.split(".")]


class _Finder:
    def __init__(self, seen: Seen) -> None:
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

    def _leaks(self, call: Call, out: Value) -> bool:
        """Whether something but the output is computed here and used elsewhere."""
        for i in range(call.start, call.end):
            for value in self.nodes[i].outputs:
                if value is out or value in call.inputs:
                    continue
                if any(u >= call.end for u in self.seen.users(value)):
                    return True
        return False

    def branches(self) -> Iterator[Layer]:
        for i, node in enumerate(self.nodes):
            if node.operator not in _SUMS or not _plain_sum(node):
                continue
            for operand in (1, 0) if node.operator.startswith("add") else (1,):
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
        return Layer(call.name, "branch", params, self._macs(dead), True, modules, ((at, operand),))

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

    def _module(self, branch: Value, since: int, at: int) -> Call | None:
        """The call with most operators whose output becomes the branch, zeros staying zeros."""
        best: Call | None = None
        value, before = branch, at
        outputs = self._by_output(since, at)
        while True:
            for call in outputs.get(id(value), []):
                if call.end <= before and call.span and (best is None or call.span >= best.span):
                    best = call
            made = [p for p in self.seen.producers(value) if since < p < before]
            producer = max(made, default=None)
            if producer is None or self.nodes[producer].operator not in _ZERO_TO_ZERO:
                return best
            node = self.nodes[producer]
            operands = [a for a in node.args[:2] if isinstance(a, Value)]
            operands = [a for a in operands if a.origin == "op"] or operands
            if not operands or (len(operands) > 1 and node.operator not in ("mul", "mul_")):
                return best
            value, before = operands[0], producer

    def _by_output(self, since: int, at: int) -> dict[int, list[Call]]:
        found: dict[int, list[Call]] = {}
        for calls in self.seen.calls.values():
            for call in calls:
                if call.outputs and since < call.start and call.end <= at:
                    found.setdefault(id(call.outputs[0]), []).append(call)
        return found

    def _dead(self, call: Call, since: int, at: int) -> list[int]:
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

    def _covered(self, call: Call, dead: list[int]) -> tuple[str, ...]:
        """The outermost modules that ran dead operators only, and have parameters."""
        gone = set(dead)
        out = [call.name]
        for name, calls in self.seen.calls.items():
            if len(calls) != 1 or not calls[0].span or not calls[0].outputs:
                continue
            if not set(range(calls[0].start, calls[0].end)) <= gone:
                continue
            module = self.seen.model.get_submodule(name)
            if not any(True for _ in module.parameters()) or inside(name, call.name):
                continue
            if Silent.recipe(calls[0]) is not None:
                out.append(name)
        return tuple(n for n in out if not any(inside(n, o) and n != o for o in out))

    def _params(self, modules: tuple[str, ...]) -> int:
        model = self.seen.model
        own = {id(p): p for n in modules for p in model.get_submodule(n).parameters()}
        for name, module in model.named_modules():
            if not any(inside(name, n) for n in modules):
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

    def __init__(self, seen: Seen, stream: Value, start: int) -> None:
        self.seen, self.stream, self.start = seen, stream, start
        self.zeros: list[tuple[int, int]] = []
        self.exact = True

    def reach(self, value: Value, before: int) -> bool:
        at = max((p for p in self.seen.producers(value) if self.start <= p < before), default=None)
        if at is None:
            return value is self.stream
        node = self.seen.tape.nodes[at]
        name = node.operator
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
            if node.operator in _NONNEGATIVE:
                return True
            if node.operator not in _KEEPS_SIGN or not isinstance(node.args[0], Value):
                return False
            value, before = node.args[0], at


def why_not(model: nn.Module, name: str, found: Layers) -> str:
    seen = found._seen
    try:
        module = model.get_submodule(name)
    except AttributeError:
        return f"no layer {name!r}; {closest(name, found)}"
    near = [n for n in found if inside(n, name)]
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
    where = "" if is_list(parent) else " and it is in no ModuleList or Sequential,"
    return (
        f"{name} ({type(module).__name__}) cannot be deleted: its output is not its input plus "
        f"something,{where} nor is it added to what it was computed from{hint}"
    )
