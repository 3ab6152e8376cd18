"""Write down every operator that runs: the tape, and the tensors that were met."""

from __future__ import annotations

import weakref
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from sentei.graph.capture.operators import facts_of
from sentei.graph.capture.tensors import Form, has_memory, is_float, map_tensors, storage_key
from sentei.graph.errors import PruneError
from sentei.graph.tape import Node, Symbol, Tape, Value, flatten, operator_name

__all__ = ["NESTED", "TWINNED", "Met", "Recorder", "align"]

NESTED = (
    "the model computes with nested tensors, whose dimensions have no one size; give an example "
    "input on which it takes padded ones"
)
# Where tensors are from that operators get twins of, in abstract mode.
TWINNED = ("parameter", "buffer", "attribute", "input")


class Met:
    """A tensor met during capture.

    tensor: weak; only while it lives is the tensor known by its id.
    value: what the tape calls it.
    form: all that operators are told of it in abstract mode; None where its contents matter.
    twin: what operators get in its place, in abstract mode; None until one needs it.
    """

    __slots__ = ("form", "tensor", "twin", "value")

    def __init__(self, tensor: Tensor, value: Value, form: Form | None) -> None:
        self.tensor = weakref.ref(tensor)
        self.value = value
        self.form = form
        self.twin: Tensor | None = None


class Recorder(TorchDispatchMode):
    """Runs every operator as it is, and writes the tape."""

    def __init__(self, tape: Tape) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tape = tape
        self.abstract = tape.abstract
        self.pending: list[Any] | None = None  # numbers of the Python-level call under way
        self.path: list[str] = [""]
        self._met: dict[int, Met] = {}
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
        try:
            shape = tuple(tensor.size())
        except RuntimeError:
            if tensor.is_nested:
                raise PruneError(NESTED) from None
            raise
        known = self._met.get(id(tensor))
        # `t_` and its like change a tensor's shape in place: it is another value from then on.
        if known is not None and known.tensor() is tensor and known.value.shape == shape:
            if known.form is not None:
                known.form = Form.of(known.twin if known.twin is not None else tensor)
            return known.value
        value = Value(self._count, shape, tensor.dtype, origin, name)
        if prod(shape) == 1 and origin in ("op", "constant") and tensor.is_floating_point():
            value.number = None if tensor.is_meta else float(tensor)
        self._meet(tensor, value, self._form(tensor, origin))
        if origin in TWINNED and has_memory(tensor):
            if origin != "input":
                self._by_storage[storage_key(tensor)] = value
            self._roots.setdefault(tensor.untyped_storage().data_ptr(), []).append(tensor)
        return value

    def _meet(self, tensor: Tensor, value: Value, form: Form | None) -> Met:
        self._count += 1
        if self.abstract or value.origin != "op":
            self._alive.append(tensor)
        met = self._met[id(tensor)] = Met(tensor, value, form)
        return met

    def _form(self, tensor: Tensor, origin: str) -> Form | None:
        twinned = self.abstract and (tensor.is_meta or origin in TWINNED)
        return Form.of(tensor) if twinned else None

    def value(self, tensor: Tensor) -> Value:
        """The value of a tensor; one never met is a constant from outside the model, unless it
        shares its memory with a parameter (`weight.data`)."""
        return self._known(tensor).value

    def _known(self, tensor: Tensor) -> Met:
        known = self._met.get(id(tensor))
        if known is not None and known.tensor() is tensor:
            return known
        if has_memory(tensor):
            shared = self._by_storage.get(storage_key(tensor))
            if shared is not None:
                return self._meet(tensor, shared, self._form(tensor, shared.origin))
        self.adopt(tensor, "constant")
        return self._met[id(tensor)]

    # -- running --------------------------------------------------------------------------------
    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        seen = tuple([map_tensors(x, self.value) for x in args]), map_tensors(kwargs, self.value)
        if facts_of(func).mutable:
            self._before_writing(func, args, kwargs)
        out = func(*args, **kwargs)
        self._note(func, seen, self._answers(func, seen, out))
        return out

    def _answers(self, func: Any, seen: Any, out: Any) -> tuple[Value, ...]:
        tensors = (out,) if isinstance(out, Tensor) else flatten(out)
        values = tuple([self.adopt(t, "op") for t in tensors if isinstance(t, Tensor)])
        for value in values:
            if value.shape and value.number is not None and not _calculates(func, seen):
                value.number = None
        return values

    def _note(self, func: Any, seen: tuple[Any, Any], outputs: tuple[Value, ...]) -> None:
        """Write an operator down: what it was given and what it answered, as values."""
        if self.pending is not None:
            # In x[:, :n] the dimension is no number that Python gave.
            fixed = seen[0][:2] if operator_name(func) in ("slice", "select") else ()
            args, kwargs = align((seen[0][len(fixed) :], seen[1]), self.pending)
            seen = (*fixed, *args), kwargs
        self.tape.nodes.append(Node(func, seen[0], seen[1], outputs, self.path[-1]))

    def _before_writing(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Copy what belongs to the user and is about to be changed, the first time."""
        for i, argument in enumerate(func._schema.arguments):
            if argument.alias_info is None or not argument.alias_info.is_write:
                continue
            for tensor in flatten(args[i] if i < len(args) else kwargs.get(argument.name)):
                if isinstance(tensor, Tensor) and has_memory(tensor):
                    if self.abstract and is_float(tensor):
                        continue  # its twin is written to
                    for root in self._roots.pop(tensor.untyped_storage().data_ptr(), ()):
                        self._overwritten.append((root, root.detach().clone()))

    def put_back(self) -> None:
        """Undo every write to parameters, attributes and inputs."""
        with torch.inference_mode():
            for tensor, before in self._overwritten:
                tensor.copy_(before)
        self._overwritten.clear()


def _calculates(func: Any, seen: Any) -> bool:
    """Does the operator make numbers of numbers that the code itself made?"""
    made = operator_name(func)
    return (
        not (facts_of(func).mutable or made.startswith(("empty", "new_empty")))
        and torch.Tag.nondeterministic_seeded not in func.tags
        and all(
            v.number is not None or v.expr is not None for v in flatten(seen) if type(v) is Value
        )
    )


def align(seen: Any, pending: list[Any]) -> Any:
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
