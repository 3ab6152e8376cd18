"""The oracle: the pruned network equals the original with the removed units silenced.

The original is run once more with every value set to zero at the positions of removed units, after
each operator, and with normalisations, softmax, means and maxima taken over the kept units only.
Nothing of surgery or repair takes part: only the axes say where a unit sits.
"""

from __future__ import annotations

import copy
import math
from collections import ChainMap
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from sentei.graph.analysis import Analysis, _apply
from sentei.graph.axis import Dim, beside, dims, factor, mask, resolve, units
from sentei.graph.capture import named_tensors, tensors_in
from sentei.graph.capture.around import restored
from sentei.graph.capture.planting import adopt_stand_ins
from sentei.graph.capture.recorder import Recorder
from sentei.graph.capture.tensors import map_tensors
from sentei.graph.errors import PruneError
from sentei.graph.perturb import ATTEMPTS, perturbed, substituted
from sentei.graph.rules import Facts, recording
from sentei.graph.tape import Node, Tape, Value, flatten, operator_name

__all__ = ["Reference", "Verification", "compare", "silenced_outputs", "widened"]

aten = torch.ops.aten
# Operators whose statistics are taken over kept units: they run on the kept positions alone.
_COMPACT = {
    "batch_norm", "instance_norm", "scaled_dot_product_attention",
    "layer_norm", "rms_norm", "group_norm", "softmax", "log_softmax", "_softmax",
    "_log_softmax", "_safe_softmax", "mean", "var", "std", "var_mean", "std_mean", "logsumexp",
    "amax", "amin", "max", "min", "prod", "all", "_is_all_true", "native_layer_norm",
    "native_group_norm", "_fused_rms_norm", "special_softmax", "aminmax",
    "nanmean", "linalg_vector_norm", "linalg_norm", "norm",
}  # fmt: skip


@dataclass(frozen=True)
class Reference:
    """Outputs of the silenced original on the example input.

    moved: whether silencing changed anything at all (otherwise the comparison shows nothing).
    weights: parameters that had other values than the model's own.
    second: another reference, with other weights, where the model's own hide the removed units.
    gradients: the code takes gradients, so that it does not run in inference mode.
    """

    outputs: list[tuple[str, Tensor]]
    moved: bool
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    second: Reference | None = None
    gradients: bool = False

    @property
    def tells(self) -> bool:
        """Could a wrong network have been told from a right one?"""
        return self.moved and any(_varied(t) for _, t in self.outputs)


@dataclass(frozen=True)
class Verification:
    """What was compared, and how it came out.

    error: largest difference over the outputs, relative to the largest output.
    conclusive: False where the comparison could not have failed (constant outputs, or outputs that
        do not depend on the removed units), with other weights neither.
    perturbed: the model's own weights hid the removed units (a last layer of zeros), and the
        networks were compared with other weights as well.
    shapes: (path, shape) of every tensor that the silenced original returned.
    """

    error: float
    tolerance: float
    tensors: int
    conclusive: bool
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = field(default=(), repr=False)
    perturbed: bool = False

    @property
    def passed(self) -> bool:
        return self.error <= self.tolerance

    def __str__(self) -> str:
        kind = "equal" if self.passed else "DIFFERENT"
        note = (
            "" if self.conclusive else "; inconclusive: the outputs do not show the removed units"
        )
        if self.perturbed:
            note = "; also with other weights, because its own hide the removed units"
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
    """Run the original with the removed units silenced; None for a model without weights.

    Where its outputs do not show the removed units, it is run with other weights as well.
    """
    if any(p.is_meta for p in model.parameters()):
        return None
    reference = _silenced(model, analysis, masks, call)
    if reference.tells or all(m.all() for m in masks.values()):
        return reference
    for attempt in range(ATTEMPTS):
        weights = perturbed(model, attempt)
        with substituted(dict(model.named_parameters()), weights):
            second = _silenced(model, analysis, masks, call)
        if second.tells:
            return replace(reference, second=replace(second, weights=weights))
    return reference


def _silenced(
    model: nn.Module,
    analysis: Analysis,
    masks: Mapping[Dim, Tensor],
    call: tuple[tuple[Any, ...], Mapping[str, Any]],
) -> Reference:
    args, kwargs = call
    plain = _run(model, args, kwargs, analysis.differentiates)
    silencer = _Silencer(analysis, masks)
    silencer.adopt_model(model)
    if analysis.differentiates:
        # Operators of a backward pass have no rules. Where no statistic is taken over removed
        # units (see `Analysis.resolve`), silencing all that belongs to them silences them.
        tensors = {id(t): t for _, t in named_tensors(model).values()}
        own = {str(key): tensors[key] for key in silencer.silent}
        with substituted(own, {str(key): t for key, t in silencer.silent.items()}):
            found = _run(model, args, kwargs, gradients=True)
        return Reference(found, outputs_differ(plain, found), gradients=True)
    for path, tensor in tensors_in((args, dict(kwargs))):
        silencer.adopt(tensor, "input", path)
    with restored(model, copy_floats=True), _seeded():
        model.eval()
        # Stock modules become their stand-ins, as they did when the tape was recorded.
        adopt_stand_ins(model.modules())
        with torch.inference_mode(), recording(silencer.analysis.facts) as current, silencer:
            silencer.current = current
            outputs = model(*args, **kwargs)
        found = [(path, t.detach().clone()) for path, t in tensors_in(outputs)]
    return Reference(found, moved=outputs_differ(plain, found))


def outputs_differ(a: list[tuple[str, Tensor]], b: list[tuple[str, Tensor]]) -> bool:
    return not all(
        x.shape == y.shape and torch.equal(x.nan_to_num(), y.nan_to_num())
        for (_, x), (_, y) in zip(a, b, strict=False)
    )


def _varied(output: Tensor) -> bool:
    """Does an output hold more than one value, or one number that is not zero?"""
    if not (output.is_floating_point() or output.is_complex()):
        return False
    finite = output[torch.isfinite(output)]
    return bool(finite.numel() and (finite != (finite[0] if finite.numel() > 1 else 0)).any())


def compare(
    model: nn.Module,
    reference: Reference,
    call: tuple[tuple[Any, ...], Mapping[str, Any]],
    tolerance: float | None = None,
    weights: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] = dict,
) -> Verification:
    """Run the pruned model on the same input and compare with the reference.

    Args:
        weights: turns the reference's other weights into those of the pruned model.
    """
    report = _compare(model, reference, call, tolerance)
    if reference.second is None:
        return report
    with substituted(dict(model.named_parameters()), weights(reference.second.weights)):
        second = _compare(model, reference.second, call, tolerance)
    return replace(
        report, error=max(report.error, second.error), conclusive=second.conclusive, perturbed=True
    )


def _compare(
    model: nn.Module,
    reference: Reference,
    call: tuple[tuple[Any, ...], Mapping[str, Any]],
    tolerance: float | None,
) -> Verification:
    outputs = _run(model, *call, reference.gradients)
    if len(outputs) != len(reference.outputs):
        raise PruneError(
            f"the pruned model returns {len(outputs)} tensors, "
            f"the original {len(reference.outputs)}"
        )
    worst, lowest = 0.0, 1e-6
    for (path, new), (_, old) in zip(outputs, reference.outputs, strict=True):
        if new.shape != old.shape:
            raise PruneError(
                f"output {path or 0} has shape {list(new.shape)}, was {list(old.shape)}"
            )
        if not new.is_floating_point() and not new.is_complex():
            continue
        lowest = max(lowest, TOLERANCE.get(new.dtype, 1e-6))
        worst = max(worst, difference(new, old))
    return Verification(
        worst,
        lowest if tolerance is None else tolerance,
        len(outputs),
        reference.tells,
        tuple((path, tuple(t.shape)) for path, t in reference.outputs),
    )


def difference(new: Tensor, old: Tensor) -> float:
    """Largest difference, relative to the largest number of `old`; inf where only one is finite.

    >>> difference(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0]))
    0.5
    """
    a = new.to(torch.complex128 if new.is_complex() else torch.float64)
    b = old.to(a.dtype)
    finite = torch.isfinite(b)
    if not torch.equal(finite, torch.isfinite(a)):
        return math.inf
    if not finite.any():
        return 0.0
    a, b = a[finite], b[finite]
    scale = b.abs().max().item()
    error: float = (a - b).abs().max().item()
    return error / scale if scale else (0.0 if error == 0 else math.inf)


# Rounding of a deep network's activations, with room: the order of summation differs.
TOLERANCE = {
    torch.float64: 1e-6,
    torch.float32: 1e-3,
    torch.float16: 5e-2,
    torch.bfloat16: 2e-1,
}


def doubled(tree: Any) -> Any:
    """Inputs with every floating-point tensor in float64."""
    if isinstance(tree, Tensor):
        return tree.double() if tree.is_floating_point() else tree
    if isinstance(tree, Mapping):
        return {k: doubled(v) for k, v in tree.items()}
    if type(tree) in (list, tuple):
        return type(tree)(doubled(v) for v in tree)
    return tree


def widened(
    model: nn.Module, call: tuple[tuple[Any, ...], Mapping[str, Any]], gradients: bool = False
) -> tuple[nn.Module, tuple[tuple[Any, ...], Mapping[str, Any]]] | None:
    """A copy of a model in float64 with its example inputs; None where its code does not run so."""
    if all(p.dtype is torch.float64 for p in model.parameters()):
        return None
    try:
        wide = copy.deepcopy(model).double()
        args, kwargs = doubled(call[0]), doubled(dict(call[1]))
        _run(wide, args, kwargs, gradients)
    except Exception:  # casts of its own, or a part that cannot be copied
        return None
    return wide, (args, kwargs)


def _run(
    model: nn.Module, args: Any, kwargs: Any, gradients: bool = False
) -> list[tuple[str, Tensor]]:
    mode = torch.enable_grad() if gradients else torch.inference_mode()
    with restored(model, copy_floats=True), _seeded(), mode, _Settled():
        model.eval()
        outputs = model(*args, **kwargs)
    return [(path, t.detach().clone()) for path, t in tensors_in(outputs)]


class _seeded:
    """Noise drawn inside a forward pass is the same each time."""

    def __enter__(self) -> None:
        torch.manual_seed(0)

    def __exit__(self, *_: object) -> None:
        return None


# Where each operator says how much it drops, or whether: the argument, its name, and "nothing".
_DROPS: dict[str, tuple[int, str, Any]] = {
    **dict.fromkeys(
        ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout", "native_dropout"),
        (2, "train", False),
    ),
    "scaled_dot_product_attention": (4, "dropout_p", 0.0),
}


def _settled(
    func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments with which an operator drops nothing.

    Some models drop units even in eval mode (a prenet, Monte Carlo dropout). What falls then
    depends on how many there are, so that a pruned network cannot be compared before it stops.
    """
    place, name, nothing = _DROPS.get(operator_name(func).rstrip("_"), (0, "", None))
    if not name:
        return args, kwargs
    if len(args) > place:
        return (*args[:place], nothing, *args[place + 1 :]), kwargs
    return args, {**kwargs, name: nothing} if name in kwargs else kwargs


class _Settled(TorchDispatchMode):
    """Nothing is dropped inside."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        args, kwargs = _settled(func, args, kwargs or {})
        return func(*args, **kwargs)


class _Silencer(Recorder):
    """Runs every operator for real and silences removed units in what comes out."""

    def __init__(self, analysis: Analysis, masks: Mapping[Dim, Tensor]) -> None:
        super().__init__(Tape(abstract=False))
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
        args, kwargs = _settled(func, args, kwargs or {})
        seen = map_tensors((args, kwargs), self.value)
        name = operator_name(func)
        mutated = name.endswith("_") and not name.endswith("__")
        real, options = map_tensors((args, kwargs), lambda t: self.silent.get(id(t), t))
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
        if mutated or not func.is_view:
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

    def _kept(self, axis: Any, apart: bool = True, whole: Collection[Dim] = frozenset()) -> Tensor:
        """Kept positions of an axis. A dim that keeps other units for each outer index cannot be
        cut out of a tensor (`apart`), and counts as whole where its outer dim is elsewhere."""

        def keep(dim: Dim) -> Tensor:
            own = None if dim in whole else self.masks.get(dim)
            if own is None or (own.dim() == 2 and (apart or not beside(axis, dim))):
                return torch.ones(dim.size, dtype=torch.bool)
            return own

        return mask(resolve(axis), keep)

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
        name = operator_name(func)
        # Removed units count as zeros in a mean whose denominator is folded into its readers.
        whole = self.analysis.averaged if name == "mean" else frozenset()

        def small(tensor: Any, value: Any) -> Any:
            for i, axis in enumerate(self.analysis.axes(value)):
                if any(d in self.masks for d in dims(axis)):
                    kept = self._kept(axis, whole=whole)
                    tensor = tensor.index_select(i, kept.nonzero().flatten())
            return tensor

        def walk(tree: Any, seen: Any) -> Any:
            if isinstance(tree, Tensor):
                return small(tree, seen)
            if isinstance(tree, (list, tuple)):
                return type(tree)(walk(a, b) for a, b in zip(tree, seen, strict=True))
            return tree

        compact = [walk(a, b) for a, b in zip(args, node.args, strict=True)]
        extra = {k: walk(v, node.kwargs.get(k, v)) for k, v in options.items()}
        if name in ("layer_norm", "rms_norm", "_fused_rms_norm", "native_layer_norm"):
            compact[1] = list(compact[0].shape[-len(args[1]) :])
        if name in ("group_norm", "native_group_norm"):
            compact[1] = self._group_count(node)
        result = func(*compact, **extra)
        for full, part, value in zip(
            outs, (t for t in flatten(result) if isinstance(t, Tensor)), node.outputs, strict=True
        ):
            kept = [
                self._kept(axis, whole=whole).nonzero().flatten() if self._removed([axis]) else None
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
        outer, _ = factor(self.analysis.axes(node.args[0])[1], int(node.args[1]))
        return int(self._kept(outer).sum())
