"""One pass of a model, from the user's call to the tape."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, suppress
from typing import Any

import torch
from torch import nn

from sentei.graph.capture.abstract import AbstractRecorder
from sentei.graph.capture.around import (
    forgetful,
    homes_of,
    module_stack,
    restored,
    same_in_training,
    seeded,
    seen_through,
    training_watched,
)
from sentei.graph.capture.planting import (
    plant_conversions,
    plant_literals,
    plant_symbols,
    stock_sizes,
)
from sentei.graph.capture.provenance import Provenance
from sentei.graph.capture.recorder import Recorder
from sentei.graph.capture.walk import named_modules, tensors_in, tensors_of
from sentei.graph.conversions import followed
from sentei.graph.tape import Tape, comparisons, undisturbed

__all__ = ["capture"]


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
    tensors = tensors_of(modules)
    real = (t for origin, t in tensors.values() if origin == "parameter" and not t.is_meta)
    home = next((t.device for t in real), torch.device("cpu"))
    recorder = AbstractRecorder(tape, home) if abstract else Recorder(tape)
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
        stack.enter_context(restored(model, copy_floats=not abstract, modules=modules))
        seeded(seed, modules)
        for _, module in modules:
            if vars(module).get("training") is not training:
                module.training = training
        homes = homes_of(modules)
        stack.enter_context(followed(homes))
        tape.attributes = plant_symbols(modules)
        tape.sizes = stock_sizes(modules)
        if literals:
            tape.attributes |= plant_literals(modules, literals)
        plant_conversions(modules)
        stack.enter_context(module_stack(model, recorder, modules))
        asked = stack.enter_context(training_watched())
        stack.enter_context(forgetful(homes))
        stack.enter_context(torch.inference_mode())
        stack.enter_context(recorder)
        stack.enter_context(seen_through())
        stack.enter_context(Provenance(recorder, home))
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
            and all(map(same_in_training, asked.values()))
            and not any(isinstance(m, torch.jit.ScriptModule) for _, m in modules)
        )
    for _, tensor in tensors_in(outputs):
        tape.outputs.append(recorder.value(tensor))
    return tape
