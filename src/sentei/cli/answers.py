"""What a model answers: how two of them are compared."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from sentei.batches import home_of, to_device

__all__ = ["answers"]


def answers(model: nn.Module, inputs: Any) -> list[Tensor]:
    """The tensors a model answers to `[args, kwargs]`, in order, on the CPU."""
    device = home_of(model)
    args, kwargs = to_device(list(inputs), device)
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(0)
        return [t.cpu().clone() for t in _leaves(model.eval()(*args, **kwargs))]


def _leaves(tree: Any) -> list[Tensor]:
    if hasattr(tree, "to_tuple"):  # Hugging Face outputs
        tree = tree.to_tuple()
    return [t for t in _pytree.tree_leaves(tree) if isinstance(t, Tensor)]
