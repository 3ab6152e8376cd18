"""One forward pass, with what every module was given and returned."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.nn.modules import module as hooks
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from sentei.graph.capture import capture, tensors_in
from sentei.graph.capture.recorder import Recorder
from sentei.graph.tape import Tape, Value, flatten

Arguments = tuple[tuple[Any, ...], Mapping[str, Any]]
NUMBERS = re.compile(r"idx|index|layer_id|layer_num|block_id|layer_number")


@dataclass(eq=False)
class Call:
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
class Seen:
    """One forward pass, with the calls of all modules."""

    model: nn.Module
    tape: Tape
    calls: dict[str, list[Call]]

    def only_call(self, name: str) -> Call:
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
                    if type(value) is int and NUMBERS.search(key):
                        found.setdefault(key, []).append(value)
        return {key: sorted(set(numbers)) for key, numbers in found.items()}


def watch(model: nn.Module, call: Arguments) -> Seen:
    """Run once without arithmetic and note what every module was given and returned."""
    names = {id(m): name for name, m in model.named_modules()}
    calls: dict[str, list[Call]] = {}
    open_: list[tuple[int, int]] = []

    def recorder() -> Recorder | None:
        modes = _get_current_dispatch_mode_stack()
        return next((m for m in reversed(modes) if isinstance(m, Recorder)), None)

    def values(tree: Any, now: Recorder) -> list[Value]:
        return [now.value(t) for t in tensors(tree)]

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
            Call(
                name, start, len(now.tape.nodes), values((args, kwargs), now),
                values(output, now), (args, kwargs), output,
            )
        )  # fmt: skip

    before = hooks.register_module_forward_pre_hook(enter)
    after = hooks.register_module_forward_hook(leave, with_kwargs=True)
    try:
        tape = capture(model, *call)
    finally:
        before.remove()
        after.remove()
        # torch forgets to: one entry more a call, and torch.compile warns of hooks ever after.
        hooks._global_forward_hooks_with_kwargs.pop(after.id, None)
    return Seen(model, tape, calls)


def tensors(tree: Any) -> list[Tensor]:
    return [t for _, t in tensors_in(tree)]


def is_list(module: nn.Module) -> bool:
    return isinstance(module, (nn.ModuleList, nn.Sequential))


def inside(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")


def join(*parts: str) -> str:
    return ".".join(p for p in parts if p) if parts[-1] else f"{parts[0]}." if parts[0] else ""
