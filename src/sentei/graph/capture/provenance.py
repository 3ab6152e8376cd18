"""Hand out numbers that know where they are from, and see them arrive at operators."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._functorch import get_unwrapped, is_functorch_wrapped_tensor, maybe_get_bdim
from torch.overrides import TorchFunctionMode

from sentei.graph.capture.recorder import NESTED, Recorder
from sentei.graph.errors import PruneError
from sentei.graph.tape import Scalar, Symbol, flatten

__all__ = ["Provenance"]


class Provenance(TorchFunctionMode):
    """Hands out shapes as `Symbol`s and notes the integers of the call under way."""

    def __init__(self, recorder: Recorder, home: torch.device) -> None:
        super().__init__()
        self.recorder = recorder
        self.home = home

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _DIFFERENTIATE and not any(map(_is_wrapped, flatten(args))):
            return self._gradient(func, args, kwargs)
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

    def _gradient(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A gradient has the axes of what it is taken for. Its values cannot be known: a pass that
        is written down has none to differentiate."""
        if func is not torch.autograd.grad or kwargs.get("is_grads_batched"):
            raise PruneError(
                f"the forward calls {func.__name__} of {func.__module__}, which is not followed "
                "(torch.autograd.grad is). Prune the part of the model that it differentiates by "
                "itself, and put it back"
            )
        self.recorder.tape.differentiates = True
        inputs = args[1] if len(args) > 1 else kwargs["inputs"]
        inputs = (inputs,) if isinstance(inputs, Tensor) else inputs
        return tuple([torch.zeros_like(x) for x in inputs])

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
        if tensor.is_nested:
            raise PruneError(NESTED)
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
