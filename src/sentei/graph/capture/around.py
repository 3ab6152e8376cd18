"""The model around the pass: what is watched meanwhile, and everything as it was afterwards."""

from __future__ import annotations

import random
import sys
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from sentei.graph.capture.planting import put_back_configs
from sentei.graph.capture.tensors import is_float
from sentei.graph.capture.walk import named_modules
from sentei.graph.stock import STAND_INS
from sentei.graph.tape import flatten

__all__ = [
    "Tracking",
    "forgetful",
    "homes_of",
    "module_stack",
    "restored",
    "same_in_training",
    "seeded",
    "seen_through",
    "training_watched",
]


@contextmanager
def restored(
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
        if b is not None and not b.is_meta and (copy_floats or not is_float(b))
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
            put_back_configs()
            with torch.no_grad():
                for buffer, before in saved:
                    buffer.copy_(before)
            np.random.set_state(numpy_state)
            random.setstate(python_state)


def _contents(state: dict[str, Any]) -> list[tuple[Any, Any]]:
    kinds = (dict, list, set, OrderedDict)  # the last: hooks, which a pass may install
    return [(v, v.copy() if v else ()) for v in state.values() if type(v) in kinds]


def seeded(seed: int, modules: Sequence[tuple[str, nn.Module]]) -> None:
    """The same random numbers at every pass; `restored` puts the user's back."""
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
def training_watched() -> Iterator[dict[int, nn.Module]]:
    """Yields the modules whose code asked, so far, whether the model is being trained."""
    watched = _Watched()
    nn.Module.training = watched  # type: ignore[assignment]
    try:
        yield watched.asked
    finally:
        del nn.Module.training


@contextmanager
def seen_through() -> Iterator[None]:
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


def homes_of(modules: Sequence[tuple[str, nn.Module]]) -> set[str]:
    """The files that the classes of the model's own modules are from."""
    kinds = {type(module) for _, module in modules}
    names = {base.__module__ for kind in kinds for base in kind.__mro__}
    return {name for name in names if name.partition(".")[0] not in ("torch", "builtins")}


@contextmanager
def forgetful(homes: Iterable[str]) -> Iterator[None]:
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


def same_in_training(module: nn.Module) -> bool:
    """Does the module run the same operators on the same tensors when it is trained?"""
    if type(module) not in _HANDS_ON:
        return False
    if not hasattr(module, "track_running_stats"):
        return True
    # With statistics that are kept but not used, or averaged over all steps, it does not.
    kept = module.running_mean is not None
    return bool(module.track_running_stats) == kept and module.momentum is not None


class Tracking(Protocol):
    """Whoever wants to know which module runs: the last entry of `path`."""

    path: list[str]


@contextmanager
def module_stack(
    model: nn.Module, recorder: Tracking, modules: Sequence[tuple[str, nn.Module]] | None = None
) -> Iterator[None]:
    """The recorder knows meanwhile which module runs."""
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
