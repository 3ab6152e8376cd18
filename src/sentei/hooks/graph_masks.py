"""Masks of weights and of edges that are trained together with the weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sentei.graph.capture import unwrap
from sentei.hooks.base import Hook
from sentei.structures.edges import pairs_of
from sentei.structures.masks import Masks

__all__ = ["GraphMasks"]


class GraphMasks(Hook):
    """Real-valued masks on weights and edges, and an L1 penalty on both.

    The network computes f({m_g ⊙ b_g ⊙ A, X}, m ⊙ b ⊙ θ).

    m starts at 1 with noise of 1e-5 that breaks ties. Masks have an Adam of their own at the
    loop's learning rate; their gradients get `edge_l1` or `weight_l1` times their signs. There is
    one mask for both directions of an edge; self-loops have none.

    Call `edges_now` from `weighted_edges` around the training. `edge_masks` and `weight_masks` are
    the trained values: of the last step, or with `score` of the best epoch.

    Args:
        masks: b, the weights that are still there.
        edges: the edge list, (2, edges); alive: b_g, (edges,).
        score: called every `every` steps; larger is better.

    Source: Chen et al. 2021, arXiv:2102.06790, section 3.1 and algorithm 1.
    """

    def __init__(
        self,
        masks: Masks,
        edges: Tensor,
        alive: Tensor,
        *,
        edge_l1: float = 1e-2,
        weight_l1: float = 1e-2,
        score: Callable[[], float] | None = None,
        every: int = 1,
        seed: int = 0,
    ) -> None:
        self.masks, self.alive = masks, alive
        self.edge_l1, self.weight_l1 = edge_l1, weight_l1
        self.score, self.every, self.best = score, every, float("-inf")
        self.pairs = pairs_of(edges)
        noise = torch.Generator().manual_seed(seed)

        def ones(shape: Any, device: torch.device) -> Tensor:
            return (1 + 1e-5 * torch.randn(shape, generator=noise)).to(device)

        self.loose = ones(int(self.pairs.max()) + 1 if len(self.pairs) else 0, edges.device)
        self.loose.requires_grad_()
        self.soft = {n: ones(m.shape, m.device) for n, m in masks.items()}
        self.edge_masks, self.weight_masks = self.loose.detach(), dict(self.soft)

    def edges_now(self) -> tuple[Tensor, Tensor]:
        """Which edges there are, and the weight of each; 1 for self-loops."""
        weight = self.loose[self.pairs.clamp(min=0)] if len(self.loose) else self.pairs.float()
        return self.alive, torch.where(self.pairs < 0, torch.ones_like(weight), weight)

    def start(self, model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
        super().start(model, optimizer, steps)
        parameters = dict(unwrap(model).named_parameters(remove_duplicate=False))
        self.weights = {n: parameters[n] for n in self.masks}
        self.dense = {n: w.detach().clone() for n, w in self.weights.items()}
        self.own = torch.optim.Adam([self.loose, *self.soft.values()])
        self._show()

    @torch.no_grad()
    def before_step(self) -> bool:
        for name, weight in self.weights.items():
            soft, alive = self.soft[name], self.masks[name]
            weight.copy_(self.dense[name])
            if weight.grad is None:
                continue
            soft.grad = weight.grad * weight * alive + self.weight_l1 * soft.sign()
            weight.grad.mul_(soft * alive)
        if self.loose.grad is not None:
            self.loose.grad.add_(self.loose.sign(), alpha=self.edge_l1)
        for group in self.own.param_groups:
            group["lr"] = self.optimizer.param_groups[0]["lr"]
        self.own.step()
        self.loose.grad = None
        return True

    @torch.no_grad()
    def after_step(self) -> None:
        super().after_step()
        for name, weight in self.weights.items():
            self.dense[name].copy_(weight)
        self._show()
        if self.score is None:
            self._keep()
        elif self.step % self.every == 0:
            found = self.score()
            if found > self.best:
                self.best = found
                self._keep()

    def _show(self) -> None:
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(self.dense[name] * self.soft[name] * self.masks[name])

    def _keep(self) -> None:
        self.edge_masks = self.loose.detach().clone()
        self.weight_masks = {n: m.clone() for n, m in self.soft.items()}

    def state_dict(self) -> dict[str, Any]:
        return {
            **super().state_dict(),
            "loose": self.loose.detach(),
            "soft": self.soft,
            "dense": self.dense,
            "own": self.own.state_dict()["state"],
            "best": self.best,
            "edge_masks": self.edge_masks,
            "weight_masks": self.weight_masks,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        with torch.no_grad():
            self.loose.copy_(state["loose"])
            for name, soft in self.soft.items():
                soft.copy_(state["soft"][name])
                self.dense[name].copy_(state["dense"][name])
        groups = self.own.state_dict()["param_groups"]
        self.own.load_state_dict({"state": state["own"], "param_groups": groups})
        self.best = float(state["best"])
        self.edge_masks, self.weight_masks = state["edge_masks"], dict(state["weight_masks"])
        self._show()
