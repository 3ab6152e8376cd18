"""`export`: one call for every format."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from sentei.graph.blueprint import without_cache
from sentei.graph.capture import unwrap
from sentei.graph.errors import PruneError, closest
from sentei.graph.groups import call_arguments
from sentei.pruning import Result
from sentei.sources import source_of
from sentei.storage.loading import load

__all__ = ["FORMATS", "Exported", "Format", "export"]

Call = tuple[tuple[Any, ...], dict[str, Any]]

# Modules, imported when asked for.
FORMATS: dict[str, str] = {
    "onnx": "sentei.export.onnx",
    "pt2": "sentei.export.pt2",
    "hf": "sentei.export.hf",
}


@dataclass(frozen=True)
class Exported:
    """What was written, and how closely it computes what the model computes.

    path: the file, or the folder for "hf". bytes: of all its files.
    error: largest difference to the model over all outputs, relative to the largest value of
        each; tolerance: what was allowed. compared: the batch sizes that were run.
    dynamic: dimensions of the inputs that are free, such as "batch"; others are as in the example.
    note: what whoever opens it should know.
    """

    path: Path
    to: str
    bytes: int
    error: float
    tolerance: float
    compared: tuple[int, ...] = ()
    dynamic: tuple[str, ...] = ()
    note: str = ""
    seconds: float = field(default=0.0, compare=False)

    def __str__(self) -> str:
        free = f"free: {', '.join(self.dynamic)}" if self.dynamic else "all sizes as in the example"
        if self.to == "hf":
            free = "read by from_pretrained"
        text = (
            f"{self.path} ({self.to}, {self.bytes:,} bytes; {free}): differs from the model by "
            f"{self.error:.1e} at most (relative; allowed {self.tolerance:.0e})"
        )
        return f"{text}. {self.note}" if self.note else text


class Format(Protocol):
    """What a module under `sentei.export` offers."""

    def write(
        self, model: nn.Module, call: Call | None, path: Path, *, dynamic: bool, tolerance: float
    ) -> Exported: ...


def export(
    what: nn.Module | Result | str | os.PathLike[str],
    to: str = "onnx",
    out: str | os.PathLike[str] | None = None,
    *,
    example_inputs: Any = None,
    args: tuple[Any, ...] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    dynamic: bool = True,
    tolerance: float | None = None,
    trust: bool = False,
) -> Exported:
    """Write a model for another runtime, and check that it computes the same there.

    Args:
        what: a model (in eval mode during export), the result of `prune`, or an artefact's folder.
        to: "onnx", run in onnxruntime for the check; "pt2", a `torch.export` program; "hf", a
            folder that plain transformers reads.
        out: the file, or for "hf" the folder; an artefact's own `model.onnx` or `model.pt2` where
            `what` is its folder. Replaced at once: a kill leaves the old or the new.
        example_inputs, args, kwargs: as in `prune`; where a source built the model, it knows.
        dynamic: leave the batch size (and the length of token sequences) free where possible.
        tolerance: largest relative difference allowed; by default 1e-4, or 2e-2 for models in half
            precision.
        trust: as in `sentei.load`.
    Returns:
        what was written and compared.
    Raises:
        PruneError: the format cannot express the model, a library is missing, the exported model
            computes something else, or writing failed. What was there is there still.

    >>> import tempfile
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> with tempfile.TemporaryDirectory() as home:
    ...     done = export(net, "pt2", home + "/net.pt2", example_inputs=torch.randn(3, 4))
    ...     outputs = torch.export.load(done.path).module()(torch.zeros(7, 4))
    >>> done.dynamic, tuple(outputs.shape)
    (('batch',), (7, 2))
    """
    if to not in FORMATS:
        raise PruneError(f"cannot export to {to!r}; {closest(to, FORMATS)}")
    start = time.perf_counter()
    model, out = _model(what, to, out, trust)
    root = unwrap(model)
    call = _call(root, example_inputs, args, kwargs)
    if call is None and to != "hf":
        raise PruneError(f"export to {to!r} runs the model: give example_inputs=")
    if any(p.is_meta for p in root.parameters()):
        raise PruneError("the model has no weights (meta device); load them before exporting")
    half = any(p.dtype in (torch.float16, torch.bfloat16) for p in root.parameters())
    writer = cast(Format, importlib.import_module(FORMATS[to]))
    with _evaluating(root):
        done = writer.write(
            root,
            call,
            Path(out),
            dynamic=dynamic,
            tolerance=tolerance if tolerance is not None else 2e-2 if half else 1e-4,
        )
    return replace(done, seconds=time.perf_counter() - start)


def _model(what: Any, to: str, out: Any, trust: bool) -> tuple[nn.Module, str | os.PathLike[str]]:
    if isinstance(what, (str, os.PathLike)):
        if out is None and to == "hf":
            raise PruneError("export to 'hf' writes a folder of its own; give it as out=")
        model = load(what, trust=trust)
        return model, Path(what) / f"model.{to}" if out is None else out
    if isinstance(what, Result):
        what = what.model
    if not isinstance(what, nn.Module):
        raise PruneError(f"cannot export a {type(what).__name__}; give a model or an artefact")
    if out is None:
        raise PruneError("where should it go? Give out=")
    return what, out


def _call(model: nn.Module, example: Any, args: Any, kwargs: Any) -> Call | None:
    if example is None and args is None and kwargs is None:
        source = source_of(model)
        if source is not None:
            example = source.example(model)
        if example is None:
            return None
    call = without_cache(model, *call_arguments(example, args, kwargs))
    parameter = next(model.parameters(), None)
    if parameter is None:
        return call

    def moved(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        leaf = leaf.to(parameter.device)
        halves = parameter.dtype in (torch.float16, torch.bfloat16)
        return leaf.to(parameter.dtype) if leaf.is_floating_point() and halves else leaf

    return torch.utils._pytree.tree_map(moved, call)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    flags = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in flags:
            module.training = training
