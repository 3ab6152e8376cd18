from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from sentei.criteria.derivatives import hessian_matrix, sample_gradients
from sentei.criteria.evidence import Evidence
from sentei.graph.capture import unwrap
from sentei.graph.errors import PruneError, closest
from sentei.methods.base import method
from sentei.methods.setting import Setting
from sentei.recovery.surgeon import remove_cheapest
from sentei.structures import Masks

__all__ = ["obs"]

CURVATURES = ("hessian", "fisher")


@method(
    "obs",
    title="Second order derivatives for network pruning: Optimal Brain Surgeon",
    authors="Hassibi, Stork",
    venue="NIPS",
    year=1992,
    family="gradient",
    structure="weight",
    timing="after",
    starts="trained",
    needs=("data", "labels", "gradients"),
    card="B2",
    lineage=("obd",),
)
def obs(
    setting: Setting,
    *,
    curvature: str = "hessian",
    every: int = 0,
    damping: float | None = None,
    limit: int = 5000,
    recover: bool = False,
) -> Masks:
    """Remove weights one by one, each time letting all others make up for it. Small networks only.

    Of all weights that of least θ_q² / (2 [H⁻¹]_qq) goes, θ -= (θ_q / [H⁻¹]_qq) H⁻¹ e_q, and q
    leaves H⁻¹; until the density is reached (eq. 5 and the procedure after it). H is over all
    trainable parameters: biases change with the others and are never removed. No training.

    The paper gets H⁻¹ from outer products of output gradients, one by one (a positive
    approximation); here H itself is built, or the empirical Fisher, in float64.

    Args:
        curvature: "hessian" or "fisher" (mean of outer products of single examples' gradients).
        every: so many removals later the matrix is computed anew; 0 for never.
        damping: λ added to the diagonal. By default max(1e-4, -2 · lowest eigenvalue) for the
            Hessian, since negative ones of a network not quite at a minimum would turn the order
            upside down, and 1e-2 of the mean diagonal for the Fisher.
        limit: most parameters to do this for; memory is that many squared, time cubed.
        recover: train on afterwards, which the paper does not.
    Raises:
        PruneError: more parameters than `limit`, or no such curvature.
    """
    if curvature not in CURVATURES:
        raise PruneError(f"unknown curvature {curvature!r}; {closest(curvature, CURVATURES)}")
    model = unwrap(setting.model)
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    trained = {**trained, **{n: p for n, p in setting.weights.items() if n not in trained}}
    size = sum(p.numel() for p in trained.values())
    if size > limit:
        raise PruneError(
            f"obs builds a matrix of {size:,} x {size:,}; its limit is {limit:,} parameters. Use "
            f"'obc' (layer by layer) or 'woodfisher' (block by block), or raise limit="
        )
    removable = torch.cat(
        [torch.full((p.numel(),), n in setting.weights) for n, p in trained.items()]
    )
    drop = int(removable.sum()) - round(setting.keep * int(removable.sum()))
    with _double(setting) as evidence:
        theta = torch.cat([p.detach().flatten() for p in trained.values()]).cpu()
        gone = torch.zeros(size, dtype=torch.bool)
        stride = every or max(drop, 1)
        for begin in range(0, drop, stride):
            _write(trained, theta)
            ids = (~gone).nonzero().flatten()
            matrix = _matrix(evidence, trained, curvature)[ids][:, ids]
            theta[ids], gone[ids] = remove_cheapest(
                theta[ids],
                _inverse(matrix, damping, curvature),
                removable[ids],
                min(stride, drop - begin),
            )
        _write(trained, theta)
    parts = dict(zip(trained, (~gone).split([p.numel() for p in trained.values()]), strict=True))
    masks = Masks({n: parts[n].view(w.shape).to(w.device) for n, w in setting.weights.items()})
    masks.apply_(setting.model)
    if recover:
        setting.recover(masks)
    return masks


def _matrix(evidence: Evidence, trained: dict[str, Any], curvature: str) -> Tensor:
    if curvature == "hessian":
        return hessian_matrix(evidence, trained).cpu()
    total, count = torch.zeros(()), 0
    for grads in sample_gradients(evidence, trained):
        rows = torch.cat([grads[n].flatten(1) for n in trained], dim=1).double().cpu()
        total = total + rows.T @ rows
        count += len(rows)
    return total / count


def _inverse(matrix: Tensor, damping: float | None, curvature: str) -> Tensor:
    if not matrix.isfinite().all():
        raise PruneError(f"the {curvature} holds NaN or infinity: look at the data and the loss")
    if damping is None and curvature == "hessian":
        damping = max(1e-4, -2 * float(torch.linalg.eigvalsh(matrix)[0]))
    elif damping is None:
        damping = 1e-2 * float(matrix.diagonal().mean())
    matrix.diagonal().add_(damping)
    lower, trouble = torch.linalg.cholesky_ex(matrix)
    if trouble:
        raise PruneError(
            f"the {curvature} has no inverse with damping {damping:g} on its diagonal; raise it"
        )
    return torch.cholesky_inverse(lower)


def _write(trained: dict[str, Any], theta: Tensor) -> None:
    with torch.no_grad():
        parts = theta.split([p.numel() for p in trained.values()])
        for p, values in zip(trained.values(), parts, strict=True):
            p.copy_(values.view(p.shape))


@contextmanager
def _double(setting: Setting) -> Iterator[Evidence]:
    """The evidence with model and inputs in float64; the model's own type on leaving."""
    model = unwrap(setting.model)
    # In place: `model.double()` makes new buffers, and the old ones would be given back in vain.
    types = {t: t.dtype for t in [*model.parameters(), *model.buffers()] if t.is_floating_point()}

    def wide(leaf: Any) -> Any:
        return leaf.double() if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf

    data = [pytree.tree_map(wide, b) for b in setting.examples(setting.calibration)]
    try:
        for tensor in types:
            tensor.data = tensor.data.double()
        yield setting.evidence(data)
    finally:
        for tensor, dtype in types.items():
            tensor.data = tensor.data.to(dtype)
