"""Where a training runs: here, or wherever `accelerate` says."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from sentei.batches import Batch, Loss, loss_of, size, to_device
from sentei.graph.errors import PruneError

__all__ = ["Place", "placed"]


class Place(Protocol):
    """cuda: devices whose random state is used; main: does this process write files?"""

    cuda: list[torch.device]
    main: bool

    def prepare(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer: ...

    def loss(self, batch: Batch, loss: Loss | None) -> Tensor: ...

    def backward(self, loss: Tensor) -> None: ...


def placed(model: nn.Module, accelerator: Any, hooked: bool) -> Place:
    """The place for a training; `accelerator` is an `accelerate.Accelerator` or None.

    Raises:
        PruneError: hooks with parameters that are spread over processes (FSDP).
    """
    return Here(model) if accelerator is None else Elsewhere(model, accelerator, hooked)


class Here:
    """One process; batches move to where the parameters are."""

    main = True

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.device = next(model.parameters()).device
        self.cuda = [self.device] if self.device.type == "cuda" else []

    def prepare(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        return optimizer

    def loss(self, batch: Batch, loss: Loss | None) -> Tensor:
        return loss_of(self.model, to_device(batch, self.device), loss)

    def backward(self, loss: Tensor) -> None:
        loss.backward()


class Elsewhere:
    """What `accelerate` says: a device, mixed precision, one of several processes.

    Every process walks through the same batches in the same order and takes its rows of each.
    Losses are weighted by the rows a process has, so that averaged gradients are the gradients of
    the whole batch.
    """

    def __init__(self, model: nn.Module, accelerator: Any, hooked: bool) -> None:
        from accelerate.utils import DistributedType

        self.accelerator = accelerator
        self.inner = model
        if accelerator.distributed_type == DistributedType.FSDP and hooked:
            raise PruneError(
                "hooks and masks see whole parameters, and FSDP spreads them over processes: "
                "train without hooks, or with DDP"
            )
        self.main = accelerator.is_main_process
        self.rank, self.world = accelerator.process_index, accelerator.num_processes
        self.cuda = [accelerator.device] if accelerator.device.type == "cuda" else []
        self.model = model

    def prepare(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        self.model, prepared = self.accelerator.prepare(self.inner, optimizer)
        return prepared

    def loss(self, batch: Batch, loss: Loss | None) -> Tensor:
        mine = self._rows(batch, size(batch))
        with self.accelerator.autocast():
            value = loss_of(self.model, to_device(mine, self.accelerator.device), loss)
        if self.world > 1:
            value = value * (size(mine) * self.world / size(batch))
        return value

    def backward(self, loss: Tensor) -> None:
        self.accelerator.backward(loss)

    def _rows(self, batch: Batch, count: int) -> Batch:
        """This process's part of every tensor with one row an example."""
        if self.world == 1:
            return batch
        if count < self.world:
            raise PruneError(
                f"a batch of {count} examples cannot be shared by {self.world} processes"
            )
        part = torch.arange(count).tensor_split(self.world)[self.rank]
        first, past = int(part[0]), int(part[-1]) + 1

        def cut(value: Any) -> Any:
            if isinstance(value, Tensor):
                return value[first:past] if value.dim() and len(value) == count else value
            if isinstance(value, dict):
                return {k: cut(v) for k, v in value.items()}
            return type(value)(map(cut, value)) if isinstance(value, (tuple, list)) else value

        return cut(batch)
