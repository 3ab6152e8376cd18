"""The oracle: the pruned network equals the original with the removed units silenced.

The original is run once more with every value set to zero at the positions of removed units, after
each operator, and with normalisations, softmax, means and maxima taken over the kept units only.
Nothing of surgery or repair takes part: only the axes say where a unit sits.
"""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from sentei.graph.analysis import Analysis, _apply
from sentei.graph.axis import Dim, beside, dims, left, mask, resolve, units, width
from sentei.graph.capture import _map, _Recorder, _restored, named_tensors, tensors_in
from sentei.graph.errors import PruneError
from sentei.graph.rules import Facts, recording
from sentei.graph.tape import Node, Tape, Value, flatten

__all__ = ["Reference", "Verification", "compare", "silenced_outputs"]

aten = torch.ops.aten
# Operators whose statistics are taken over kept units: they run on the kept positions alone.
_COMPACT = {
    "batch_norm", "instance_norm", "scaled_dot_product_attention",
    "layer_norm", "rms_norm", "group_norm", "softmax", "log_softmax", "_softmax",
    "_log_softmax", "_safe_softmax", "mean", "var", "std", "var_mean", "std_mean", "logsumexp",
    "amax", "amin", "max", "min", "prod", "all", "native_layer_norm", "native_group_norm",
    "_fused_rms_norm", "special_softmax", "aminmax",
}  # fmt: skip


@dataclass(frozen=True)
class Reference:
    """Outputs of the silenced original on the example input.

    moved: whether silencing changed anything at all (otherwise the comparison shows nothing).
    """

    outputs: list[tuple[str, Tensor]]
    moved: bool


@dataclass(frozen=True)
class Verification:
    """What was compared, and how it came out.

    error: largest difference over the outputs, relative to the largest output.
    conclusive: False where the comparison could not have failed (constant outputs, or outputs that
        do not depend on the removed units).
    """

    error: float
    tolerance: float
    tensors: int
    conclusive: bool

    @property
    def passed(self) -> bool:
        return self.error <= self.tolerance

    def __str__(self) -> str:
        kind = "equal" if self.passed else "DIFFERENT"
        note = (
            "" if self.conclusive else "; inconclusive: the outputs do not show the removed units"
        )
        return (
            f"{kind} to the silenced original within {self.error:.1e} (relative, tolerance "
            f"{self.tolerance:.0e}, {self.tensors} tensors){note}"
        )


def silenced_outputs(
    model: nn.Module,
    analysis: Analysis,
    masks: Mapping[Dim, Tensor],
    call: tuple[tuple[Any, ...], Mapping[str, Any]],
) -> Reference | None:
    """Run the original with the removed units silenced; None for a model without weights."""
    if any(p.is_meta for p in model.parameters()):
        return None
    args, kwargs = call
    plain = _run(model, args, kwargs)
    silencer = _Silencer(analysis, masks)
    silencer.adopt_model(model)
    for path, tensor in tensors_in((args, dict(kwargs))):
        silencer.adopt(tensor, "input", path)
    with _restored(model, copy_floats=True), _seeded():
        model.eval()
        # Stock modules become their stand-ins, as they did when the tape was recorded.
        from sentei.graph.capture import _adopt_stand_ins

        _adopt_stand_ins(model)
        with torch.inference_mode(), recording(silencer.analysis.facts) as current, silencer:
            silencer.current = current
            outputs = model(*args, **kwargs)
        found = [(path, t.detach().clone()) for path, t in tensors_in(outputs)]
    same = all(
        a.shape == b.shape and torch.equal(a, b)
        for (_, a), (_, b) in zip(plain, found, strict=False)
    )
    return Reference(found, moved=not same)


def compare(
    model: nn.Module,
    reference: Reference,
    call: tuple[tuple[Any, ...], Mapping[str, Any]],
    tolerance: float | None = None,
) -> Verification:
    """Run the pruned model on the same input and compare with the reference."""
    outputs = _run(model, *call)
    if len(outputs) != len(reference.outputs):
        raise PruneError(
            f"the pruned model returns {len(outputs)} tensors, "
            f"the original {len(reference.outputs)}"
        )
    worst, conclusive, lowest = 0.0, False, 1e-6
    for (path, new), (_, old) in zip(outputs, reference.outputs, strict=True):
        if new.shape != old.shape:
            raise PruneError(
                f"output {path or 0} has shape {list(new.shape)}, was {list(old.shape)}"
            )
        if not new.is_floating_point() and not new.is_complex():
            continue
        lowest = max(lowest, _TOLERANCE.get(new.dtype, 1e-6))
        a, b = new.to(torch.complex128 if new.is_complex() else torch.float64), old
        b = b.to(a.dtype)
        finite = torch.isfinite(b)
        if not torch.equal(finite, torch.isfinite(a)):
            worst = math.inf
            continue
        if not finite.any():
            continue
        a, b = a[finite], b[finite]
        scale = b.abs().max().item()
        difference = (a - b).abs().max().item()
        worst = max(worst, difference / scale if scale else (0.0 if difference == 0 else math.inf))
        conclusive = conclusive or (b.numel() > 1 and (b - b.flatten()[0]).abs().max().item() > 0)
    return Verification(
        worst,
        lowest if tolerance is None else tolerance,
        len(outputs),
        conclusive and reference.moved,
    )


# Rounding of a deep network's activations, with room: the order of summation differs.
_TOLERANCE = {
    torch.float64: 1e-6,
    torch.float32: 1e-3,
    torch.float16: 5e-2,
    torch.bfloat16: 2e-1,
}


def _run(model: nn.Module, args: Any, kwargs: Any) -> list[tuple[str, Tensor]]:
    with _restored(model, copy_floats=True), _seeded(), torch.inference_mode():
        model.eval()
        outputs = model(*args, **kwargs)
    return [(path, t.detach().clone()) for path, t in tensors_in(outputs)]


class _seeded:
    """Noise drawn inside a forward pass is the same each time."""

    def __enter__(self) -> None:
        torch.manual_seed(0)

    def __exit__(self, *_: object) -> None:
        return None


class _Silencer(_Recorder):
    """Runs every operator for real and silences removed units in what comes out."""

    def __init__(self, analysis: Analysis, masks: Mapping[Dim, Tensor]) -> None:
        super().__init__(Tape(abstract=False), abstract=False)
        # What this run finds out stays here: its values and facts are not the analysis' own.
        self.analysis = replace(analysis, values=ChainMap({}, analysis.values), facts=Facts())
        self.masks = masks
        self.current: list[Node] = []
        self.silent: dict[int, Tensor] = {}

    def adopt_model(self, model: nn.Module) -> None:
        for name, (origin, tensor) in named_tensors(model).items():
            value = self.adopt(tensor, origin, name)
            axes = self.analysis.parameters.get(name)
            if axes is not None:
                self.analysis.values[id(value)] = axes
                if self._removed(axes):
                    self.silent[id(tensor)] = self._zeroed(tensor.detach().clone(), axes)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        seen = _map((args, kwargs), self.value)
        name = func._schema.name.split("::")[-1]
        mutated = name.endswith("_") and not name.endswith("__")
        real, options = _map((args, kwargs), lambda t: self.silent.get(id(t), t))
        if func is aten.scaled_dot_product_attention.default and options.get("scale") is None:
            options["scale"] = real[0].shape[-1] ** -0.5
        out = func(*real, **options)
        tensors = [t for t in flatten(out) if isinstance(t, Tensor)]
        node = Node(func, seen[0], seen[1], tuple(self.adopt(t, "op") for t in tensors))
        self._keep.append(node)
        if self.current:
            self.current[-1] = node
        _apply(self.analysis, node)
        if name in _COMPACT and self._touches(node):
            self._compact(func, real, options, node, tensors)
        elif mutated or not func.is_view:
            for tensor, value in zip(tensors, node.outputs, strict=True):
                axes = self.analysis.axes(value)
                if self._removed(axes):
                    self._zeroed(tensor, axes)
        return out

    @property
    def _keep(self) -> list[Node]:
        # Values are known by identity: nodes stay alive as long as the pass runs.
        return self.tape.nodes

    def _removed(self, axes: list[Any]) -> bool:
        return any(d in self.masks for axis in axes for d in dims(axis))

    def _touches(self, node: Node) -> bool:
        return any(
            self._removed(self.analysis.axes(v))
            for v in flatten((node.args, node.kwargs))
            if isinstance(v, Value)
        )

    def _kept(self, axis: Any, apart: bool = True) -> Tensor:
        """Kept positions of an axis. A dim that keeps other units for each outer index cannot be
        cut out of a tensor (`apart`), and counts as whole where its outer dim is elsewhere."""

        def keep(dim: Dim) -> Tensor:
            own = self.masks.get(dim)
            if own is None or (own.dim() == 2 and (apart or not beside(axis, dim))):
                return torch.ones(dim.size, dtype=torch.bool)
            return own

        return mask(resolve(axis), keep)

    def _width(self, dim: Dim) -> int:
        return left(self.masks[dim]) if dim in self.masks else dim.size

    def _zeroed(self, tensor: Tensor, axes: list[Any]) -> Tensor:
        with torch.inference_mode(tensor.is_inference()), torch.no_grad():
            for i, axis in enumerate(axes):
                if any(d in self.masks for d in dims(axis)):
                    gone = (~self._kept(axis, apart=False)).to(tensor.device)
                    shape = [1] * tensor.dim()
                    shape[i] = -1
                    tensor.masked_fill_(gone.view(shape), 0)
                for dim in dict.fromkeys(dims(axis)):
                    rows = dim in self.masks and self.masks[dim].dim() == 2
                    if rows and not beside(axis, dim):
                        self._zero_by_outer(tensor, axes, i, dim)
        return tensor

    def _zero_by_outer(self, tensor: Tensor, axes: list[Any], at: int, dim: Dim) -> None:
        """Silence a dim that keeps other units for each outer index, which is another dimension."""
        assert dim.outer is not None
        for j, axis in enumerate(axes):
            if j != at and dim.outer in dims(axis):
                rows, columns = units(axis, dim.outer), units(axes[at], dim)
                gone = ~self.masks[dim][rows][:, columns] & (rows >= 0)[:, None] & (columns >= 0)
                shape = [1] * tensor.dim()
                shape[j], shape[at] = len(rows), len(columns)
                gone = gone if j < at else gone.T
                tensor.masked_fill_(gone.reshape(shape).to(tensor.device), 0)

    def _compact(self, func: Any, args: Any, options: Any, node: Node, outs: list[Tensor]) -> None:
        """Run on the kept positions and put the result where they are."""

        def small(tensor: Any, value: Any) -> Any:
            for i, axis in enumerate(self.analysis.axes(value)):
                if any(d in self.masks for d in dims(axis)):
                    tensor = tensor.index_select(i, self._kept(axis).nonzero().flatten())
            return tensor

        def walk(tree: Any, seen: Any) -> Any:
            if isinstance(tree, Tensor):
                return small(tree, seen)
            if isinstance(tree, (list, tuple)):
                return type(tree)(walk(a, b) for a, b in zip(tree, seen, strict=True))
            return tree

        compact = [walk(a, b) for a, b in zip(args, node.args, strict=True)]
        extra = {k: walk(v, node.kwargs.get(k, v)) for k, v in options.items()}
        name = func._schema.name.split("::")[-1]
        if name in ("layer_norm", "rms_norm", "_fused_rms_norm", "native_layer_norm"):
            compact[1] = list(compact[0].shape[-len(args[1]) :])
        if name in ("group_norm", "native_group_norm"):
            compact[1] = self._group_count(node)
        result = func(*compact, **extra)
        for full, part, value in zip(
            outs, (t for t in flatten(result) if isinstance(t, Tensor)), node.outputs, strict=True
        ):
            kept = [
                self._kept(axis).nonzero().flatten() if self._removed([axis]) else None
                for axis in self.analysis.axes(value)
            ]
            full.zero_()
            index = (
                torch.meshgrid(
                    *(
                        k if k is not None else torch.arange(n)
                        for k, n in zip(kept, full.shape, strict=True)
                    ),
                    indexing="ij",
                )
                if full.dim()
                else ()
            )
            full[index] = part.reshape(full[index].shape) if full.dim() else part

    def _group_count(self, node: Node) -> int:
        from sentei.graph.axis import factor

        outer, _ = factor(self.analysis.axes(node.args[0])[1], int(node.args[1]))
        return width(outer, self._width)
