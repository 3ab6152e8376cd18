from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from rich.progress import track
from torch import Tensor
from torch.func import functional_call

from sentei.allocation.weights import select
from sentei.batches import batches
from sentei.batches import steps as count_steps
from sentei.criteria.evidence import plain_kernels
from sentei.criteria.tangent import contract, jacobian, kernel_by_layers
from sentei.graph.capture import unwrap
from sentei.graph.errors import PruneError
from sentei.methods.base import method
from sentei.methods.setting import Setting
from sentei.structures import Masks

__all__ = ["distances", "ntt"]

_EPOCHS = 20


@method(
    "ntt",
    title="Finding trainable sparse networks through Neural Tangent Transfer",
    authors="Liu, Zenke",
    venue="ICML",
    year=2020,
    arxiv="2006.08228",
    family="gradient",
    structure="weight",
    timing="before",
    starts="initial",
    needs=("data", "training"),
    card="B12",
    lineage=("snip",),
)
def ntt(
    setting: Setting,
    *,
    steps: int | None = None,
    lr: float = 5e-4,
    batch_size: int = 64,
    mask_every: int = 100,
    kernel_weight: float = 1e-3,
    decay: float = 1e-4,
    scope: str = "uniform",
) -> Masks:
    """Before training and without labels, make a sparse network move as the dense one would.

    The dense network at its initial weights is the teacher. A student with masked weights is
    trained by Adam on λ_K |Θ_S - Θ_T|² / numel + |f_S - f_T|² / numel + λ_2 / d · |m θ|², Θ the
    tangent kernel between the two halves of a batch of unlabelled inputs (eq. 7, algorithm 1). Its
    mask is the largest weights, chosen anew every `mask_every` steps but for the last such span.
    Then mask and student's weights are trained on the labels as usual.

    Args:
        kernel_weight, decay: λ_K and λ_2.
        scope: how the mask is spread: "global" or a name in `DENSITIES`.
        steps, lr, batch_size: of the transfer; 20 passes over the data by default. A step of a
            network of linear layers costs about as much as one of training for every output; of
            any other, Jacobians of all its weights are built, so that it has to be a small one.
    Raises:
        PruneError: inputs that are no single tensor, or outputs that are none.
    """
    setting.need_data()
    if steps is None:
        steps = _EPOCHS * (count_steps(setting.data, batch_size) or 100)
    if steps < 1 or mask_every < 1 or batch_size < 2:
        raise PruneError(
            f"ntt wants steps, mask_every of at least 1 and batch_size of at least 2; got "
            f"steps={steps}, mask_every={mask_every}, batch_size={batch_size}"
        )
    model = unwrap(setting.model)
    teacher = {n: p.detach().clone() for n, p in model.named_parameters()}
    student = {n: p.clone().requires_grad_() for n, p in teacher.items()}
    trained = [n for n, p in model.named_parameters() if p.requires_grad]
    if not trained:
        raise PruneError("ntt trains weights, and none of the model's parameters has requires_grad")
    prunable = setting.weights
    masks = select({n: student[n].detach().abs() for n in prunable}, setting.keep, scope)
    optimizer = torch.optim.Adam([student[n] for n in trained], lr=lr)
    inputs = _endless(setting, batch_size)
    training = [(m, m.training) for m in model.modules()]
    model.eval()
    try:
        for step in track(
            range(steps), description="tangent transfer", disable=setting.progress is not True,
            transient=True,
        ):  # fmt: skip
            with plain_kernels(model):
                kernel, outputs = distances(model, student, teacher, masks, next(inputs))
            size = sum((student[n] * m).square().sum() for n, m in masks.items())
            loss = kernel_weight * kernel + outputs + decay / setting.keep * size
            optimizer.zero_grad()
            with plain_kernels(model):
                loss.backward()
            optimizer.step()
            done = step + 1
            if done % mask_every == 0 and done <= steps - mask_every:
                masks = select({n: student[n].detach().abs() for n in prunable}, setting.keep,
                               scope)  # fmt: skip
    finally:
        for module, flag in training:
            module.training = flag
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(student[name])
    masks.apply_(setting.model)
    setting.train(masks=masks)
    return masks


def distances(
    model: Any, student: dict[str, Tensor], teacher: dict[str, Tensor], masks: Masks, x: Tensor
) -> tuple[Tensor, Tensor]:
    """(|Θ_S - Θ_T|² / numel, |f_S - f_T|² / numel) on a batch whose halves meet in the kernel.

    The student's parameters are masked, in its outputs and, by the chain rule, in its Jacobian.
    """

    def network(parameters: dict[str, Tensor], batch: Tensor) -> Tensor:
        out = functional_call(model, parameters, (batch,))
        if not isinstance(out, Tensor):
            raise PruneError(f"ntt needs a model that gives one tensor; got {type(out).__name__}")
        return out

    def masked(parameters: dict[str, Tensor], batch: Tensor) -> Tensor:
        return network(
            {n: p * masks[n].to(p) if n in masks else p for n, p in parameters.items()}, batch
        )

    def kernel(parameters: dict[str, Tensor], by_mask: Masks | None) -> Tensor:
        now = {n: p * by_mask[n].to(p) if by_mask and n in by_mask else p
               for n, p in parameters.items()}  # fmt: skip
        found = kernel_by_layers(model, now, one, two, by_mask)
        if found is None:
            function = masked if by_mask is not None else network
            found = contract(
                jacobian(function, parameters, one), jacobian(function, parameters, two)
            )
        return found

    half = len(x) // 2
    one, two = x[:half], x[half : 2 * half]
    want, got = kernel(teacher, None).detach(), kernel(student, masks)
    outputs = (masked(student, x) - network(teacher, x).detach()).square().mean()
    return (got - want).square().mean(), outputs


def _endless(setting: Setting, batch_size: int) -> Iterator[Tensor]:
    """Batches of inputs, shuffled anew in every pass by the setting's seed."""
    order = torch.Generator().manual_seed(setting.seed)
    device = next(iter(setting.weights.values())).device
    while True:
        seen = 0
        for batch in batches(setting.data, batch_size, order):
            x = None if isinstance(batch, Mapping) else batch[0]
            if not isinstance(x, Tensor):
                raise PruneError("ntt needs inputs that are one tensor a batch")
            if len(x) > 1:  # the kernel is between two halves
                seen += 1
                yield x.to(device)
        if not seen:
            raise PruneError("ntt needs batches of at least two inputs that can be walked again")
