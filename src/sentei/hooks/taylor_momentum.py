"""First-order scores gathered while training, for the price of the training itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from sentei.criteria.evidence import Evidence
from sentei.graph.capture import unwrap
from sentei.graph.errors import PruneError, closest
from sentei.graph.groups import Group, Groups
from sentei.hooks.base import Hook
from sentei.structures.weights import prunable

__all__ = ["FORMS", "TaylorMomentum"]

FORMS = ("abs", "sq", "joint")


class TaylorMomentum(Hook):
    """A running mean of w · dL/dw over the batches of a training, as a score of weights or units.

    I ← β I + (1 - β) s,   score = I / (1 - βᵗ)

    "abs":   s = |w g| of each weight;   "sq":   s = (w g)² of each weight;
    "joint": s = (sum over unit u of w g)² of each unit, over all that leaves with it.

    w and g are the batch's own: what the forward pass saw and its gradient, so the absolute value
    and the square are inside the mean. Nothing is run for it beside the training.

    The hook is a criterion as well: `sentei.prune(model, x, criterion=hook)` takes the units that
    scored lowest so far ("abs" and "sq" are summed over everything that goes with a unit). Once
    units are gone, go on with a new hook: scores are of the parameters as they were.

    Args:
        form: one of `FORMS`. names: of the weights to score; the prunable ones by default.
        groups: of the model as it is, for "joint"; see `sentei.analyze`.
        momentum: β in [0, 1).
    Source: Molchanov et al. 2019, arXiv:1906.10771, section 3 and its code (momentum 0.9, pruning
        every 10 to 30 batches).

    >>> model = nn.Linear(1, 1, bias=False)
    >>> _ = model.weight.data.fill_(2.0)
    >>> hook = TaylorMomentum(momentum=0.5)
    >>> hook.start(model, torch.optim.SGD(model.parameters(), lr=0.0), steps=2)
    >>> for slope in (1.0, -3.0):
    ...     model.weight.grad = torch.tensor([[slope]])
    ...     _ = hook.before_step(); hook.after_step()
    >>> round(hook.scores["weight"].item(), 4)  # (2·1/4 + 6·1/2) / (1 - 1/4)
    4.6667
    """

    needs = ()  # as a criterion it brings what it has seen

    def __init__(
        self,
        form: str = "abs",
        *,
        names: Iterable[str] | None = None,
        groups: Groups | None = None,
        momentum: float = 0.9,
    ) -> None:
        if form not in FORMS:
            raise PruneError(f"unknown form {form!r}; {closest(form, FORMS)}")
        if not 0 <= momentum < 1:
            raise PruneError(f"momentum is the share of the past that stays, in [0, 1); got "
                             f"{momentum!r}")  # fmt: skip
        if (groups is not None) != (form == "joint"):
            raise PruneError(
                "form 'joint' scores whole units: give groups=sentei.analyze(model, x)"
                if groups is None
                else f"form {form!r} scores single weights and takes no groups"
            )
        self.form, self.groups, self.momentum = form, groups, momentum
        self.names = None if names is None else list(names)
        self.running: dict[str, Tensor] = {}
        self.seen = 0

    @property
    def scores(self) -> dict[str, Tensor]:
        """Parameter name -> scores of its shape; for "joint" group name -> (units,). float64.

        Raises:
            PruneError: no step was taken yet.
        """
        if not self.seen:
            raise PruneError("no batch has been seen yet: train some steps with this hook first")
        share = 1 - self.momentum**self.seen
        return {n: r / share for n, r in self.running.items()}

    def __call__(self, group: Group, evidence: Evidence) -> Tensor:
        """The scores of a group's units, (units,): what a criterion gives."""
        scores = self.scores
        if self.form != "joint":
            missing = [n for n, s in scores.items() if s.shape != evidence.tensors[n].shape]
            if missing:
                raise PruneError(f"{missing[0]}: {_CHANGED}")
            return evidence.by_unit(group, evidence.once("taylor-momentum", lambda: scores))
        rows = group.dim.outer.size if group.dim.outer is not None else 1
        if group.name not in scores or len(scores[group.name]) != rows * group.size:
            raise PruneError(f"group {group.name!r}: {_CHANGED}")
        return scores[group.name]

    def start(self, model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
        super().start(model, optimizer, steps)
        root = unwrap(model)
        if self.form == "joint":
            self.about = Evidence.of(root, self.groups)
            self.parameters = dict(self.about.tensors)
        else:
            known = dict(root.named_parameters(remove_duplicate=False))
            names = list(prunable(root)) if self.names is None else self.names
            self.parameters = {n: known[n] for n in names}
        self.shapes = {n: p.shape for n, p in self.parameters.items()}
        self.running, self.seen = {}, 0

    @torch.no_grad()
    def before_step(self) -> bool:
        changed = [n for n, p in self.parameters.items() if p.shape != self.shapes[n]]
        if changed:
            raise PruneError(f"{changed[0]}: {_CHANGED}")
        products = {
            n: (p.detach() * p.grad).double()
            for n, p in self.parameters.items()
            if p.grad is not None
        }
        if self.form == "joint":
            batch = {n: s.square() for n, s in self.about.sums_by_unit(products).items()}
        else:
            shape = Tensor.abs if self.form == "abs" else Tensor.square
            batch = {
                n: shape(products[n])
                if n in products
                else torch.zeros(p.shape, dtype=torch.float64, device=p.device)
                for n, p in self.parameters.items()
            }
        for name, value in batch.items():
            past = self.running.get(name)
            new = (1 - self.momentum) * value
            self.running[name] = new if past is None else past.mul_(self.momentum).add_(new)
        self.seen += 1
        return True

    def state_dict(self) -> dict[str, Any]:
        running = {n: r.clone() for n, r in self.running.items()}
        return {**super().state_dict(), "running": running, "seen": self.seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.running = {n: r.clone() for n, r in state["running"].items()}
        self.seen = int(state["seen"])


_CHANGED = (
    "units were removed since the scores were gathered; make a new hook (for form 'joint' with "
    "the groups of the model as it is now) and train some steps with it"
)
