"""Learn from the unpruned network as well as from the labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sentei.graph.capture import unwrap
from sentei.graph.errors import PruneError
from sentei.hooks.base import Hook

__all__ = ["Distill"]


class Distill(Hook):
    """Knowledge distillation: the teacher's logits, and features where asked.

    penalty = weight · T² · KL(softmax(teacher / T) || softmax(student / T))
              + feature_weight · mean over layers of ||student - teacher||² / ||teacher||²

    The teacher sees each batch that the student sees, in eval mode and without gradients. KL is
    summed over classes (dimension 1 of `(N, classes, ...)`, or the last of a Hugging Face output's
    `.logits`) and averaged over the rest. With several processes both terms are those of the whole
    batch.

    Args:
        teacher: the network before pruning.
        weight, temperature: of the logits' term; weight 0 leaves it out.
        features: names of modules whose outputs are to agree.
        kept: module name -> positions of the teacher's features that the student still has; see
            `result.surgery.kept[f"{module}.weight"][0]`. Not needed where widths are equal.
        feature_weight: of the features' term.
    Source: Hinton et al. 2015, arXiv:1503.02531, sec. 2; features as in Romero et al. 2015,
        arXiv:1412.6550, with selection instead of a regressor.

    >>> student, teacher = nn.Linear(2, 3), nn.Linear(2, 3)
    >>> hook = Distill(teacher, temperature=2.0)
    >>> hook.start(student, torch.optim.SGD(student.parameters(), lr=0.1), steps=1)
    >>> _ = student(torch.ones(1, 2))
    >>> bool(hook.penalty() > 0)
    True
    >>> hook.finish()
    """

    whole = False

    def __init__(
        self,
        teacher: nn.Module,
        *,
        weight: float = 1.0,
        temperature: float = 4.0,
        features: Sequence[str] = (),
        kept: Mapping[str, Tensor] | None = None,
        feature_weight: float = 1.0,
    ) -> None:
        if temperature <= 0:
            raise PruneError(f"temperature must be above 0; got {temperature!r}")
        self.teacher = teacher
        self.weight, self.temperature = weight, temperature
        self.features, self.kept, self.feature_weight = tuple(features), kept or {}, feature_weight
        self._seen: list[tuple[Any, Any, Any]] = []
        self._own: dict[str, Tensor] = {}
        self._theirs: dict[str, Tensor] = {}
        self._handles: list[Any] = []

    def start(self, model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
        super().start(model, optimizer, steps)
        modules, others = (dict(unwrap(m).named_modules()) for m in (model, self.teacher))
        for name in self.features:
            if name not in modules or name not in others:
                raise PruneError(f"distil: there is no module {name!r} in both networks")
        self._remove()
        self._handles = [
            model.register_forward_hook(
                lambda _m, args, kwargs, out: self._seen.append((args, kwargs, out)),
                with_kwargs=True,
            )
        ]
        for store, known in ((self._own, modules), (self._theirs, others)):
            for name in self.features:
                self._handles.append(
                    known[name].register_forward_hook(
                        lambda _m, _a, out, name=name, store=store: store.update({name: out})
                    )
                )

    def penalty(self) -> Tensor | float:
        seen, self._seen = self._seen, []
        if not seen:
            return 0.0
        total: Tensor | float = 0.0
        for args, kwargs, outputs in seen[-1:]:
            flags = {m: m.training for m in self.teacher.modules()}
            self.teacher.eval()
            try:
                with torch.no_grad():
                    taught = self.teacher(*args, **kwargs)
            finally:
                for module, flag in flags.items():
                    module.training = flag
            if self.weight:
                total = total + self.batch_share * self.weight * self._divergence(outputs, taught)
            for name in self.features:
                gap = self._gap(name, self._own[name], self._theirs[name])
                total = total + self.feature_weight / len(self.features) * gap
        return total

    def finish(self) -> None:
        self._remove()

    def _remove(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._seen.clear()

    def _divergence(self, outputs: Any, taught: Any) -> Tensor:
        student, teacher = _logits(outputs), _logits(taught)
        if student.shape != teacher.shape:
            raise PruneError(
                f"distil: outputs of the two networks differ in shape: {tuple(student.shape)} and "
                f"{tuple(teacher.shape)}"
            )
        t = self.temperature
        log_p = F.log_softmax(student.float() / t, dim=-1)
        log_q = F.log_softmax(teacher.float() / t, dim=-1)
        return t * t * F.kl_div(log_p, log_q, reduction="none", log_target=True).sum(-1).mean()

    def _gap(self, name: str, own: Tensor, theirs: Tensor) -> Tensor:
        kept = self.kept.get(name)
        if own.shape != theirs.shape:
            dim = next((d for d in range(own.dim()) if own.shape[d] != theirs.shape[d]), 0)
            if kept is None or len(kept) != own.shape[dim]:
                raise PruneError(
                    f"distil: features of {name!r} have shapes {tuple(own.shape)} and "
                    f"{tuple(theirs.shape)}; say which are left, kept={{{name!r}: positions}}"
                )
            theirs = theirs.index_select(dim, kept.to(theirs.device))
        # Each process has the squares of its own rows; what they are measured by is the batch's.
        return (own - theirs).square().sum() / max(self.batch_mean(theirs.square().sum()), 1e-12)


def _logits(outputs: Any) -> Tensor:
    """(..., classes): the first tensor of an output, classes moved to the end."""
    found = getattr(outputs, "logits", None)
    if isinstance(found, Tensor):
        return found
    if isinstance(outputs, (tuple, list)) and outputs:
        outputs = outputs[0]
    if not isinstance(outputs, Tensor):
        raise PruneError(f"distil: want logits, a tensor; the model gives {type(outputs).__name__}")
    return outputs.movedim(1, -1) if outputs.dim() > 2 else outputs
