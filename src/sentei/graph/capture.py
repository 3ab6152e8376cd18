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
import random
import sys
import types
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache
from math import prod
from operator import is_
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch._C._functorch import get_unwrapped, is_functorch_wrapped_tensor, maybe_get_bdim
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from sentei.graph.conversions import converting, followed
from sentei.graph.errors import PruneError
from sentei.graph.literals import planted
from sentei.graph.stock import STAND_INS, documented_sizes
from sentei.graph.tape import (
    AttributeKey,
    Node,
    Scalar,
    Symbol,
    Tape,
    Value,
    comparisons,
    flatten,
    operator_name,
    undisturbed,
)

__all__ = [
    "capture", "named_modules", "named_parameters", "named_tensors", "tensors_in", "unwrap",
]  # fmt: skip

aten = torch.ops.aten
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
    return _tensors_of(named_modules(model))


def _tensors_of(modules: Sequence[tuple[str, nn.Module]]) -> dict[str, tuple[str, Tensor]]:
    found: dict[str, tuple[str, Tensor]] = {}
    seen: set[int] = set()
    stores: tuple[tuple[str, Callable[[nn.Module], Any]], ...] = (
        ("parameter", lambda module: module._parameters),
        ("buffer", lambda module: module._buffers),
        ("attribute", vars),
    )
    for origin, store in stores:
        for prefix, module in modules:
            for key, value in [kv for kv in store(module).items() if isinstance(kv[1], Tensor)]:
                if id(value) not in seen:
                    seen.add(id(value))
                    found[f"{prefix}.{key}" if prefix else key] = (origin, value)
    return found


def named_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """`dict(model.named_parameters())`, a shared one once."""
    found: dict[int, tuple[str, nn.Parameter]] = {}
    for prefix, module in named_modules(model):
        for name, parameter in module._parameters.items():
            if parameter is not None and id(parameter) not in found:
                found[id(parameter)] = (f"{prefix}.{name}" if prefix else name, parameter)
    return dict(found.values())


def named_modules(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """`list(model.named_modules())`, without a generator for every level of nesting."""
    found: list[tuple[str, nn.Module]] = []
    seen: set[int] = set()
    stack: list[tuple[str, nn.Module]] = [("", model)]
    while stack:
        name, module = stack.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        found.append((name, module))
        dot = f"{name}." if name else ""
        children = [(dot + key, m) for key, m in module._modules.items() if m is not None]
        stack += reversed(children)
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
    seed: int = 0,
    literals: frozenset[int] = frozenset(),
) -> Tape:
    """Record one forward pass of `model`.

    Args:
        training: run in train mode instead of eval mode (flags are restored).
        abstract: True for meta twins, False for a real run, None for twins with the real run as
            fallback.
        seed: of the random numbers that the pass draws (a layer that is skipped now and then).
        literals: numbers to follow wherever they stand in the code of the model's own modules.
    Raises:
        whatever the model's own forward raises; the model is as before.
    """
    if abstract is not None:
        return _record(model, args, kwargs or {}, training, abstract, seed, literals)
    try:
        return _record(model, args, kwargs or {}, training, True, seed, literals)
    except Exception as failure:
        if any(p.is_meta for p in model.parameters()):
            raise
        try:
            return _record(model, args, kwargs or {}, training, False, seed, literals)
        except Exception as error:
            # The user's own error is the one to show, without our first attempt above it.
            raise error from (failure if isinstance(failure, NotImplementedError) else None)


def _record(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    training: bool,
    abstract: bool,
    seed: int = 0,
    literals: frozenset[int] = frozenset(),
) -> Tape:
    tape = Tape(training=training, abstract=abstract)
    modules = named_modules(model)
    tensors = _tensors_of(modules)
    real = (t for origin, t in tensors.values() if origin == "parameter" and not t.is_meta)
    home = next((t.device for t in real), torch.device("cpu"))
    recorder = _AbstractRecorder(tape, home) if abstract else _Recorder(tape)
    tape.transient = frozenset(
        f"{prefix}.{name}" if prefix else name
        for prefix, module in modules
        for name in module._non_persistent_buffers_set
    )
    with ExitStack() as stack:
        stack.enter_context(undisturbed())
        for name, (origin, tensor) in tensors.items():
            tape.parameters[name] = recorder.adopt(tensor, origin, name)
        for path, tensor in tensors_in((args, dict(kwargs))):
            recorder.adopt(tensor, "input", path)
        stack.callback(recorder.put_back)
        stack.enter_context(_restored(model, copy_floats=not abstract, modules=modules))
        _seed(seed, modules)
        for _, module in modules:
            if vars(module).get("training") is not training:
                module.training = training
        homes = _homes(modules)
        stack.enter_context(followed(homes))
        tape.attributes = _plant_symbols(modules)
        tape.sizes = _sizes(modules)
        if literals:
            tape.attributes |= _plant_literals(modules, literals)
        _plant_conversions(modules)
        stack.enter_context(_module_stack(model, recorder, modules))
        asked = stack.enter_context(_training_watched())
        stack.enter_context(_forgetful(homes))
        stack.enter_context(torch.inference_mode())
        stack.enter_context(recorder)
        stack.enter_context(_seen_through())
        stack.enter_context(_Provenance(recorder, home))
        try:
            comparisons.clear()
            outputs = model(*args, **kwargs)
            tape.comparisons = [*comparisons]
        except Exception as error:
            with suppress(AttributeError):  # how far it came, for whoever catches it
                error.sentei_tape = tape  # type: ignore[attr-defined]
            raise
        tape.any_mode = (
            abstract
            and all(map(_same_in_training, asked.values()))
            and not any(isinstance(m, torch.jit.ScriptModule) for _, m in modules)
        )
    for _, tensor in tensors_in(outputs):
        tape.outputs.append(recorder.value(tensor))
    return tape


class _Form:
    """All that an operator can learn of a tensor without contents. One object of each: use `is`.

    plain: `tensor()` makes its like: one that has its memory to itself.
    """

    __slots__ = ("dtype", "plain", "shape", "stride")

    def __init__(self, shape: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype) -> None:
        self.shape, self.stride, self.dtype = shape, stride, dtype
        self.plain = False

    @staticmethod
    def of(tensor: Tensor) -> _Form | None:
        """None where the contents matter, or a class or layout of its own."""
        kind = type(tensor)
        if not (kind is Tensor or kind is nn.Parameter) or tensor.layout is not torch.strided:
            return None
        if not _is_float(tensor):
            return None
        shape, stride, dtype = tuple(tensor.size()), tensor.stride(), tensor.dtype
        # Views of it tell where its memory begins and ends, and whether inference mode made it.
        extent: tuple[Any, Any] = (0, -1)
        if tensor.is_meta:
            extent = tensor.storage_offset(), tensor.untyped_storage().nbytes()
        key = shape, stride, dtype, tensor.is_inference(), *extent
        form = _FORMS.get(key)
        if form is None:
            if len(_FORMS) >= 4096:
                _FORMS.clear()
            form = _FORMS[key] = _Form(shape, stride, dtype)
            own = (0, form.tensor().untyped_storage().nbytes())
            form.plain = extent == own and tensor.is_inference()
        return form

    def tensor(self) -> Tensor:
        return torch.empty_strided(self.shape, self.stride, dtype=self.dtype, device="meta")


_FORMS: dict[Any, _Form] = {}
# What meta kernels answered, by operator and arguments: most of them are Python, and slower than
# the real ones. None: the first argument itself, changed in place.
_RESULTS: dict[Any, _Form | None] = {}
# These stand in such a key for what its other entries do not tell.
_MASK, _CONTENTS, _MORE = "what a mask holds", "what a tensor holds", "what anything else is"


class _Met:
    """A tensor met during capture.

    tensor: weak; only while it lives is the tensor known by its id.
    value: what the tape calls it.
    form: all that operators are told of it in abstract mode; None where its contents matter.
    twin: what operators get in its place, in abstract mode; None until one needs it.
    """

    __slots__ = ("form", "tensor", "twin", "value")

    def __init__(self, tensor: Tensor, value: Value, form: _Form | None) -> None:
        self.tensor = weakref.ref(tensor)
        self.value = value
        self.form = form
        self.twin: Tensor | None = None


class _Recorder(TorchDispatchMode):
    """Runs every operator as it is, and writes the tape."""

    def __init__(self, tape: Tape) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tape = tape
        self.abstract = tape.abstract
        self.pending: list[Any] | None = None  # numbers of the Python-level call under way
        self.path: list[str] = [""]
        self._met: dict[int, _Met] = {}
        self._by_storage: dict[Any, Value] = {}
        self._alive: list[Tensor] = []
        self._roots: dict[int, list[Tensor]] = {}
        self._overwritten: list[tuple[Tensor, Tensor]] = []
        self._count = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Compiled code runs eagerly meanwhile; the wrapper takes longer than recording a call.
        return False

    # -- values ---------------------------------------------------------------------------------
    def adopt(self, tensor: Tensor, origin: str, name: str = "") -> Value:
        shape = tuple(tensor.size())
        known = self._met.get(id(tensor))
        # `t_` and its like change a tensor's shape in place: it is another value from then on.
        if known is not None and known.tensor() is tensor and known.value.shape == shape:
            if known.form is not None:
                known.form = _Form.of(known.twin if known.twin is not None else tensor)
            return known.value
        value = Value(self._count, shape, tensor.dtype, origin, name)
        alone = tensor.numel() == 1 and origin in ("op", "constant")
        if alone and tensor.is_floating_point():
            value.number = None if tensor.is_meta else float(tensor)
        self._meet(tensor, value, self._form(tensor, origin))
        if origin in _TWINNED and _plain(tensor):
            if origin != "input":
                self._by_storage[_storage_key(tensor)] = value
            self._roots.setdefault(tensor.untyped_storage().data_ptr(), []).append(tensor)
        return value

    def _meet(self, tensor: Tensor, value: Value, form: _Form | None) -> _Met:
        self._count += 1
        if self.abstract or value.origin != "op":
            self._alive.append(tensor)
        met = self._met[id(tensor)] = _Met(tensor, value, form)
        return met

    def _form(self, tensor: Tensor, origin: str) -> _Form | None:
        twinned = self.abstract and (tensor.is_meta or origin in _TWINNED)
        return _Form.of(tensor) if twinned else None

    def value(self, tensor: Tensor) -> Value:
        """The value of a tensor; one never met is a constant from outside the model, unless it
        shares its memory with a parameter (`weight.data`)."""
        return self._known(tensor).value

    def _known(self, tensor: Tensor) -> _Met:
        known = self._met.get(id(tensor))
        if known is not None and known.tensor() is tensor:
            return known
        if _plain(tensor):
            shared = self._by_storage.get(_storage_key(tensor))
            if shared is not None:
                return self._meet(tensor, shared, self._form(tensor, shared.origin))
        self.adopt(tensor, "constant")
        return self._met[id(tensor)]

    # -- running --------------------------------------------------------------------------------
    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        seen = tuple([_map(x, self.value) for x in args]), _map(kwargs, self.value)
        if _facts(func).mutable:
            self._before_writing(func, args, kwargs)
        out = func(*args, **kwargs)
        self._note(func, seen, self._answers(out))
        return out

    def _answers(self, out: Any) -> tuple[Value, ...]:
        if isinstance(out, Tensor):
            return (self.adopt(out, "op"),)
        return tuple([self.adopt(t, "op") for t in flatten(out) if isinstance(t, Tensor)])

    def _note(self, func: Any, seen: tuple[Any, Any], outputs: tuple[Value, ...]) -> None:
        """Write an operator down: what it was given and what it answered, as values."""
        if self.pending is not None:
            # In x[:, :n] the dimension is no number that Python gave.
            fixed = seen[0][:2] if operator_name(func) in ("slice", "select") else ()
            args, kwargs = _align((seen[0][len(fixed) :], seen[1]), self.pending)
            seen = (*fixed, *args), kwargs
        self.tape.nodes.append(Node(func, seen[0], seen[1], outputs, self.path[-1]))

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


_UNKNOWN: Any = object()


class _AbstractRecorder(_Recorder):
    """Answers with meta twins in place of floating-point tensors, and writes the tape."""

    def __init__(self, tape: Tape, home: torch.device) -> None:
        super().__init__(tape)
        self.home = home  # where the code is told that its tensors are

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        facts = _facts(func)
        forms: list[Any] = [facts]
        values = tuple([self._read(x, forms) for x in args])
        named = {}
        for name, x in kwargs.items():
            forms.append(name)
            named[name] = self._read(x, forms)
        key = tuple(forms) if facts.predictable and facts.looks_at.isdisjoint(forms) else None
        form = _RESULTS.get(key, _UNKNOWN) if key is not None else _UNKNOWN
        if form is _UNKNOWN or not torch.is_inference_mode_enabled():
            if facts.mutable:
                self._before_writing(func, args, kwargs)
            twins, options = _map((args, kwargs), self._twin)
            out = self._run(func, args, twins, dict(options))
            outputs = self._answers(out)
            if key is not None:
                self._learn(key, out, args, [*twins, *options.values()])
        elif form is None:
            out, outputs = args[0], values[:1]
        else:
            out = form.tensor()
            outputs = (Value(self._count, form.shape, form.dtype, "op"),)
            self._meet(out, outputs[0], form)
        self._note(func, (values, named), outputs)
        return out

    def _read(self, x: Any, forms: list[Any]) -> Any:
        """What the tape notes for an argument. Adds to `forms` all that the form of the answer
        may depend on."""
        kind = type(x)
        if kind in _LEAVES:
            forms.append((kind, x))
            return x
        if isinstance(x, Tensor):
            met = self._known(x)
            form = met.form
            if form is None and _plain(x) and x.layout is torch.strided:
                forms.append(_MASK if x.dtype in (torch.bool, torch.uint8) else _CONTENTS)
                forms.append((tuple(x.size()), x.stride(), x.dtype))
            else:
                forms.append(form or _MORE)
            return met.value
        if kind is list or isinstance(x, tuple):
            forms.append((kind, len(x)))
            values = [self._read(item, forms) for item in x]
            return values if kind is list else tuple(values)
        forms.append(_MORE)
        return _map(x, self.value)

    def _learn(self, key: Any, out: Any, args: tuple[Any, ...], twins: Sequence[Any]) -> None:
        """Remember an answer that is a form and nothing else."""
        if not isinstance(out, Tensor):
            return
        answer: _Form | None = None
        if args and out is args[0]:
            # Handed through, or changed in place; not if its form is another one than before.
            if key[1] is not _Form.of(self._twin(out)):
                return
        else:
            answer = _Form.of(out) if out.is_meta else None
            if answer is None or not answer.plain or any(out is t for t in twins):
                return
        if len(_RESULTS) >= 4096:
            _RESULTS.clear()
        _RESULTS[key] = answer

    def _twin(self, tensor: Tensor) -> Tensor:
        met = self._known(tensor)
        if met.twin is None:
            met.twin = tensor
            if tensor.is_meta and not _is_float(tensor):
                met.twin = torch.zeros(tensor.shape, dtype=tensor.dtype)
            elif not tensor.is_meta and _is_float(tensor) and met.value.origin in _TWINNED:
                # Views of a normal tensor must be normal tensors, also in inference mode.
                with torch.inference_mode(tensor.is_inference()):
                    met.twin = _meta(tensor)
        return met.twin

    def _run(
        self, func: Any, args: tuple[Any, ...], twins: tuple[Any, ...], options: dict[str, Any]
    ) -> Any:
        if not any(isinstance(t, Tensor) and t.is_meta for t in flatten((twins, options))):
            if str(options.get("device")) == "meta":  # asked for by code that looked at a twin
                options["device"] = self.home
            return func(*twins, **options)
        if func is aten._local_scalar_dense.default:
            return 0.0
        if func is aten.is_nonzero.default or func is aten.equal.default:
            return False
        options.pop("device", None)
        name = operator_name(func)
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
        if name == "_grouped_mm":  # its meta kernel takes bfloat16 and aligned strides only
            return _meta(twins[0]).new_empty(_grouped_shape(*twins[:3], **options))
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
                met = self._known(home)
                met.twin, met.form = _meta(home), _Form.of(home)
            return home
        return _map(out, lambda t: t if t.is_meta and _is_float(t) else _answer(t, name, args))


class _OperatorFacts:
    """What is asked of an operator at every call.

    predictable: its one output is its first argument, changed in place, or depends in form on the
        forms of its arguments and on what `looks_at` names.
    """

    __slots__ = ("func", "looks_at", "mutable", "predictable")

    def __init__(self, func: Any) -> None:
        self.func = func
        schema, name = func._schema, operator_name(func)
        written = [a.alias_info is not None and a.alias_info.is_write for a in schema.arguments]
        self.mutable = bool(schema.is_mutable)
        self.predictable = (
            schema.name.startswith("aten::")
            and len(schema.returns) == 1
            and not any(written[1:])
            and self.mutable == name.endswith("_")
            and name not in ("_local_scalar_dense", "is_nonzero", "equal", "masked_select")
        )
        self.looks_at = frozenset({_MORE, _MASK, _CONTENTS})
        if torch.Tag.pointwise in func.tags:
            self.looks_at = frozenset({_MORE})
        elif name in ("index", "index_select", "embedding", "gather"):
            self.looks_at = frozenset({_MORE, _MASK})


_FACTS: dict[int, _OperatorFacts] = {}


def _facts(func: Any) -> _OperatorFacts:
    facts = _FACTS.get(id(func))  # an operator's own hash is Python
    if facts is None:
        facts = _FACTS[id(func)] = _OperatorFacts(func)
    return facts


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
        if func in _DIFFERENTIATE and not any(map(_is_wrapped, flatten(args))):
            raise PruneError(
                f"the forward calls {func.__module__}.{func.__name__}, and no gradient can be "
                "taken of a pass that is written down. Prune the part of the model that it "
                "differentiates by itself, and put it back"
            )
        kind = _ASKED.get(func)
        if kind is not None:
            answer = self._answer(kind, args, kwargs)
            return func(*args, **kwargs) if answer is NotImplemented else answer
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
        if func in _MAKERS:
            given = args[-1]
            while isinstance(given, (list, tuple)) and len(given) == 1:
                given = given[0]
            if type(given) in _KNOWING:
                self.recorder.value(out).expr = given.expr
        return out

    def _answer(self, kind: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What is known of a tensor without asking it; NotImplemented for all else."""
        tensor = args[0]
        if kind == "shape":
            return self._shape(tensor)
        if kind == "size":
            index = args[1] if len(args) > 1 else kwargs.get("dim")
            shape = self._shape(tensor)
            return shape if index is None else shape[index]
        if kind == "count":
            return prod(self._shape(tensor))
        if kind == "set data":
            # A forward that calls `module.to(...)` must not lose its weights to twins.
            return None if args[1].is_meta else NotImplemented
        if not tensor.is_meta:
            return NotImplemented
        if kind == "device":
            return self.home
        zeros = torch.zeros(tensor.shape, dtype=tensor.dtype)
        return zeros.tolist() if kind == "tolist" else zeros.numpy()

    def _shape(self, tensor: Tensor) -> torch.Size:
        bare, shown = _unwrapped(tensor)
        value = self.recorder.value(bare)
        if len(value.shape) != bare.dim():
            return tensor.size()
        return torch.Size([Symbol.make(value.shape[i], ("size", value, i)) for i in shown])


def _is_wrapped(x: Any) -> bool:
    """Is it a tensor inside `torch.func` or `vmap`? There gradients are operators like others."""
    return isinstance(x, Tensor) and is_functorch_wrapped_tensor(x)


def _unwrapped(tensor: Tensor) -> tuple[Tensor, list[int]]:
    """What operators get of a tensor inside `torch.func` and `vmap`, and which of its dimensions
    the code sees."""
    batches: list[int] = []
    while is_functorch_wrapped_tensor(tensor):
        batches.append(maybe_get_bdim(tensor))
        tensor = get_unwrapped(tensor)
    shown = list(range(tensor.dim()))
    for dim in reversed(batches):
        if dim >= 0:
            del shown[dim]
    return tensor, shown


# Questions about a tensor that the pass answers itself.
_ASKED: dict[Any, str] = {
    torch.Tensor.shape.__get__: "shape",  # type: ignore[attr-defined]
    torch.Tensor.size: "size",
    torch.Tensor.numel: "count",
    torch.Tensor.nelement: "count",
    torch.numel: "count",
    torch.Tensor.data.__set__: "set data",  # type: ignore[attr-defined]
    torch.Tensor.device.__get__: "device",
    torch.Tensor.tolist: "tolist",
    torch.Tensor.numpy: "numpy",
}
_DIFFERENTIATE = {torch.autograd.grad, torch.autograd.backward, torch.Tensor.backward}
# These make tensors of the numbers that they are given last.
_MAKERS = {torch.tensor, torch.as_tensor, torch.scalar_tensor, torch.Tensor.new_tensor}
_KNOWING = frozenset({Symbol, Scalar})
_NUMBERS = frozenset({int, float}) | _KNOWING


_LEAVES = frozenset({int, float, bool, str, type(None), torch.dtype, torch.memory_format})


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
    dropped, added or wrapped around; each integer takes the next equal one. What Python gave as a
    float is no dimension: 0.0 does not stand for a 0.
    """
    at = 0

    def walk(tree: Any) -> Any:
        nonlocal at
        kind = type(tree)
        if kind is int or kind is float:
            for i in range(at, len(pending)):
                given = pending[i]
                # Its own `==` would note that the model's code compared it.
                plain = int.__index__(given) if type(given) is Symbol else given
                if plain == tree and not (kind is int and isinstance(given, float)):
                    at = i + 1
                    return given
        elif kind is tuple or kind is list:
            return kind([x if type(x) is Value else walk(x) for x in tree])
        elif kind is dict and tree:
            return {k: walk(x) for k, x in tree.items()}
        return tree

    return walk(seen)


def _is_float(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _plain(tensor: Tensor) -> bool:
    """Does it have memory of its own, to be known by?"""
    return (
        type(tensor) in (Tensor, nn.Parameter)
        and tensor.layout is torch.strided
        and not tensor.is_meta
        and tensor.numel() > 0
    )


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


def _grouped_shape(a: Tensor, b: Tensor, offs: Any = None, **_: Any) -> tuple[int, ...]:
    """Shape of a grouped matrix product: rows, columns or the summed dimension are grouped.

    Raises:
        RuntimeError: rows that start at odd places, which the real kernels do not take.
    """
    for matrix in (a, b):
        line = matrix.stride(-2) if matrix.stride(-1) == 1 else matrix.stride(-1)
        if line * matrix.element_size() % 16:
            raise RuntimeError("strides should be multiple of 16 bytes")
    if a.dim() == 2 and b.dim() == 2:
        return len(offs), a.shape[0], b.shape[1]
    rows = a.shape[:2] if a.dim() == b.dim() else a.shape[-2:-1]
    return *rows, b.shape[-1]


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
def _restored(
    model: nn.Module, copy_floats: bool, modules: Sequence[tuple[str, nn.Module]] | None = None
) -> Iterator[None]:
    """Leave everything a forward pass may change as it was."""
    if modules is None:
        modules = named_modules(model)
    states = [(m, type(m), dict(vars(m)), _contents(vars(m))) for _, m in modules]
    # What `torch.jit` compiled keeps its flags elsewhere.
    flags = [(m, m.training) for _, m in modules if isinstance(m, torch.jit.ScriptModule)]
    saved = [
        (b, b.detach().clone())
        for _, module in modules
        for b in module._buffers.values()
        if b is not None and not b.is_meta and (copy_floats or not _is_float(b))
    ]
    numpy_state, python_state = np.random.get_state(), random.getstate()
    fastpath = torch.backends.mha.get_fastpath_enabled()
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=_cuda_devices(modules)))
        # The profiling executor runs a scripted function differently the second time.
        plainly = torch.jit.optimized_execution(False)  # type: ignore[attr-defined]
        stack.enter_context(plainly)
        if hasattr(torch.compiler, "set_stance"):
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fastpath)
            for module, kind, state, contents in states:
                if type(module) is not kind:
                    module.__class__ = kind
                vars(module).clear()
                vars(module).update(state)
                for container, items in contents:
                    if not container and not items:
                        continue
                    container.clear()
                    container.update(items) if isinstance(container, (dict, set)) else (
                        container.extend(items)
                    )
            for module, flag in flags:
                module.training = flag
            _restore_configs()
            with torch.no_grad():
                for buffer, before in saved:
                    buffer.copy_(before)
            np.random.set_state(numpy_state)
            random.setstate(python_state)


def _contents(state: dict[str, Any]) -> list[tuple[Any, Any]]:
    kinds = (dict, list, set, OrderedDict)  # the last: hooks, which a pass may install
    return [(v, v.copy() if v else ()) for v in state.values() if type(v) in kinds]


def _seed(seed: int, modules: Sequence[tuple[str, nn.Module]]) -> None:
    """The same random numbers at every pass; `_restored` puts the user's back."""
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    for device in _cuda_devices(modules):
        torch.cuda.default_generators[device].manual_seed(seed)


def _cuda_devices(modules: Sequence[tuple[str, nn.Module]]) -> list[int]:
    parameters = [p for _, m in modules for p in m._parameters.values() if p is not None]
    return sorted({p.device.index or 0 for p in parameters if p.is_cuda})


class _Watched:
    """In the place of `nn.Module.training` during a pass: notes the modules asked for it."""

    def __init__(self) -> None:
        self.asked: dict[int, nn.Module] = {}

    def __get__(self, module: nn.Module | None, owner: type) -> bool:
        if module is None or "training" not in vars(module):
            raise AttributeError("training")
        self.asked[id(module)] = module
        return bool(vars(module)["training"])

    def __set__(self, module: nn.Module, flag: bool) -> None:
        vars(module)["training"] = flag

    def __delete__(self, module: nn.Module) -> None:
        del vars(module)["training"]


@contextmanager
def _training_watched() -> Iterator[dict[int, nn.Module]]:
    """Yields the modules whose code asked, so far, whether the model is being trained."""
    watched = _Watched()
    nn.Module.training = watched  # type: ignore[assignment]
    try:
        yield watched.asked
    finally:
        del nn.Module.training


@contextmanager
def _seen_through() -> Iterator[None]:
    """Functions of `torch.nn.functional` run their Python with the numbers in it watched, instead
    of handing the whole call to whoever watches."""
    names = vars(torch.nn.functional)
    before = {name: names[name] for name in _ASKING if name in names}
    names.update(dict.fromkeys(before, _foreign))
    try:
        yield
    finally:
        names.update(before)


_ASKING = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")


def _foreign(*tensors: Any) -> bool:
    """Does one of them bring code of its own?"""
    return any(
        type(t) not in (Tensor, nn.Parameter) and hasattr(type(t), "__torch_function__")
        for t in flatten(tensors)
        if t is not None
    )


def _homes(modules: Sequence[tuple[str, nn.Module]]) -> set[str]:
    """The files that the classes of the model's own modules are from."""
    kinds = {type(module) for _, module in modules}
    names = {base.__module__ for kind in kinds for base in kind.__mro__}
    return {name for name in names if name.partition(".")[0] not in ("torch", "builtins")}


@contextmanager
def _forgetful(homes: Iterable[str]) -> Iterator[None]:
    """Functions under `lru_cache` compute anew meanwhile.

    They know their arguments by value, so they would answer with the symbols of an earlier call,
    and later calls with those of this one. Looked for in the code of the model's own modules, and
    in einops, whose shapes are such answers.
    """
    changed: list[tuple[dict[str, Any], str, Any]] = []
    for home in [*homes, "einops.einops"]:
        names = vars(sys.modules[home]) if home in sys.modules else {}
        for name, value in list(names.items()):
            if type(value) is _Cached:
                changed.append((names, name, value))
                names[name] = value.__wrapped__
    try:
        yield
    finally:
        for names, name, value in changed:
            names[name] = value


_Cached = type(lru_cache(len))


# Stock modules that only hand the flag on to an operator, which is the same in both modes.
_HANDS_ON = (
    {nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout}
    | {nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.RNN, nn.LSTM, nn.GRU}
    | {nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, *STAND_INS.values()}
)


def _same_in_training(module: nn.Module) -> bool:
    """Does the module run the same operators on the same tensors when it is trained?"""
    if type(module) not in _HANDS_ON:
        return False
    if not hasattr(module, "track_running_stats"):
        return True
    # With statistics that are kept but not used, or averaged over all steps, it does not.
    kept = module.running_mean is not None
    return bool(module.track_running_stats) == kept and module.momentum is not None


class _Tracking(Protocol):
    """Whoever wants to know which module runs: the last entry of `path`."""

    path: list[str]


@contextmanager
def _module_stack(
    model: nn.Module, recorder: _Tracking, modules: Sequence[tuple[str, nn.Module]] | None = None
) -> Iterator[None]:
    names = {id(m): name for name, m in modules or named_modules(model)}
    call = nn.Module.__call__

    def tracked(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        recorder.path.append(names.get(id(module), recorder.path[-1]))
        try:
            return call(module, *args, **kwargs)
        finally:
            recorder.path.pop()

    # Hooks would do, but then every call of every module takes torch's slow path.
    nn.Module.__call__ = tracked  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.__call__ = call  # type: ignore[method-assign]


_INTERNAL = frozenset(vars(nn.Module())) | {
    "_flat_weights", "_flat_weights_names", "_flat_weight_refs", "_all_weights",
}  # fmt: skip
Settings = tuple[dict[str, Any], dict[Any, Any]]
"""The attributes of an object, and the items where it is a mapping as well."""

_touched_configs: list[tuple[Any, Settings]] = []


def settings(owner: Any) -> Settings:
    """A copy of what a settings object holds.

    >>> settings(types.SimpleNamespace(width=3))
    ({'width': 3}, {})
    """
    return dict(vars(owner)), dict(owner) if isinstance(owner, dict) else {}


def put_back(owner: Any, saved: Settings) -> None:
    """Undo what was done to a settings object since `saved = settings(owner)`.

    Mappings may refuse to be written to, so that the class itself is asked; keys stay the same.
    """
    attributes, items = saved
    vars(owner).clear()
    vars(owner).update(attributes)
    for key, item in items.items():
        dict.__setitem__(owner, key, item)


def _restore_configs() -> None:
    while _touched_configs:
        put_back(*_touched_configs.pop())


def _adopt_stand_ins(modules: Iterable[nn.Module]) -> None:
    for module in modules:
        stand_in = STAND_INS.get(type(module))
        if stand_in is not None:
            stand_in.adopt(module)


def _plant_symbols(modules: Sequence[tuple[str, nn.Module]]) -> dict[AttributeKey, int]:
    """Replace the integers that modules hold by `Symbol`s; tells where each lives."""
    attributes: dict[AttributeKey, int] = {}
    seen: set[int] = set()
    _adopt_stand_ins(module for _, module in modules)
    for name, module in modules:
        if isinstance(module, torch.jit.ScriptModule):
            continue
        state = vars(module)
        new = {
            key: _wrap(value, name, (key,), attributes, seen, 4)
            for key, value in state.items()
            if type(value) not in _ATOMS and key not in _INTERNAL
        }
        state.update(new)
    return attributes


def _sizes(modules: Sequence[tuple[str, nn.Module]]) -> dict[AttributeKey, tuple[str, int]]:
    """The attributes of stock modules that are the size of one of their tensors."""
    return {
        AttributeKey(name, (attribute,)): (f"{name}.{tensor}" if name else tensor, dim)
        for name, module in modules
        for attribute, (tensor, dim, times) in documented_sizes(module).items()
        if times == 1
    }


def _plant_literals(
    modules: Sequence[tuple[str, nn.Module]], wanted: frozenset[int]
) -> dict[AttributeKey, int]:
    """Put `Symbol`s in the place of numbers in the code; tells where each stands."""
    found: dict[AttributeKey, int] = {}
    for name, module in modules:

        def make(path: tuple[Any, ...], number: int, name: str = name) -> int:
            key = AttributeKey(name, path)
            found[key] = number
            return Symbol.make(number, ("attribute", key))

        for method, made in planted(module, wanted, make).items():
            vars(module)[method] = types.MethodType(converting(made.__func__), module)
    return found


def _plant_conversions(modules: Sequence[tuple[str, nn.Module]]) -> None:
    """Let `int` and `float` remember in the methods of the model's own modules."""
    known: dict[type, dict[str, types.FunctionType]] = {}
    for _, module in modules:
        kind = type(module)
        if kind not in known:
            script = isinstance(module, torch.jit.ScriptModule)
            known[kind] = {} if script else _conversions(kind)
        for name, function in known[kind].items():
            vars(module).setdefault(name, types.MethodType(function, module))


def _conversions(kind: type) -> dict[str, types.FunctionType]:
    """The methods of a class that convert numbers, with others in their place."""
    found: dict[str, types.FunctionType] = {}
    seen: set[str] = set()
    for base in kind.__mro__:
        if base.__module__.partition(".")[0] in ("torch", "builtins"):
            continue
        for name, method in vars(base).items():
            if type(method) is types.FunctionType and name not in seen and name[:2] != "__":
                new = converting(method)
                if new is not method:
                    found[name] = new
            seen.add(name)
    return found


def _wrap(
    value: Any,
    module: str,
    path: tuple[Any, ...],
    found: dict[AttributeKey, int],
    seen: set[int],
    depth: int,
) -> Any:
    """The value with a `Symbol` for each integer in it; itself where it has none."""
    kind = type(value)
    if kind is int:
        key = AttributeKey(module, path)
        found[key] = value
        return Symbol.make(value, ("attribute", key))
    if kind in _ATOMS or depth == 0 or isinstance(value, (Tensor, nn.Module)):
        return value
    if isinstance(value, tuple) or kind is list:
        items = [_wrap(x, module, (*path, i), found, seen, depth - 1) for i, x in enumerate(value)]
        if all(map(is_, items, value)):
            return value
        return items if kind is list else kind(*items) if hasattr(value, "_fields") else kind(items)
    if kind is dict:
        pairs = {k: _wrap(x, module, (*path, k), found, seen, depth - 1) for k, x in value.items()}
        return pairs if any(pairs[k] is not value[k] for k in value) else value
    if _is_config(value) and id(value) not in seen:
        seen.add(id(value))
        held = settings(value)
        attributes, entries = held
        _touched_configs.append((value, held))
        state = vars(value)
        for k, x in attributes.items():
            state[k] = _wrap(x, module, (*path, k), found, seen, depth - 1)
        for k, x in entries.items():  # `config["width"]` is `config.width` where it has both
            if k not in attributes:
                x = _wrap(x, module, (*path, k), found, seen, depth - 1)
            elif attributes[k] is x or (type(x) is int and attributes[k] == x):
                x = state[k]
            dict.__setitem__(value, k, x)
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
