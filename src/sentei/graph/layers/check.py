"""Does the changed model run, and compute what the original computes with the branches silenced?"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from sentei.graph.capture import capture, tensors_in
from sentei.graph.capture.around import module_stack, restored
from sentei.graph.capture.planting import adopt_stand_ins
from sentei.graph.errors import PruneError, VerificationError
from sentei.graph.layers.found import Layer
from sentei.graph.layers.watch import Arguments, Call, Seen, tensors
from sentei.graph.perturb import ATTEMPTS, perturbed, substituted
from sentei.graph.tape import Node, operator_name
from sentei.graph.verify import (
    TOLERANCE,
    Reference,
    Verification,
    _run,
    _seeded,
    difference,
    outputs_differ,
)

__all__ = ["Before", "check_runs", "compare", "referenced", "silenced"]


def check_runs(
    model: nn.Module, call: Arguments, before: Seen, what: str, *, same_outputs: bool = False
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
        raise PruneError(f"the model returns shape {got} {what}, was {old[0]}; it is as before")


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
        if operand == 0 and operator_name(func).endswith("_"):
            args[0].zero_()
        elif operand is not None:
            args = tuple(torch.zeros_like(a) if i == operand else a for i, a in enumerate(args))
        return func(*args, **(kwargs or {}))


@dataclass(frozen=True)
class Before:
    """The original, to compare with when it is changed.

    parameters: by the names they had.
    """

    reference: Reference
    parameters: Mapping[str, nn.Parameter]


def silenced(model: nn.Module, layer: Layer, seen: Seen, call: Arguments) -> Before:
    """The original with the branches times zero."""
    return referenced(model, lambda: _silence(model, layer, seen, call))


def referenced(model: nn.Module, silence: Callable[[], Reference]) -> Before:
    """What `silence` finds; with other weights as well, where the model's own hide what is
    silenced (a last layer of zeros)."""
    parameters = dict(model.named_parameters())
    reference = silence()
    for attempt in range(0 if reference.tells else ATTEMPTS):
        weights = perturbed(model, attempt)
        with substituted(parameters, weights):
            second = silence()
        if second.tells:
            reference = replace(reference, second=replace(second, weights=weights))
            break
    return Before(reference, parameters)


def _silence(model: nn.Module, layer: Layer, seen: Seen, call: Arguments) -> Reference:
    """Outputs of the original with the branches times zero; of an inexact layer, passed by."""
    args, kwargs = call
    plain = _run(model, args, kwargs)
    with ExitStack() as stack:
        stack.enter_context(restored(model, copy_floats=True))
        stack.enter_context(_seeded())
        model.eval()
        adopt_stand_ins(model.modules())
        stack.enter_context(torch.inference_mode())
        zeroing = _Zeroing(seen.tape.nodes, layer._zeros if layer.exact else ())
        if layer.exact:
            stack.enter_context(module_stack(model, zeroing))
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
    found = [(path, t.detach().clone()) for path, t in tensors_in(out)]
    return Reference(found, moved=outputs_differ(plain, found))


def _passed_by(module: nn.Module, call: Call) -> Any:
    """A hook that makes the module return its input as its first output."""
    stream = next(i for i, v in enumerate(call.inputs) if v.shape == call.outputs[0].shape)

    def hook(_: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        given = tensors((args, kwargs))[stream]
        leaves, spec = pytree.tree_flatten(output)
        first = next(i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor))
        leaves[first] = given
        return pytree.tree_unflatten(leaves, spec)

    return module.register_forward_hook(hook, with_kwargs=True)


def compare(model: nn.Module, before: Before, name: str, call: Arguments) -> Verification:
    """Compare the changed model with the original silenced.

    Raises:
        VerificationError: they differ.
    """
    report = _compare(_run(model, *call), before.reference, name)
    second = before.reference.second
    if second is None:
        return report
    with substituted(before.parameters, second.weights):
        other = _compare(_run(model, *call), second, name)
    worst = max(report.error, other.error)
    return replace(report, error=worst, conclusive=other.conclusive, perturbed=True)


def _compare(new: list[tuple[str, Tensor]], reference: Reference, name: str) -> Verification:
    """Outputs that a layer less does not make fewer must be equal."""
    after, before = _by_name(new), _by_name(reference.outputs)
    worst, limit, count = 0.0, 1e-6, 0
    for key, old in before.items():
        # Caches and lists of hidden states have an entry for each layer.
        if len(after.get(key, ())) != len(old):
            continue
        for a, b in zip(after[key], old, strict=True):
            if a.shape != b.shape or not a.is_floating_point() or not a.numel():
                continue
            error, own = difference(a, b), TOLERANCE.get(a.dtype, 1e-3)
            if not error <= own:
                raise VerificationError(
                    f"without {name} the output {key or 0} differs from the original with {name} "
                    f"silenced by {error:.2e} (relative; tolerance {own:.0e}); something else "
                    "of it is used elsewhere. The model is as before"
                )
            worst, limit, count = max(worst, error), max(limit, own), count + 1
    return Verification(worst, limit, count, reference.tells and count > 0)


def _by_name(outputs: list[tuple[str, Tensor]]) -> dict[str, list[Tensor]]:
    found: dict[str, list[Tensor]] = {}
    for path, tensor in outputs:
        found.setdefault(re.split(r"[.\[]", path)[0], []).append(tensor)
    return found
