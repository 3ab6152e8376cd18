"""Run a model once and write down the ATen operators it executes.

Under `torch.inference_mode()` composite operators reach a `TorchDispatchMode` undecomposed, so the
tape speaks of `linear`, `layer_norm` and `scaled_dot_product_attention`, not of their parts. The
code really runs, so loops, branches, message passing and functional code all record.

**Abstract capture** (the default) replaces floating-point tensors inside the mode by `meta` twins
and leaves integer and boolean tensors real: no arithmetic on weights, no activation memory, and
models without weights can be captured. Where control flow depends on floating-point values in a
way that twins cannot answer, the model is run for real instead.

**Integer provenance**: while the model runs, the integers in its modules' attributes, tuples, lists
and configuration objects are `Symbol`s that remember where they live, and `tensor.shape` answers
with `Symbol`s that remember their tensor. They arrive as arguments of `view`, `expand`, `split`, …
and tell what must follow when widths change.

Everything the pass may change (buffers, attributes, training flags, random state, backend
switches) is restored, also when the forward raises.
"""

from __future__ import annotations

import dataclasses
import math
import random
import types
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from sentei.graph.stock import STAND_INS
from sentei.graph.tape import (
    AttributeKey,
    Node,
    Scalar,
    Symbol,
    Tape,
    Value,
    comparisons,
    flatten,
    square_root,
)

__all__ = ["capture", "named_tensors", "tensors_in", "unwrap"]

aten = torch.ops.aten
_SHAPE = torch.Tensor.shape
_DEVICE = torch.Tensor.device
_DATA = torch.Tensor.data
# Operators whose integer outputs choose positions along a dimension. Abstract capture spreads the
# choice over all of them, so that every expert of a mixture is visited.
_TWINNED = ("parameter", "buffer", "attribute", "input")
_CHOOSERS = {"topk", "sort", "argsort", "argmax", "argmin", "max", "min", "multinomial", "kthvalue"}


def unwrap(model: nn.Module) -> nn.Module:
    """The user's module inside `torch.compile`, DataParallel, DDP or FSDP wrappers."""
    inner: Any = model
    while True:
        if hasattr(inner, "_orig_mod"):
            inner = inner._orig_mod
        elif type(inner).__name__ in {
            "DataParallel",
            "DistributedDataParallel",
            "FullyShardedDataParallel",
        }:
            inner = inner.module
        else:
            return cast(nn.Module, inner)


def named_tensors(model: nn.Module) -> dict[str, tuple[str, Tensor]]:
    """name -> (origin, tensor) for parameters, buffers and plain tensor attributes, each once."""
    found: dict[str, tuple[str, Tensor]] = {}
    seen: set[int] = set()

    def add(name: str, origin: str, tensor: Any) -> None:
        if isinstance(tensor, Tensor) and id(tensor) not in seen:
            seen.add(id(tensor))
            found[name] = (origin, tensor)

    for name, parameter in model.named_parameters():
        add(name, "parameter", parameter)
    for name, buffer in model.named_buffers():
        add(name, "buffer", buffer)
    for prefix, module in model.named_modules():
        for key, value in vars(module).items():
            if isinstance(value, Tensor):
                add(f"{prefix}.{key}" if prefix else key, "attribute", value)
    return found


def tensors_in(tree: Any, path: str = "", depth: int = 8) -> Iterator[tuple[str, Tensor]]:
    """(path, tensor) for the tensors inside nested containers, dataclasses and plain objects."""
    if isinstance(tree, Tensor):
        yield path, tree
    elif depth == 0 or tree is None or isinstance(tree, (str, bytes, int, float, nn.Module, type)):
        return
    elif isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from tensors_in(value, f"{path}.{key}" if path else str(key), depth - 1)
    elif isinstance(tree, (list, tuple, set)):
        for i, value in enumerate(tree):
            yield from tensors_in(value, f"{path}[{i}]", depth - 1)
    elif dataclasses.is_dataclass(tree) or hasattr(tree, "__dict__"):
        if isinstance(tree, (types.FunctionType, types.ModuleType)):
            return
        for key, value in vars(tree).items():
            yield from tensors_in(value, f"{path}.{key}" if path else key, depth - 1)


def capture(
    model: nn.Module,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    training: bool = False,
    abstract: bool | None = None,
) -> Tape:
    """Record one forward pass of `model`.

    Args:
        training: run in train mode instead of eval mode (flags are restored).
        abstract: True for meta twins, False for a real run, None for twins with the real run as
            fallback.
    Raises:
        whatever the model's own forward raises; the model is as before.
    """
    if abstract is not None:
        return _record(model, args, kwargs or {}, training, abstract)
    try:
        return _record(model, args, kwargs or {}, training, True)
    except Exception as failure:
        if any(p.is_meta for p in model.parameters()):
            raise
        try:
            return _record(model, args, kwargs or {}, training, False)
        except Exception as error:
            # The user's own error is the one to show, without our first attempt above it.
            raise error from (failure if isinstance(failure, NotImplementedError) else None)


def _record(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    training: bool,
    abstract: bool,
) -> Tape:
    tape = Tape(training=training, abstract=abstract)
    recorder = _Recorder(tape, abstract)
    for name, (origin, tensor) in named_tensors(model).items():
        tape.parameters[name] = recorder.adopt(tensor, origin, name)
    tape.transient = frozenset(
        f"{prefix}.{name}" if prefix else name
        for prefix, module in model.named_modules()
        for name in module._non_persistent_buffers_set
    )
    for path, tensor in tensors_in((args, dict(kwargs))):
        recorder.adopt(tensor, "input", path)
    home = next((p.device for p in model.parameters() if not p.is_meta), torch.device("cpu"))
    with ExitStack() as stack:
        stack.callback(recorder.put_back)
        stack.enter_context(_restored(model, copy_floats=not abstract))
        for module in model.modules():
            module.training = training
        tape.attributes = _plant_symbols(model)
        stack.enter_context(_module_stack(model, recorder))
        stack.enter_context(torch.inference_mode())
        stack.enter_context(recorder)
        stack.enter_context(_Provenance(recorder, home))
        try:
            comparisons.clear()
            outputs = model(*args, **kwargs)
            tape.comparisons = [*comparisons]
        except Exception as error:
            with suppress(AttributeError):  # how far it came, for whoever catches it
                error.sentei_tape = tape  # type: ignore[attr-defined]
            raise
    for _, tensor in tensors_in(outputs):
        tape.outputs.append(recorder.value(tensor))
    return tape


class _Recorder(TorchDispatchMode):
    """Writes the tape; in abstract mode also answers with meta twins."""

    def __init__(self, tape: Tape, abstract: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tape = tape
        self.abstract = abstract
        self.pending: list[Any] | None = None  # numbers of the Python-level call under way
        self.path: list[str] = [""]
        self._values: dict[int, tuple[Callable[[], Tensor | None], Value]] = {}
        self._by_storage: dict[Any, Value] = {}
        self._twins: dict[int, Tensor] = {}
        self._alive: list[Tensor] = []
        self._roots: dict[int, list[Tensor]] = {}
        self._overwritten: list[tuple[Tensor, Tensor]] = []
        self._count = 0
        self.home = torch.device("cpu")

    # -- values ---------------------------------------------------------------------------------
    def adopt(self, tensor: Tensor, origin: str, name: str = "") -> Value:
        shape = tuple(map(int, tensor.shape))
        known = self._values.get(id(tensor))
        # `t_` and its like change a tensor's shape in place: it is another value from then on.
        if known is not None and known[0]() is tensor and known[1].shape == shape:
            return known[1]
        value = Value(self._count, shape, tensor.dtype, origin, name)
        if not value.shape and origin in ("op", "constant") and tensor.is_floating_point():
            value.number = None if tensor.is_meta else float(tensor)
        self._count += 1
        if self.abstract or origin != "op":
            self._alive.append(tensor)
        self._values[id(tensor)] = (weakref.ref(tensor), value)
        if origin in ("parameter", "buffer", "attribute") and _plain(tensor):
            self._by_storage[_storage_key(tensor)] = value
        if origin in _TWINNED and _plain(tensor):
            self._roots.setdefault(tensor.untyped_storage().data_ptr(), []).append(tensor)
        return value

    def value(self, tensor: Tensor) -> Value:
        """The value of a tensor; one never met is a constant from outside the model, unless it
        shares its memory with a parameter (`weight.data`)."""
        known = self._values.get(id(tensor))
        if known is not None and known[0]() is tensor:
            return known[1]
        if _plain(tensor):
            shared = self._by_storage.get(_storage_key(tensor))
            if shared is not None:
                self._alive.append(tensor)
                self._values[id(tensor)] = (weakref.ref(tensor), shared)
                return shared
        return self.adopt(tensor, "constant")

    # -- running --------------------------------------------------------------------------------
    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        seen: Any = (
            tuple([x if type(x) in _LEAVES else _map(x, self.value) for x in args]),
            _map(kwargs, self.value) if kwargs else {},
        )
        if self.pending is not None:
            seen = _align(seen, self.pending)
        if _facts(func).mutable:
            self._before_writing(func, args, kwargs)
        out = self._abstract(func, args, kwargs) if self.abstract else func(*args, **kwargs)
        outputs = (
            (self.adopt(out, "op"),)
            if isinstance(out, Tensor)
            else tuple(self.adopt(t, "op") for t in flatten(out) if isinstance(t, Tensor))
        )
        self.tape.nodes.append(Node(func, seen[0], seen[1], outputs, self.path[-1]))
        return out

    def _before_writing(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Copy what belongs to the user and is about to be changed, the first time."""
        for i, argument in enumerate(func._schema.arguments):
            if argument.alias_info is None or not argument.alias_info.is_write:
                continue
            for tensor in flatten(args[i] if i < len(args) else kwargs.get(argument.name)):
                if isinstance(tensor, Tensor) and _plain(tensor):
                    if self.abstract and _is_float(tensor):
                        continue  # its twin is written to
                    for root in self._roots.pop(tensor.untyped_storage().data_ptr(), ()):
                        self._overwritten.append((root, root.detach().clone()))

    def put_back(self) -> None:
        """Undo every write to parameters, attributes and inputs."""
        with torch.inference_mode():
            for tensor, before in self._overwritten:
                tensor.copy_(before)
        self._overwritten.clear()

    def _twin(self, tensor: Tensor) -> Tensor:
        if tensor.is_meta:
            if _is_float(tensor):
                return tensor
            real = torch.zeros(tensor.shape, dtype=tensor.dtype)
            return self._remember(tensor, real)
        twin = self._twins.get(id(tensor))
        if twin is not None:
            return twin
        if _is_float(tensor) and self.value(tensor).origin in _TWINNED:
            # Views of a normal tensor must be normal tensors, also in inference mode.
            with torch.inference_mode(tensor.is_inference()):
                return self._remember(tensor, _meta(tensor))
        return tensor

    def _remember(self, tensor: Tensor, twin: Tensor) -> Tensor:
        self._alive.append(tensor)
        self._twins[id(tensor)] = twin
        return twin

    def _abstract(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        twins: Any = tuple([x if type(x) in _LEAVES else _map(x, self._twin) for x in args])
        options: Any = _map(kwargs, self._twin) if kwargs else {}
        facts = _facts(func)
        key = _signature(func, twins, options) if facts.fresh else None
        if key is not None:
            known = _RESULTS.get(key)
            if known is not None:
                return torch.empty_strided(known[0], known[1], dtype=known[2], device="meta")
        elif not any(isinstance(t, Tensor) and t.is_meta for t in flatten((twins, options))):
            if str(options.get("device")) == "meta":  # asked for by code that looked at a twin
                options["device"] = self.home
            return func(*twins, **options)
        if func is aten._local_scalar_dense.default:
            return 0.0
        if func is aten.is_nonzero.default or func is aten.equal.default:
            return False
        options.pop("device", None)
        name = facts.name
        if name == "to":
            twins = tuple(a for a in twins if not isinstance(a, torch.device))
            if func is aten.to.device:
                func = aten.to.dtype
        home = args[0] if name.endswith("_") and args and isinstance(args[0], Tensor) else None
        if home is not None and not _is_float(home):
            return home  # integers written from unknown floats keep what they hold
        if name in ("index", "index_put_", "index_put", "_index_put_impl_"):
            twins = (twins[0], _as_integers(twins[1]), *twins[2:])
        if name == "masked_select":
            return twins[0].flatten()[: int(twins[1].sum())] if not twins[1].is_meta else twins[0]
        try:
            out = func(*_map(twins, _meta), **_map(options, _meta))
        except NotImplementedError:
            out = func(*_map(twins, _zeros), **_map(options, _zeros))
        except RuntimeError as error:
            if "meta" not in str(error).lower() and "data-dependent" not in str(error).lower():
                raise
            out = func(*_map(twins, _zeros), **_map(options, _zeros))
        if home is not None:
            if not home.is_meta:
                self._remember(home, _meta(home))
            return home
        if key is not None and isinstance(out, Tensor) and out.is_meta and _is_float(out):
            storage = out.untyped_storage()._cdata
            if not out.storage_offset() and all(
                t.untyped_storage()._cdata != storage
                for t in flatten((twins, options))
                if isinstance(t, Tensor)
            ):
                if len(_RESULTS) >= 4096:
                    _RESULTS.clear()
                _RESULTS[key] = (out.size(), out.stride(), out.dtype)
        return _map(out, lambda t: t if t.is_meta and _is_float(t) else _answer(t, name, args))


class _OperatorFacts:
    """What is asked of an operator's schema at every call.

    fresh: its one output shares no memory with its arguments by declaration, so that an output
        of known shape may stand in for another call with the same signature.
    """

    __slots__ = ("fresh", "mutable", "name")

    def __init__(self, func: Any) -> None:
        schema = func._schema
        self.name = str(schema.name.split("::")[-1])
        self.mutable = bool(schema.is_mutable)
        self.fresh = (
            schema.name.startswith("aten::")
            and not self.mutable
            and len(schema.returns) == 1
            and schema.returns[0].alias_info is None
            and self.name not in ("_local_scalar_dense", "is_nonzero", "equal", "masked_select")
        )


_FACTS: dict[Any, _OperatorFacts] = {}
# What meta kernels answered, by signature: most of them are Python, and slower than the real ones.
_RESULTS: dict[Any, tuple[torch.Size, tuple[int, ...], torch.dtype]] = {}


def _facts(func: Any) -> _OperatorFacts:
    facts = _FACTS.get(func)
    if facts is None:
        facts = _FACTS[func] = _OperatorFacts(func)
    return facts


def _signature(func: Any, args: Any, kwargs: Any) -> Any:
    """What the output's shape depends on, if all tensors are plain meta twins; else None."""
    key: list[Any] = [func]
    met = False
    stack = [*reversed(args)]
    if kwargs:
        for name, x in kwargs.items():
            if isinstance(x, (torch.device, torch.layout)):
                return None
            key.append(name)
            stack.append(x)
    while stack:
        x = stack.pop()
        kind = type(x)
        if kind is Tensor or kind is nn.Parameter:
            if not x.is_meta or x.layout is not torch.strided:
                return None
            met = True
            key += (x.size(), x.stride(), x.dtype)
        elif kind is list or kind is tuple:
            key += (kind, len(x))
            stack.extend(reversed(x))
        elif kind in _LEAVES or kind is Symbol:
            key += (kind, x)
        else:
            return None
    return tuple(key) if met else None



class _Provenance(TorchFunctionMode):
    """Hands out shapes as `Symbol`s and notes the integers of the call under way."""

    def __init__(self, recorder: _Recorder, home: torch.device) -> None:
        super().__init__()
        self.recorder = recorder
        self.home = home

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        getter = getattr(func, "__self__", None)
        if getter is _SHAPE:
            return self._shape(args[0])
        if getter is _DATA and func.__name__ == "__set__" and args[1].is_meta:
            return None  # a forward that calls `module.to(...)` must not lose its weights to twins
        if getter is _DEVICE:
            return self.home if args[0].is_meta else func(*args)
        if func is torch.Tensor.size:
            shape = self._shape(args[0])
            index = args[1] if len(args) > 1 else kwargs.get("dim")
            return shape if index is None else shape[index]
        if func in (torch.Tensor.tolist, torch.Tensor.numpy) and args[0].is_meta:
            return func(torch.zeros(args[0].shape, dtype=args[0].dtype))
        numbers: list[Any] = []
        _collect(args, numbers)
        if kwargs:
            _collect(kwargs.values(), numbers)
        outer = self.recorder.pending
        self.recorder.pending = numbers if any(type(x) in _KNOWING for x in numbers) else None
        try:
            out = func(*args, **kwargs)
        finally:
            self.recorder.pending = outer
        if func is torch.tensor and type(args[0]) in _KNOWING:
            self.recorder.value(out).expr = args[0].expr
        return out

    def _shape(self, tensor: Tensor) -> torch.Size:
        value = self.recorder.value(tensor)
        return torch.Size(
            [Symbol.make(n, ("size", value, i)) for i, n in enumerate(value.shape)]
            if len(value.shape) == tensor.dim()
            else tensor.size()
        )


_KNOWING = frozenset({Symbol, Scalar})
_NUMBERS = frozenset({int, float}) | _KNOWING


_LEAVES = frozenset({int, float, bool, str, type(None), torch.dtype})


def _collect(tree: Any, numbers: list[Any]) -> None:
    """The integers and floats in nested containers and slices, in order."""
    for x in tree:
        kind = type(x)
        if kind in _NUMBERS:
            numbers.append(x)
        elif kind is Tensor or kind is nn.Parameter:
            continue
        elif isinstance(x, (tuple, list)):
            _collect(x, numbers)
        elif isinstance(x, dict):
            _collect(x.values(), numbers)
        elif kind is slice:
            _collect((x.start, x.stop, x.step), numbers)


def _map(tree: Any, fn: Callable[[Tensor], Any]) -> Any:
    kind = type(tree)
    if kind in _LEAVES:
        return tree
    if isinstance(tree, Tensor):
        return fn(tree)
    if kind is list:
        return [_map(x, fn) for x in tree]
    if kind is tuple:
        return tuple([_map(x, fn) for x in tree])
    if type(tree) is dict:
        return {k: _map(x, fn) for k, x in tree.items()}
    if isinstance(tree, tuple):  # named tuples of torch.return_types
        return tuple(_map(x, fn) for x in tree)
    return tree


def _align(seen: Any, pending: list[Any]) -> Any:
    """Put the symbols of a Python-level call in place of the plain integers the operator got.

    Both sequences list the same integers in the same order, up to arguments that the binding
    dropped, added or wrapped around; each integer takes the next equal one.
    """
    at = 0

    def walk(tree: Any) -> Any:
        nonlocal at
        if type(tree) in (int, float):
            for i in range(at, len(pending)):
                if pending[i] == tree:
                    at = i + 1
                    return pending[i]
            return tree
        if type(tree) in (tuple, list):
            return type(tree)(walk(x) for x in tree)
        if type(tree) is dict:
            return {k: walk(x) for k, x in tree.items()}
        return tree

    return walk(seen)


def _is_float(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _plain(tensor: Tensor) -> bool:
    return type(tensor) in (Tensor, nn.Parameter) and not tensor.is_meta and tensor.numel() > 0


def _storage_key(tensor: Tensor) -> Any:
    return tensor.data_ptr(), tuple(tensor.size()), tensor.stride(), tensor.dtype


def _meta(tensor: Tensor) -> Tensor:
    if tensor.is_meta:
        return tensor
    if tensor.layout is not torch.strided:
        return torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
    return torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device="meta")


def _zeros(tensor: Tensor) -> Tensor:
    return torch.zeros(tensor.shape, dtype=tensor.dtype) if tensor.is_meta else tensor


def _as_integers(indices: Any) -> list[Any]:
    """Boolean masks as integer indices: meta kernels cannot count."""
    out: list[Any] = []
    for index in indices:
        if isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8):
            out.extend(_zeros(index).nonzero().unbind(1))
        else:
            out.append(index)
    return out


def _answer(tensor: Tensor, name: str, args: tuple[Any, ...]) -> Tensor:
    """A real stand-in for integers that were computed from unknown floats."""
    if _is_float(tensor):
        return _meta(tensor)
    if name in _CHOOSERS and tensor.dtype is torch.int64:
        shape = args[0].shape
        first = 2 if name in ("topk", "kthvalue") else 1
        dim = next((a for a in args[first:] if type(a) is int), -1)
        size = shape[dim] if -len(shape) <= dim < len(shape) else args[0].numel()
        return (torch.arange(tensor.numel()) % max(int(size), 1)).view(tensor.shape)
    if name == "isfinite":
        return torch.ones(tensor.shape, dtype=tensor.dtype)
    return torch.zeros(tensor.shape, dtype=tensor.dtype)


# -- the model around the pass ------------------------------------------------------------------
@contextmanager
def _restored(model: nn.Module, copy_floats: bool) -> Iterator[None]:
    """Leave everything a forward pass may change as it was."""
    modules = list(model.modules())
    states = [(m, type(m), dict(vars(m)), _contents(vars(m))) for m in modules]
    saved = [
        (b, b.detach().clone())
        for _, b in model.named_buffers()
        if not b.is_meta and (copy_floats or not _is_float(b))
    ]
    numpy_state, python_state = np.random.get_state(), random.getstate()
    fastpath, root = torch.backends.mha.get_fastpath_enabled(), math.sqrt
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=_cuda_devices(model)))
        # The profiling executor runs a scripted function differently the second time.
        plainly = torch.jit.optimized_execution(False)  # type: ignore[attr-defined]
        stack.enter_context(plainly)
        if hasattr(torch.compiler, "set_stance"):
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        torch.backends.mha.set_fastpath_enabled(False)
        math.sqrt = square_root
        try:
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fastpath)
            math.sqrt = root
            for module, kind, state, contents in states:
                if type(module) is not kind:
                    module.__class__ = kind
                vars(module).clear()
                vars(module).update(state)
                for container, items in contents:
                    container.clear()
                    container.update(items) if isinstance(container, (dict, set)) else (
                        container.extend(items)
                    )
            _restore_configs()
            with torch.no_grad():
                for buffer, before in saved:
                    buffer.copy_(before)
            np.random.set_state(numpy_state)
            random.setstate(python_state)


def _contents(state: dict[str, Any]) -> list[tuple[Any, Any]]:
    return [(v, v.copy()) for v in state.values() if type(v) in (dict, list, set)]


def _cuda_devices(model: nn.Module) -> list[int]:
    return sorted({p.device.index or 0 for p in model.parameters() if p.is_cuda})


class _Tracking(Protocol):
    """Whoever wants to know which module runs: the last entry of `path`."""

    path: list[str]


@contextmanager
def _module_stack(model: nn.Module, recorder: _Tracking) -> Iterator[None]:
    names = {id(m): name for name, m in model.named_modules()}

    def enter(module: nn.Module, args: Any) -> None:
        recorder.path.append(names.get(id(module), recorder.path[-1]))

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        recorder.path.pop()

    before, after = register_module_forward_pre_hook(enter), register_module_forward_hook(leave)
    try:
        yield
    finally:
        before.remove()
        after.remove()


_INTERNAL = frozenset(vars(nn.Module())) | {"_flat_weights", "_flat_weights_names", "_all_weights"}
_touched_configs: list[tuple[Any, dict[str, Any]]] = []


def _restore_configs() -> None:
    while _touched_configs:
        owner, state = _touched_configs.pop()
        vars(owner).clear()
        vars(owner).update(state)


def _adopt_stand_ins(model: nn.Module) -> None:
    for module in model.modules():
        stand_in = STAND_INS.get(type(module))
        if stand_in is not None:
            stand_in.adopt(module)


def _plant_symbols(model: nn.Module) -> dict[AttributeKey, int]:
    """Replace the integers that modules hold by `Symbol`s; tells where each lives."""
    attributes: dict[AttributeKey, int] = {}
    seen: set[int] = set()
    _adopt_stand_ins(model)
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            continue
        state = vars(module)
        for key, value in list(state.items()):
            kind = type(value)
            if kind in _ATOMS or key in _INTERNAL:
                continue
            new = _wrap(value, AttributeKey(name, (key,)), attributes, seen, 4)
            if new is not value:
                state[key] = new
    return attributes


def _wrap(
    value: Any, key: AttributeKey, found: dict[AttributeKey, int], seen: set[int], depth: int
) -> Any:
    kind = type(value)
    if kind is int:
        found[key] = value
        return Symbol.make(value, ("attribute", key))
    if kind in _ATOMS or depth == 0 or isinstance(value, (Tensor, nn.Module)):
        return value

    def below(step: Any, item: Any) -> Any:
        if type(item) in _ATOMS:
            return item
        return _wrap(item, AttributeKey(key.module, (*key.path, step)), found, seen, depth - 1)

    if isinstance(value, tuple):
        items = [below(i, x) for i, x in enumerate(value)]
        if all(a is b for a, b in zip(items, value, strict=True)):
            return value
        return kind(*items) if hasattr(value, "_fields") else kind(items)
    if kind is list:
        items = [below(i, x) for i, x in enumerate(value)]
        return value if all(a is b for a, b in zip(items, value, strict=True)) else items
    if kind is dict:
        pairs = {k: below(k, x) for k, x in value.items()}
        return value if all(pairs[k] is value[k] for k in value) else pairs
    if _is_config(value) and id(value) not in seen:
        seen.add(id(value))
        state = vars(value)
        _touched_configs.append((value, dict(state)))
        for k, x in list(state.items()):
            state[k] = below(k, x)
    return value


_ATOMS = frozenset({bool, float, str, bytes, type(None), type, torch.dtype, torch.device,
                    types.FunctionType,
                    types.BuiltinFunctionType, types.MethodType, nn.Parameter, Tensor})  # fmt: skip


def _is_config(value: Any) -> bool:
    """Plain objects that hold settings: Hugging Face configurations, dataclasses, namespaces."""
    if callable(value) or not hasattr(value, "__dict__"):
        return False
    home = type(value).__module__.split(".")[0]
    return home not in ("torch", "builtins", "numpy", "weakref", "threading", "functools")
