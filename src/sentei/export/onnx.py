"""ONNX, checked in onnxruntime."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from sentei.export.compare import agree, outputs
from sentei.export.export import Call, Exported
from sentei.export.program import Program, program
from sentei.graph.errors import PruneError
from sentei.sources.library import need
from sentei.storage.atomic import replace_file

__all__ = ["write"]

_LARGEST = 2**31 - 2**24  # a protobuf file holds no more; weights beside it would be a second file


def write(model: nn.Module, call: Call, path: Path, *, dynamic: bool, tolerance: float) -> Exported:
    """Convert, run in onnxruntime on the example and on another batch size, then put in place."""
    for library in ("onnx", "onnxscript", "onnxruntime"):
        need(library, "export", "export to 'onnx'")
    size = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    if size > _LARGEST:
        raise PruneError(
            f"the model has {size:,} bytes of weights and one ONNX file holds {_LARGEST:,}; "
            "export to 'pt2' or 'hf'"
        )
    made = program(model, call, dynamic=dynamic)
    converted = _convert(made)
    errors: list[float] = []

    def fill(new: Path) -> None:
        converted.save(str(new))
        run = _session(new)
        for batch, now in made.calls().items():
            with torch.no_grad():
                wanted = outputs(model(*now[0], **now[1]))
            errors.append(agree(run(now), wanted, tolerance, f"onnxruntime (batch {batch})"))

    done = replace_file(path, fill)
    return Exported(
        done,
        "onnx",
        os.path.getsize(done),
        max(errors),
        tolerance,
        compared=tuple(made.calls()),
        dynamic=made.names,
        note=f"onnxruntime gives {', '.join(o.name for o in converted.model.graph.outputs)}",
    )


def _convert(made: Program) -> Any:
    try:
        # Its deprecations are its own; what counts is compared.
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            converted = torch.onnx.export(made.exported, verbose=False)
    except Exception as error:  # its errors have no common class
        first: BaseException = error
        while first.__cause__ is not None:  # the outer ones say how to report it to PyTorch
            first = first.__cause__
        line = (str(first).strip().splitlines() or [""])[0]
        raise PruneError(
            f"ONNX cannot express this model: {type(first).__name__}: {line[:300]}"
        ) from error
    names: dict[str, str] = {}
    graph = converted.model.graph
    for value, free in zip(graph.inputs, made.free, strict=False):
        for dim, name in free.items():
            names.setdefault(str(value.shape[dim]), name)
    for value in (*graph.inputs, *graph.outputs):
        for dim, size in enumerate(value.shape or ()):
            if str(size) in names:
                value.shape[dim] = names[str(size)]
    return converted


def _session(path: Path) -> Any:
    """call -> outputs, in onnxruntime on the CPU."""
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's errors share no public base
        raise PruneError(f"onnxruntime refuses the exported model: {str(error)[:300]}") from error
    names = [i.name for i in session.get_inputs()]

    def run(call: Call) -> list[Tensor]:
        tensors = [t for t in tree_leaves(call) if isinstance(t, Tensor)]
        if len(tensors) != len(names):
            raise PruneError(
                f"the exported model takes {len(names)} inputs ({', '.join(names)}), the example "
                f"has {len(tensors)} tensors; leave out those that the model does not use"
            )
        try:
            feed = {n: t.detach().cpu().numpy() for n, t in zip(names, tensors, strict=True)}
            return [torch.from_numpy(value) for value in session.run(None, feed)]
        except Exception as error:
            raise PruneError(
                f"onnxruntime cannot run the exported model: {str(error)[:300]}"
            ) from error

    return run
