"""What criteria look at: a model's values, its gradients, its groups; each computed once."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm

from sentei.batches import carried, forward, is_batch
from sentei.graph.axis import Axis, Concat, Dim, Fixed, beside, dims, resolve, units
from sentei.graph.blueprint import without_cache
from sentei.graph.capture import named_parameters, tensors_in, unwrap
from sentei.graph.errors import PruneError
from sentei.graph.groups import Group, Groups
from sentei.structures.weights import prunable

__all__ = ["Criterion", "Evidence", "needs"]

Statistic = Callable[..., Tensor]
Scoring = TypeVar("Scoring", bound=Callable[..., Any])


def needs(*what: str) -> Callable[[Scoring], Scoring]:
    """Say what a criterion or a saliency looks at beside the weights; `needs_of` reads it.

    what: of "data" and "gradients" (data and a loss); nothing where the weights are enough. What
        says nothing at all may look at anything.

    >>> @needs("data")
    ... def mine(group, evidence): ...
    >>> mine.needs
    ('data',)
    """
    unknown = [w for w in what if w not in ("data", "gradients")]
    if unknown:
        raise ValueError(f"needs {unknown[0]!r}; known: 'data', 'gradients'")

    def say(function: Scoring) -> Scoring:
        function.needs = what  # type: ignore[attr-defined]
        return function

    return say


class Criterion(Protocol):
    """One score per unit; larger is worth more."""

    def __call__(self, group: Group, evidence: Evidence) -> Tensor: ...  # (units,)


@dataclass(frozen=True, eq=False)
class Evidence:
    """A model as criteria see it. Build with `Evidence.of`.

    groups: None where only single weights are looked at; what asks for units then says so.
    tensors: parameters by qualified name, a shared one once.
    data: batches for gradients: one `(inputs, targets)`, one mapping of keyword arguments, or an
        iterable of either. inputs: a tensor, a tuple of arguments or a mapping.
    loss: `loss(outputs, targets)`, a scalar; for mappings `loss(outputs, batch)`. Without it a
        mapping's outputs must have a `.loss`, as Hugging Face models do.
    seed: where `generator` starts.
    example: (args, kwargs) of a call of the model, for what needs the inputs' shapes alone.
    names: of what may be pruned weight by weight; None for all that `sentei.structures.prunable`
        finds.
    """

    model: nn.Module = field(repr=False)
    groups: Groups | None = field(repr=False)
    tensors: Mapping[str, Tensor] = field(repr=False)
    data: Any = field(default=None, repr=False)
    loss: Callable[..., Tensor] | None = None
    seed: int = 0
    example: tuple[tuple[Any, ...], dict[str, Any]] | None = field(default=None, repr=False)
    names: tuple[str, ...] | None = field(default=None, repr=False)

    @staticmethod
    def of(
        model: nn.Module,
        groups: Groups | None = None,
        *,
        data: Any = None,
        loss: Callable[..., Tensor] | None = None,
        seed: int = 0,
        weights: Iterable[str] | None = None,
        example: Any = None,
    ) -> Evidence:
        """The evidence about `model`, whose groups are `groups`.

        weights: names of the weights that may be pruned one by one; all that `prunable` finds by
            default.
        example: example inputs: a tensor, a tuple of arguments or a mapping; or (args, kwargs).
        """
        model = unwrap(model)
        tensors: dict[str, Tensor] = {**named_parameters(model)}
        if isinstance(data, Iterator):
            data = list(data)  # several criteria may want to go over it
        names = None if weights is None else tuple(weights)
        return Evidence(model, groups, tensors, data, loss, seed, _call(example), names)

    @cached_property
    def weights(self) -> Mapping[str, Tensor]:
        """Of `tensors`, what may be pruned weight by weight."""
        names = _prunable_names(self.model) if self.names is None else self.names
        return {name: self.tensors[name] for name in names if name in self.tensors}

    def sum(
        self, group: Group, statistic: Statistic, *, only: frozenset[str] | None = None
    ) -> Tensor:
        """`statistic` summed over everything that goes with each unit.

        sum[u] = sum over slices (parameter w, dimension d) of the group, over positions p of unit
                 u along d, of statistic(w) at p, summed over the other dimensions

        That is producer rows, consumer columns, biases and norms. A weight that lies in a row and
        in a column of the same unit counts in both. All groups are summed in one pass over the
        weights and kept, so hand over a named function, not a fresh lambda a call.

        Args:
            statistic: elementwise, weight -> same shape.
            only: names of the parameters to look at; all if None.
        Returns:
            (units,) float64 on the CPU; (outer units · units,), row by row, for a group that may
            keep other units for each outer index (`group.outer`).
        Raises:
            PruneError: a parameter holds NaN or infinity, or no values at all (meta).
        """
        key = (statistic, only)
        if key not in self._sums:
            names = self._layout.dims if only is None else only & self._layout.dims.keys()
            self._sums[key] = self._layout.reduce(Some(self.tensors, names), statistic)
        return self._sums[key][self._layout.span[group.dim]]

    def per_batch(self, group: Group, statistic: Statistic) -> Tensor:
        """Like `sum`, with `statistic(weight, gradient)`, for every batch of `data` by itself.

        Returns:
            (batches, units) float64.
        Raises:
            PruneError: no data, no loss, no batch, or a gradient that is not finite.
        """
        key = (statistic, "gradients")
        if key not in self._sums:
            rows = []
            for grads in self.gradients():
                # What the loss does not reach has gradient zero and adds nothing.
                values = {n: (self.tensors[n], grads[n]) for n in self._layout.dims if n in grads}
                rows.append(self._layout.reduce(values, statistic))
            self._sums[key] = torch.stack(rows)
        return self._sums[key][:, self._layout.span[group.dim]]

    def gradients(self) -> Iterator[dict[str, Tensor]]:
        """Gradients of the loss by parameter name, batch by batch.

        The model runs in eval mode (batch statistics and dropout would add noise, and running
        statistics must not move); parameters' own `.grad` and flags are left as they were.
        """
        for batch in self.batches():
            with self.differentiable():
                loss = self.loss_of(batch)
                grads = torch.autograd.grad(loss, list(self.tensors.values()), allow_unused=True)
            yield {
                name: grad.to_dense() if grad.layout is torch.sparse_coo else grad
                for name, grad in zip(self.tensors, grads, strict=True)
                if grad is not None
            }

    @contextmanager
    def differentiable(self, *, batch_statistics: bool = False) -> Iterator[None]:
        """In here the model is in eval mode and every parameter asks for gradients.

        Flags, buffers and the random state are as before on leaving. Attention and recurrent
        layers run kernels that can be differentiated twice.

        Args:
            batch_statistics: batch-norms use the batch's own statistics, as in training; for
                networks whose running statistics mean nothing yet.
        """
        with _differentiable(self.model, self.tensors, batch_statistics, self.seed):
            yield

    def inputs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """(args, kwargs) of a call of the model: the example, or those of the first batch.

        Raises:
            PruneError: there is neither an example nor data.
        """
        if self.example is not None:
            return without_cache(self.model, *self.example)
        if self.data is None:
            raise PruneError("this criterion needs the inputs' shapes: give example inputs or data")
        batch = next(iter(self.batches()))
        given = batch if isinstance(batch, Mapping) else batch[0]
        if isinstance(given, Mapping):
            return without_cache(self.model, (), given)
        args = tuple(given) if isinstance(given, (tuple, list)) else (given,)
        return without_cache(self.model, args, {})

    @staticmethod
    def outputs_of(outputs: Any) -> list[Tensor]:
        """The floating-point tensors of a model's outputs, without a loss among them."""
        found = ((path, t) for path, t in tensors_in(outputs) if t.is_floating_point())
        return [t for path, t in found if path != "loss"]

    def by_unit(self, group: Group, values: Mapping[str, Tensor]) -> Tensor:
        """Values given for every weight, summed over everything that goes with each unit.

        Args:
            values: parameter name -> tensor of its shape; what is not named adds nothing. Sums of
                all groups are computed once for each mapping (the object, not its contents).
        Returns:
            as `sum`.
        """
        key = ("values", id(values))
        if key not in self._sums:
            known = {n: v for n, v in values.items() if n in self._layout.dims}
            self._sums[key] = self._layout.reduce(known, _itself)
            self._kept.append(values)  # or another mapping could get the same id
        return self._sums[key][self._layout.span[group.dim]]

    def sums_by_unit(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`by_unit` of all groups by name, with nothing kept for later: for what changes often."""
        known = {n: v for n, v in values.items() if n in self._layout.dims}
        sums = self._layout.reduce(known, _itself)
        groups = self.groups or {}
        return {name: sums[self._layout.span[group.dim]] for name, group in groups.items()}

    def once(self, key: str, make: Callable[[], Any]) -> Any:
        """What `make` gives, made the first time that `key` is asked for."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def generator(self, name: str = "") -> torch.Generator:
        """A random generator of its own for each name: scores do not depend on who asks first."""
        # The CPU generator takes 32 bits of its seed, so both have to go into those.
        return torch.Generator().manual_seed(zlib.crc32(f"{self.seed}:{name}".encode()))

    @cached_property
    def norm_scales(self) -> frozenset[str]:
        """Parameters that scale a normalised activation: the gamma of batch-norm and its kin."""
        found: set[str] = set()
        if self.groups is None:
            return frozenset(found)
        for tape in self.groups.analysis.tapes:
            for node in tape.nodes:
                place = _SCALE_ARGUMENT.get(node.operator)
                if place is not None and len(node.args) > place:
                    found.add(getattr(node.args[place], "name", ""))
        return frozenset(found & self.tensors.keys())

    # -- inside ---------------------------------------------------------------------------------
    @cached_property
    def orders(self) -> dict[str, Tensor]:
        """Group name -> (outer units, units): units from best to worst for each outer index."""
        return {}

    @cached_property
    def _sums(self) -> dict[Any, Tensor]:
        return {}

    @cached_property
    def _made(self) -> dict[str, Any]:
        return {}

    @cached_property
    def _kept(self) -> list[Any]:
        return []

    @cached_property
    def _layout(self) -> _Layout:
        if self.groups is None:
            raise PruneError("this criterion scores units, and the model's groups were not given")
        return _Layout(self.groups, self.tensors)

    def batches(self) -> Iterator[Any]:
        """The batches of `data`, at least one.

        Raises:
            PruneError: there is no data, no batch in it, or something that is not a batch.
        """
        count = 0
        for count, batch in enumerate(self._walk(), 1):  # noqa: B007
            yield batch
        if not count:
            raise PruneError("data holds no batch; give at least one (inputs, targets)")

    def _walk(self) -> Iterator[Any]:
        if self.data is None:
            raise PruneError(
                "this criterion needs gradients: give data=(inputs, targets), or an iterable of "
                "such batches, and loss=, a function of (outputs, targets)"
            )
        if is_batch(self.data):
            yield self.data
        elif isinstance(self.data, Iterable):
            for batch in self.data:
                if not is_batch(batch):
                    raise PruneError(
                        f"data: a batch must be (inputs, targets) or a mapping of keyword "
                        f"arguments; got {type(batch).__name__}"
                    )
                yield batch
        else:
            raise PruneError(
                f"data must be (inputs, targets) or an iterable of such batches; "
                f"got {type(self.data).__name__}"
            )

    def loss_of(self, batch: Any) -> Tensor:
        """The loss of a batch, one number with a gradient (inside `differentiable`).

        Raises:
            PruneError: there is no loss, or it is not one number, or depends on no parameter.
        """
        outputs = forward(self.model, batch)
        targets = batch if isinstance(batch, Mapping) else batch[1]
        if self.loss is not None:
            loss = self.loss(outputs, targets)
        else:
            loss = carried(outputs)
            if loss is None:
                raise PruneError(
                    "this criterion needs gradients: give loss=, a function of (outputs, targets) "
                    "such as torch.nn.functional.cross_entropy"
                )
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            got = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise PruneError(f"loss must give one number a batch; got {got}")
        if not loss.requires_grad:
            raise PruneError("loss does not depend on the model's parameters: it has no gradient")
        return loss.reshape(())


# Where the scale stands in the arguments of each normalisation.
_SCALE_ARGUMENT = {
    "batch_norm": 1, "instance_norm": 1, "layer_norm": 2, "group_norm": 2, "rms_norm": 2,
}  # fmt: skip


class _Layout:
    """Where every unit of every group sits in every parameter.

    Units of all groups are numbered in one row; `span[dim]` is where a group's units are.
    `dims[parameter]` is a list of (dimension, ids), `ids` the unit number of each position along
    the dimension. A position inside nested groups (a head and a channel of the head) belongs to
    several units: one vector of ids each. Positions without a unit get the number one past the end.
    `cross[parameter]` is a list of (dimension, [ids]) with ids for each pair (position of dimension
    0, position of the dimension): units that each outer index keeps for itself, where the outer
    index is in dimension 0 (inputs of a grouped convolution).
    """

    def __init__(self, groups: Groups, tensors: Mapping[str, Tensor]) -> None:
        self.span: dict[Dim, slice] = {}
        self.units = 0
        self._numbers: dict[Any, list[np.ndarray]] = {}
        self._seen: dict[int, tuple[Axis, list[np.ndarray]]] = {}
        for group in groups.values():
            # A dim that is free in an outer one has a score for each pair (outer unit, unit).
            rows = group.dim.outer.size if group.dim.outer is not None else 1
            self.span[group.dim] = slice(self.units, self.units + rows * group.size)
            self.units += rows * group.size
        self.dims: dict[str, list[tuple[int, list[np.ndarray]]]] = {}
        self.cross: dict[str, list[tuple[int, list[np.ndarray]]]] = {}
        self.free = [dim for dim in self.span if dim.outer is not None]
        for name, axes in groups.analysis.parameters.items():
            if name in tensors:
                found = [(i, self._ids(resolve(axis))) for i, axis in enumerate(axes)]
                kept = [(i, ids) for i, ids in found if ids]
                others = range(1, len(axes)) if self.free else ()
                cross = [pair for i in others for pair in self._crossing(axes, i)]
                if kept or cross:
                    self.dims[name] = kept
                if cross:
                    self.cross[name] = cross

    def _crossing(self, axes: Sequence[Axis], i: int) -> Iterator[tuple[int, list[np.ndarray]]]:
        axis = resolve(axes[i])
        there = {*dims(axis)}
        for dim in self.free:
            if dim in there and not beside(axis, dim):
                row = units(resolve(axes[0]), dim.outer)[:, None]
                column = units(axis, dim)[None, :]
                ids = self.span[dim].start + row * dim.size + column
                yield i, [ids.where(column >= 0, self.units).flatten().numpy()]

    def _own(self, dim: Dim) -> list[np.ndarray]:
        span = self.span.get(dim)
        return [] if span is None else [np.arange(span.start, span.start + dim.size)]

    def _ids(self, axis: Axis) -> list[np.ndarray]:
        # A weight, its bias and the norm after it have the same axis: once is enough.
        known = self._seen.get(id(axis))
        if known is None:
            form = _form(axis)
            if form not in self._numbers:
                self._numbers[form] = self._numbered(axis)
            # With the axis, so that it lives and the id stays its own.
            known = self._seen[id(axis)] = (axis, self._numbers[form])
        return known[1]

    def _numbered(self, axis: Axis) -> list[np.ndarray]:
        if isinstance(axis, Dim):
            return self._own(axis) if axis.outer is None else []
        if isinstance(axis, Fixed):
            return []
        parts = [
            (
                part,
                self._own(part) if getattr(part, "outer", None) in axis.parts else self._ids(part),
            )
            for part in axis.parts
        ]
        if isinstance(axis, Concat):
            depth = max(len(ids) for _, ids in parts)
            nobody = self.units
            return [
                np.concatenate(
                    [
                        ids[level] if level < len(ids) else np.full(part.size, nobody)
                        for part, ids in parts
                    ]
                )
                for level in range(depth)
            ]
        out = []
        outer = 1
        for part, ids in parts:
            inner = axis.size // (outer * part.size)
            wide = [np.tile(i.repeat(inner), outer) for i in ids]
            if isinstance(part, Dim) and part.outer is not None and ids:
                row = units(axis, part.outer).clamp(min=0).numpy()
                wide = [i + row * part.size for i in wide]
            out += wide
            outer *= part.size
        return out

    def reduce(self, values: Mapping[str, Any], statistic: Statistic) -> Tensor:
        """`statistic` of each value (a weight, or weight and gradient) by unit: (units,)."""
        total = self._total(values, statistic, _wide)
        if total.isfinite().all():
            return total[:-1]
        for name in values:
            for tensor, what in zip(
                _tuple(values[name]), ("parameter", "the gradient of parameter"), strict=False
            ):
                if not tensor.isfinite().all():
                    kind = "NaN" if tensor.isnan().any() else "infinity"
                    raise PruneError(f"{what} {name!r} holds {kind}: its units cannot be scored")
        # Finite weights whose squares overflow: rare enough to be slow about it.
        total = self._total(values, statistic, lambda t: _wide(t).double())
        if not total.isfinite().all():
            raise PruneError("the weights are so large that their scores are not finite")
        return total[:-1]

    def _total(
        self,
        values: Mapping[str, Any],
        statistic: Statistic,
        cast: Callable[[Tensor], Tensor],
    ) -> Tensor:
        sums: list[Tensor] = []
        where: list[np.ndarray] = []
        with torch.no_grad():
            for name in values:  # one at a time: they may be read from the disk
                tensors = _tuple(values[name])
                if tensors[0].is_meta:
                    raise PruneError(
                        f"parameter {name!r} is on the meta device and has no values to score; "
                        f"load the weights, or use the criterion 'random'"
                    )
                vectors = self._summed(name, tensors, statistic, cast)
                places = [*self.dims[name], *self.cross.get(name, ())]
                for vector, (_, owners) in zip(vectors, places, strict=True):
                    sums += [vector] * len(owners)
                    where += owners
        if not sums:
            return torch.zeros(self.units + 1, dtype=torch.float64)
        # All at once: most of them are short.
        weights = torch.cat(sums).double().numpy()
        total = np.bincount(np.concatenate(where), weights, minlength=self.units + 1)
        return torch.from_numpy(total)

    def _summed(
        self,
        name: str,
        tensors: tuple[Tensor, ...],
        statistic: Statistic,
        cast: Callable[[Tensor], Tensor],
    ) -> list[Tensor]:
        """The statistic summed over all dimensions but one, for each dimension with units; then
        over all but the first and another, for each in `cross`.

        A large tensor is taken in pieces of its first dimension, so that what the statistic gives
        is still in the cache when it is summed one way and the other.
        """
        first = tensors[0]
        if first.dim() == 1:
            return [statistic(*map(cast, tensors)).cpu()]
        shape, own = first.shape, [dim for dim, _ in self.dims[name]]
        rows = len(first)
        if first.device.type == "cpu":
            rows = max(1, _PIECE * rows // max(1, first.numel()))
        down: list[Tensor] = []
        across: Tensor | None = None
        cross = [dim for dim, _ in self.cross.get(name, ())]
        tables: list[list[Tensor]] = [[] for _ in cross]
        for start in range(0, len(first), rows):
            pieces = tensors if rows >= len(first) else [t[start : start + rows] for t in tensors]
            table = statistic(*map(cast, pieces)).reshape(len(pieces[0]), -1)
            if 0 in own:
                down.append(table.sum(1))
            for pieces_of, dim in zip(tables, cross, strict=True):
                cells = table.view(len(table), prod(shape[1:dim]), shape[dim], -1)
                pieces_of.append(cells.sum((1, 3)))
            if any(own):
                column = table.sum(0) if len(table) > 1 else table[0]
                across = column if across is None else across + column
        out = []
        for dim in own:
            if dim == 0:
                vector = down[0] if len(down) == 1 else torch.cat(down)
            else:
                assert across is not None
                cells = across.view(prod(shape[1:dim]), shape[dim], -1)
                vector = cells.sum((0, 2)) if cells.numel() > shape[dim] else cells.flatten()
            out.append(vector.cpu())
        return out + [torch.cat(pieces_of).flatten().cpu() for pieces_of in tables]


# Elements of a large tensor that are looked at together: half a mebibyte of float32.
_PIECE = 1 << 17


class Some(Mapping[str, Tensor]):
    """Some of the tensors, each looked up when it is asked for."""

    def __init__(self, tensors: Mapping[str, Tensor], names: Iterable[str]) -> None:
        self.tensors, self.names = tensors, dict.fromkeys(names)

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.names:
            raise KeyError(name)
        return self.tensors[name]

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def _tuple(value: Any) -> tuple[Tensor, ...]:
    return value if isinstance(value, tuple) else (value,)


def _form(axis: Axis) -> Any:
    """Equal for axes that are put together alike, of the same dims."""
    parts = getattr(axis, "parts", None)
    if parts is None:
        return axis.size if isinstance(axis, Fixed) else axis
    return type(axis), tuple(_form(part) for part in parts)


def _prunable_names(model: nn.Module) -> list[str]:
    try:
        return list(prunable(model))
    except PruneError:  # nothing that could be pruned weight by weight; units may well be
        return []


def _itself(tensor: Tensor) -> Tensor:
    return tensor


def _wide(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    if tensor.is_complex():
        tensor = tensor.abs()
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def _call(example: Any) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    if example is None:
        return None
    if isinstance(example, Mapping):
        return (), dict(example)
    if isinstance(example, tuple):
        if len(example) == 2 and isinstance(example[0], tuple) and isinstance(example[1], Mapping):
            return example[0], dict(example[1])
        return example, {}
    return (example,), {}


@contextmanager
def plain_kernels(model: nn.Module) -> Iterator[None]:
    """In here attention and recurrent layers can be differentiated twice, and vectorised."""
    recurrent = any(isinstance(m, nn.RNNBase) for m in model.modules())
    with (
        warnings.catch_warnings(),
        sdpa_kernel(SDPBackend.MATH),
        # cuDNN's recurrent layers have no gradient in eval mode, and no second one at all.
        torch.backends.cudnn.flags(enabled=not recurrent, deterministic=True),
    ):
        # vmap runs recurrent layers one example at a time, and says so: nothing to be done here.
        warnings.filterwarnings("ignore", "There is a performance drop because we have not yet")
        yield


@contextmanager
def _differentiable(
    model: nn.Module, tensors: Mapping[str, Tensor], batch_statistics: bool, seed: int
) -> Iterator[None]:
    """Eval mode, gradients on for every parameter; as before on leaving."""
    training = [(m, m.training) for m in model.modules()]
    frozen = [t for t in tensors.values() if not t.requires_grad and t.is_floating_point()]
    norms = [m for m, _ in training if isinstance(m, _BatchNorm)] if batch_statistics else []
    moved = [(b, b.clone()) for norm in norms for b in norm.buffers(recurse=False)]
    devices = {t.device for t in tensors.values() if t.device.type == "cuda"}
    try:
        for module, _ in training:
            module.training = False
        for norm in norms:
            norm.training = True
        for tensor in frozen:
            tensor.requires_grad_(True)
        with (
            torch.enable_grad(),
            torch.random.fork_rng(devices=list(devices)),
            plain_kernels(model),
        ):
            torch.manual_seed(seed)
            yield
    finally:
        for module, flag in training:
            module.training = flag
        for tensor in frozen:
            tensor.requires_grad_(False)
        with torch.no_grad():
            for buffer, values in moved:
                buffer.copy_(values)
