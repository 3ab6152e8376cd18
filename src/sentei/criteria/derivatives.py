"""First and second derivatives of the loss about a model, as methods need them.

Products with the Hessian come from a second backward pass, its diagonal from products with random
signs, and gradients of single examples from one vectorised pass. Only `hessian_matrix` builds the
matrix, for networks of a few thousand weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, grad, hessian, jacrev, vmap
from torch.utils import _pytree as pytree

from sentei.batches import forward, size
from sentei.criteria.evidence import Evidence
from sentei.graph.errors import PruneError

__all__ = [
    "gauss_newton_diagonal",
    "gradient",
    "hessian_diagonal",
    "hessian_matrix",
    "hessian_times",
    "sample_gradients",
    "second_moment",
]

Vectors = dict[str, Tensor]

# Values that gradients of single examples may take up at a time: 2^26 float32 are 256 MiB.
_AT_ONCE = 2**26


def gradient(
    evidence: Evidence, names: Iterable[str] | None = None, *, batch_statistics: bool = False
) -> Vectors:
    """The gradient of the loss over all of the data, in float64 sums.

    g = sum over batches b of n_b * dL_b/dw / sum of n_b,  n_b examples in batch b

    Args:
        names: of parameters; the prunable weights by default.
        batch_statistics: see `Evidence.differentiable`.
    Returns:
        parameter name -> tensor of its shape and type; zeros for what the loss does not reach.

    >>> net = torch.nn.Linear(2, 1, bias=False)
    >>> data = torch.tensor([[1., 2.], [3., 4.]]), torch.zeros(2)
    >>> gradient(Evidence.of(net, data=data, loss=lambda out, y: out.mean()))["weight"].tolist()
    [[2.0, 3.0]]
    """
    tensors = _chosen(evidence, names)
    total, count = _zeros(tensors), 0
    for batch in evidence.batches():
        with evidence.differentiable(batch_statistics=batch_statistics):
            found = torch.autograd.grad(
                _loss(evidence, batch), list(tensors.values()), allow_unused=True
            )
        _add(total, found, size(batch))
        count += size(batch)
    return {n: (t / count).to(tensors[n].dtype) for n, t in total.items()}


def hessian_times(
    evidence: Evidence, vectors: Mapping[str, Tensor], *, batch_statistics: bool = False
) -> Vectors:
    """H v, with H the Hessian of the loss over all of the data, for the parameters v names.

    One backward pass through a backward pass (Pearlmutter 1994): about twice a gradient's work.

    >>> net = torch.nn.Linear(2, 1, bias=False)
    >>> data = torch.tensor([[1., 0.], [0., 3.]]), torch.zeros(2)
    >>> evidence = Evidence.of(net, data=data, loss=lambda out, y: out.square().mean())
    >>> hessian_times(evidence, {"weight": torch.ones(1, 2)})["weight"].tolist()  # X'X v
    [[1.0, 9.0]]
    """
    tensors = _chosen(evidence, vectors)
    total, count = _zeros(tensors), 0
    for batch in evidence.batches():
        with evidence.differentiable(batch_statistics=batch_statistics):
            loss = _loss(evidence, batch)
            parameters = list(tensors.values())
            first = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)
            along = sum(
                ((g * vectors[n].to(g)).sum() for n, g in zip(tensors, first, strict=True)
                 if g is not None and g.requires_grad),
                torch.zeros(()),
            )  # fmt: skip
            # A loss that is linear in the weights has no second derivative to walk back through.
            found = (
                torch.autograd.grad(along, parameters, allow_unused=True)
                if isinstance(along, Tensor) and along.requires_grad
                else [None] * len(parameters)
            )
        _add(total, found, size(batch))
        count += size(batch)
    return {n: (t / count).to(tensors[n].dtype) for n, t in total.items()}


def hessian_diagonal(evidence: Evidence, probes: int | None = 32) -> Vectors:
    """diag(H) of the prunable weights.

    With `probes`: the mean of v * Hv over random signs v (Hutchinson 1990), unbiased, exact where
    H is diagonal. Without (None): one product for each weight, exact, for small networks only.
    Values may be negative.
    """
    tensors = dict(evidence.weights)
    if probes is None:
        out = _zeros(tensors)
        for name, tensor in tensors.items():
            for place in range(tensor.numel()):
                unit = {n: torch.zeros_like(t) for n, t in tensors.items()}
                unit[name].view(-1)[place] = 1.0
                product = hessian_times(evidence, unit)[name]
                out[name].view(-1)[place] = product.reshape(-1)[place]
        return out
    if probes < 1:
        raise PruneError(f"probes: how many random directions, at least 1; got {probes}")
    generator = evidence.generator("hutchinson")
    total = _zeros(tensors)
    for _ in range(probes):
        signs = {
            n: (torch.randint(0, 2, t.shape, generator=generator) * 2 - 1).to(t)
            for n, t in tensors.items()
        }
        for name, product in hessian_times(evidence, signs).items():
            total[name] += (signs[name] * product).double() / probes
    return total


def hessian_matrix(evidence: Evidence, names: Iterable[str], *, at_once: int = 64) -> Tensor:
    """H of the loss over all of the data in the parameters named, laid end to end: (n, n) float64.

    Args:
        at_once: rows that one backward pass takes together.

    >>> net = torch.nn.Linear(2, 1, bias=False)
    >>> data = torch.tensor([[1., 0.], [1., 3.]]), torch.zeros(2)
    >>> evidence = Evidence.of(net, data=data, loss=lambda out, y: out.square().mean())
    >>> hessian_matrix(evidence, ["weight"]).tolist()  # 2/n X'X
    [[2.0, 3.0], [3.0, 9.0]]
    """
    tensors = _chosen(evidence, names)
    parameters = list(tensors.values())
    n = sum(t.numel() for t in parameters)
    total = torch.zeros(n, n, dtype=torch.float64, device=parameters[0].device)
    count = 0
    for batch in evidence.batches():
        with evidence.differentiable():
            first = torch.autograd.grad(
                _loss(evidence, batch), parameters, create_graph=True, materialize_grads=True
            )
            flat = torch.cat([g.flatten() for g in first])
            if flat.requires_grad:
                for start in range(0, n, at_once):
                    stop = min(start + at_once, n)
                    pick = torch.zeros(stop - start, n, dtype=flat.dtype, device=flat.device)
                    pick[torch.arange(stop - start), torch.arange(start, stop)] = 1.0
                    rows = torch.autograd.grad(
                        flat, parameters, pick, retain_graph=True, is_grads_batched=True,
                        allow_unused=True,
                    )  # fmt: skip
                    at = 0
                    for row, parameter in zip(rows, parameters, strict=True):
                        upto = at + parameter.numel()
                        if row is not None:  # what the gradients do not depend on adds nothing
                            total[start:stop, at:upto] += size(batch) * row.flatten(1).double()
                        at = upto
        count += size(batch)
    total /= count
    return (total + total.T) / 2


def sample_gradients(evidence: Evidence, names: Iterable[str] | None = None) -> Iterator[Vectors]:
    """Gradients of single examples, some examples at a time: name -> (examples, *shape).

    In eval mode. One vectorised pass (`torch.func.vmap`) for many examples; where the model's code
    cannot be vectorised, one backward pass each. A batch whose inputs belong together (a graph) is
    run whole, and each of its predictions is an example, except those with target -100, which
    PyTorch's losses leave out.

    Raises:
        PruneError: a batch cannot be taken apart, and its predictions not either.
    """
    tensors = _chosen(evidence, names)
    at_once = max(1, _AT_ONCE // max(1, sum(t.numel() for t in tensors.values())))
    vectorise = True
    for batch in evidence.batches():
        if not _separable(batch):
            yield from _by_prediction(evidence, tensors, batch, at_once)
            continue
        for part in _parts(batch, at_once):
            if vectorise:
                try:
                    yield _vectorised(evidence, tensors, part)
                    continue
                except (RuntimeError, NotImplementedError, ValueError):
                    vectorise = False  # data-dependent code, in-place writes, no batching rule
            yield _one_by_one(evidence, tensors, part)


def second_moment(evidence: Evidence, names: Iterable[str] | None = None) -> Vectors:
    """The diagonal of the empirical Fisher: mean over single examples n of g_n², float64.

    Not (mean g)², which shrinks to nothing where the loss is lowest.
    """
    total, count = _zeros(_chosen(evidence, names)), 0
    for grads in sample_gradients(evidence, names):
        for name, values in grads.items():
            total[name] += values.double().square().sum(0)
        count += len(next(iter(grads.values())))
    return {n: t / count for n, t in total.items()}


def gauss_newton_diagonal(evidence: Evidence) -> Vectors:
    """diag of the Gauss-Newton matrix: mean over examples of J' H_L J, never negative (float64).

    J is the Jacobian of an example's outputs, H_L the Hessian of its loss in its outputs. This is
    the Hessian without the second derivatives of the network, and equals it in a linear network.

    Raises:
        PruneError: the outputs are no single tensor, or the loss is not a function of them.
    """
    if evidence.loss is None:
        raise PruneError("the Gauss-Newton diagonal needs loss=, a function of (outputs, targets)")
    tensors = dict(evidence.weights)
    loss = evidence.loss
    total, count = _zeros(tensors), 0

    def outputs(values: Vectors, example: Any) -> Tensor:
        given = _call(evidence, values, example)
        if not isinstance(given, Tensor):
            raise PruneError(
                f"the Gauss-Newton diagonal needs a model that gives one tensor; "
                f"got {type(given).__name__}"
            )
        return given

    for batch in evidence.batches():
        for example in _parts(batch, 1):
            detached = {n: t.detach() for n, t in tensors.items()}
            with evidence.differentiable():
                out = outputs(detached, example).detach()
                rows = jacrev(lambda v, e=example: outputs(v, e).flatten())(detached)
                target = example if isinstance(example, Mapping) else example[1]
                curvature = hessian(lambda o, y=target: loss(o, y))(out)
            curve = curvature.reshape(out.numel(), out.numel()).double()
            for name, jacobian in rows.items():
                flat = jacobian.reshape(out.numel(), -1).double()
                total[name] += (flat * (curve @ flat)).sum(0).view(tensors[name].shape)
            count += 1
    return {n: t / count for n, t in total.items()}


# -- inside ---------------------------------------------------------------------------------------
def _chosen(evidence: Evidence, names: Iterable[str] | None) -> dict[str, Tensor]:
    if names is None:
        return dict(evidence.weights)
    return {n: evidence.tensors[n] for n in names}


def _zeros(tensors: Mapping[str, Tensor]) -> Vectors:
    return {n: torch.zeros_like(t, dtype=torch.float64) for n, t in tensors.items()}


def _add(total: Vectors, found: Iterable[Tensor | None], count: int) -> None:
    for sums, value in zip(total.values(), found, strict=True):
        if value is not None:
            value = value.detach()
            sums += count * (value.to_dense() if value.is_sparse else value).double()


def _loss(evidence: Evidence, batch: Any) -> Tensor:
    try:
        return evidence.loss_of(batch)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise PruneError(
            "batch-norm needs more than one example a batch to take its statistics from: "
            "give larger batches"
        ) from error


def _call(evidence: Evidence, values: Mapping[str, Tensor], batch: Any) -> Any:
    class Called:
        """The model with `values` for weights, callable as `forward` calls it."""

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return functional_call(evidence.model, dict(values), args, kwargs)

    return forward(Called(), batch)  # type: ignore[arg-type]


_TOGETHER = (
    "this criterion looks at single examples, and the batch cannot be taken apart: its tensors "
    "differ in their first dimension"
)


def _separable(batch: Any) -> bool:
    """Whether all tensors have the examples as their first dimension."""
    count = size(batch)
    leaves = [t for t in pytree.tree_leaves(batch) if isinstance(t, Tensor)]
    return all(t.dim() > 0 and len(t) == count for t in leaves)


def _by_prediction(
    evidence: Evidence, tensors: Mapping[str, Tensor], batch: Any, at_once: int
) -> Iterator[Vectors]:
    """Gradients of the loss of each row of the outputs, from one forward pass."""
    if isinstance(batch, Mapping) or evidence.loss is None:
        raise PruneError(_TOGETHER)
    targets = batch[1]
    with evidence.differentiable():
        outputs = forward(evidence.model, batch)
    if (
        not isinstance(outputs, Tensor)
        or not isinstance(targets, Tensor)
        or outputs.dim() < 1
        or targets.dim() < 1
        or len(outputs) != len(targets)
    ):
        raise PruneError(f"{_TOGETHER}, and there is no prediction for each target")
    chosen = list(range(len(targets)))
    if not targets.is_floating_point():
        ignored = targets.reshape(len(targets), -1).eq(-100).all(1)
        chosen = (~ignored).nonzero().flatten().tolist()
    for start in range(0, len(chosen), at_once):
        rows: dict[str, list[Tensor]] = {n: [] for n in tensors}
        # Entered anew for each part: what is set in here must not last while the caller works.
        with evidence.differentiable():
            for i in chosen[start : start + at_once]:
                loss = evidence.loss(outputs[i : i + 1], targets[i : i + 1])
                found = torch.autograd.grad(
                    loss, list(tensors.values()), retain_graph=True, allow_unused=True
                )
                for (name, tensor), value in zip(tensors.items(), found, strict=True):
                    rows[name].append(torch.zeros_like(tensor) if value is None else value)
        yield {n: torch.stack(r) for n, r in rows.items()}


def _parts(batch: Any, at_once: int) -> Iterator[Any]:
    """The batch cut along the first dimension of its tensors."""
    if not _separable(batch):
        raise PruneError(_TOGETHER)
    count = size(batch)
    for start in range(0, count, at_once):
        part = slice(start, start + at_once)
        yield pytree.tree_map(lambda t, p=part: t[p] if isinstance(t, Tensor) else t, batch)


def _vectorised(evidence: Evidence, tensors: Mapping[str, Tensor], batch: Any) -> Vectors:
    detached = {n: t.detach() for n, t in tensors.items()}
    leaves, tree = pytree.tree_flatten(batch)
    moving = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]

    def loss(values: Vectors, *example: Tensor) -> Tensor:
        filled = list(leaves)
        for place, tensor in zip(moving, example, strict=True):
            filled[place] = tensor.unsqueeze(0)
        one = pytree.tree_unflatten(filled, tree)
        outputs = _call(evidence, values, one)
        return _value(evidence, outputs, one)

    with evidence.differentiable():
        each: Callable[..., Vectors] = vmap(
            grad(loss), in_dims=(None, *[0] * len(moving)), randomness="same"
        )
        return {n: g.detach() for n, g in each(detached, *[leaves[i] for i in moving]).items()}


def _value(evidence: Evidence, outputs: Any, batch: Any) -> Tensor:
    if evidence.loss is None:
        loss = getattr(outputs, "loss", None)
        if loss is None:
            raise PruneError("this criterion needs gradients: give loss=")
        return loss.reshape(())
    return evidence.loss(outputs, batch if isinstance(batch, Mapping) else batch[1]).reshape(())


def _one_by_one(evidence: Evidence, tensors: Mapping[str, Tensor], batch: Any) -> Vectors:
    rows: dict[str, list[Tensor]] = {n: [] for n in tensors}
    for example in _parts(batch, 1):
        with evidence.differentiable():
            found = torch.autograd.grad(
                evidence.loss_of(example), list(tensors.values()), allow_unused=True
            )
        for (name, tensor), value in zip(tensors.items(), found, strict=True):
            rows[name].append(torch.zeros_like(tensor) if value is None else value.detach())
    return {n: torch.stack(r) for n, r in rows.items()}
