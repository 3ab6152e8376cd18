"""Run operators on tensors without contents.

Floating-point tensors are replaced by `meta` twins, integers and booleans stay real. What depends
on floating-point values is answered in a way that keeps the code running.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sentei.graph.capture.operators import CONTENTS, MASK, MORE, facts_of
from sentei.graph.capture.recorder import TWINNED, Recorder
from sentei.graph.capture.tensors import (
    LEAVES,
    Form,
    as_meta,
    as_zeros,
    has_memory,
    is_float,
    map_tensors,
)
from sentei.graph.tape import Tape, Value, flatten, operator_name

__all__ = ["AbstractRecorder"]

aten = torch.ops.aten


# Operators whose integer outputs choose positions along a dimension. Abstract capture spreads the
# choice over all of them, so that every expert of a mixture is visited.
_CHOOSERS = {"topk", "sort", "argsort", "argmax", "argmin", "max", "min", "multinomial", "kthvalue"}


# What meta kernels answered, by operator and arguments: most of them are Python, and slower than
# the real ones. None: the first argument itself, changed in place.
_RESULTS: dict[Any, Form | None] = {}


_UNKNOWN: Any = object()


class AbstractRecorder(Recorder):
    """Answers with meta twins in place of floating-point tensors, and writes the tape."""

    def __init__(self, tape: Tape, home: torch.device) -> None:
        super().__init__(tape)
        self.home = home  # where the code is told that its tensors are

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        facts = facts_of(func)
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
            twins, options = map_tensors((args, kwargs), self._twin)
            out = self._run(func, args, twins, dict(options))
            outputs = self._answers(func, (values, named), out)
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
        if kind in LEAVES:
            forms.append((kind, x))
            return x
        if isinstance(x, Tensor):
            met = self._known(x)
            form = met.form
            if form is None and has_memory(x) and x.layout is torch.strided:
                forms.append(MASK if x.dtype in (torch.bool, torch.uint8) else CONTENTS)
                forms.append((tuple(x.size()), x.stride(), x.dtype))
            else:
                forms.append(form or MORE)
            return met.value
        if kind is list or isinstance(x, tuple):
            forms.append((kind, len(x)))
            values = [self._read(item, forms) for item in x]
            return values if kind is list else tuple(values)
        forms.append(MORE)
        return map_tensors(x, self.value)

    def _learn(self, key: Any, out: Any, args: tuple[Any, ...], twins: Sequence[Any]) -> None:
        """Remember an answer that is a form and nothing else."""
        if not isinstance(out, Tensor):
            return
        answer: Form | None = None
        if args and out is args[0]:
            # Handed through, or changed in place; not if its form is another one than before.
            if key[1] is not Form.of(self._twin(out)):
                return
        else:
            answer = Form.of(out) if out.is_meta else None
            if answer is None or not answer.plain or any(out is t for t in twins):
                return
        if len(_RESULTS) >= 4096:
            _RESULTS.clear()
        _RESULTS[key] = answer

    def _twin(self, tensor: Tensor) -> Tensor:
        met = self._known(tensor)
        if met.twin is None:
            met.twin = tensor
            if tensor.is_meta and not is_float(tensor):
                met.twin = torch.zeros(tensor.shape, dtype=tensor.dtype)
            elif not tensor.is_meta and is_float(tensor) and met.value.origin in TWINNED:
                # Views of a normal tensor must be normal tensors, also in inference mode.
                with torch.inference_mode(tensor.is_inference()):
                    met.twin = as_meta(tensor)
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
        if home is not None and not is_float(home):
            return home  # integers written from unknown floats keep what they hold
        if name in ("index", "index_put_", "index_put", "_index_put_impl_"):
            twins = (twins[0], _as_integers(twins[1]), *twins[2:])
        if name == "masked_select":
            return twins[0].flatten()[: int(twins[1].sum())] if not twins[1].is_meta else twins[0]
        if name == "_grouped_mm":  # its meta kernel takes bfloat16 and aligned strides only
            return as_meta(twins[0]).new_empty(_grouped_shape(*twins[:3], **options))
        try:
            out = func(*map_tensors(twins, as_meta), **map_tensors(options, as_meta))
        except NotImplementedError:
            out = func(*map_tensors(twins, as_zeros), **map_tensors(options, as_zeros))
        except RuntimeError as error:
            if "meta" not in str(error).lower() and "data-dependent" not in str(error).lower():
                raise
            out = func(*map_tensors(twins, as_zeros), **map_tensors(options, as_zeros))
        if home is not None:
            if not home.is_meta:
                met = self._known(home)
                met.twin, met.form = as_meta(home), Form.of(home)
            return home
        return map_tensors(
            out, lambda t: t if t.is_meta and is_float(t) else _answer(t, name, args)
        )


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
            out.extend(as_zeros(index).nonzero().unbind(1))
        else:
            out.append(index)
    return out


def _answer(tensor: Tensor, name: str, args: tuple[Any, ...]) -> Tensor:
    """A real stand-in for integers that were computed from unknown floats."""
    if is_float(tensor):
        return as_meta(tensor)
    if name in _CHOOSERS and tensor.dtype is torch.int64:
        shape = args[0].shape
        first = 2 if name in ("topk", "kthvalue") else 1
        dim = next((a for a in args[first:] if type(a) is int), -1)
        size = shape[dim] if -len(shape) <= dim < len(shape) else args[0].numel()
        return (torch.arange(tensor.numel()) % max(int(size), 1)).view(tensor.shape)
    if name == "isfinite":
        return torch.ones(tensor.shape, dtype=tensor.dtype)
    return torch.zeros(tensor.shape, dtype=tensor.dtype)
