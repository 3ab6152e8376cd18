"""Where a training runs: here, or wherever `accelerate` says, whole or spread over processes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from sentei.batches import Batch, Loss, loss_of, size, to_device
from sentei.graph.errors import PruneError

__all__ = ["Place", "placed"]

Make = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


class Place(Protocol):
    """One training's devices and processes.

    cuda: devices whose random state is used. main: does this process write files?
    module: the network that is trained and that hooks see.
    share: rows of this process's part of the last batch, over those of an even part.
    """

    cuda: list[torch.device]
    main: bool
    module: nn.Module
    share: float

    def prepare(self, make: Make) -> torch.optim.Optimizer:
        """The optimiser of everything in `module` that is trained."""

    def loss(self, batch: Batch, loss: Loss | None) -> Tensor:
        """Of this process's rows, weighted so that the processes' mean is that of the batch."""

    def mean(self, value: Tensor) -> float:
        """A number's mean over the processes: the same in each."""

    def lead(self, value: bool) -> bool:
        """What the main process says."""

    def backward(self, loss: Tensor) -> None: ...

    def skip(self) -> None:
        """The gradients are there, and the optimiser makes no step."""

    def collect(self) -> None:
        """All processes have got here: the model holds the result in each of them, alike."""

    def release(self) -> None:
        """The model is as it was before `prepare`, but for its values."""

    def state(self) -> dict[str, Any]:
        """Weights and optimiser, whole, for a checkpoint; every process asks."""

    def load(self, state: Mapping[str, Any]) -> None: ...

    def noise(self) -> list[Any]:
        """The random states of every process; every process asks."""

    def set_noise(self, states: list[Any]) -> None: ...


def placed(
    model: nn.Module, accelerator: Any = None, *, sharded: bool = False, whole: bool = False
) -> Place:
    """The place for a training; `accelerator` is an `accelerate.Accelerator` or None.

    Args:
        sharded: spread parameters over the processes (FSDP); so does an accelerator set up for it.
        whole: there are hooks that look at whole parameters.
    Raises:
        PruneError: such hooks, or 16-bit floats with a scaled loss, together with spreading.
    """
    if accelerator is None:
        return Here(model)
    from accelerate.utils import DistributedType

    fsdp = accelerator.distributed_type == DistributedType.FSDP
    if not (fsdp or (sharded and accelerator.num_processes > 1)):
        return Elsewhere(model, accelerator)
    if whole:
        raise PruneError(
            "hooks and masks see whole parameters, and FSDP spreads them over processes: "
            "train without hooks, or with DDP"
        )
    if accelerator.mixed_precision == "fp16":
        raise PruneError("FSDP goes with bf16 or full precision here, not with fp16")
    return Sharded(model, accelerator)


class Here:
    """One process; batches move to where the parameters are."""

    main, share = True, 1.0
    optimizer: Any

    def __init__(self, model: nn.Module) -> None:
        self.module = model
        self.device = next(model.parameters()).device
        self.cuda = [self.device] if self.device.type == "cuda" else []

    def prepare(self, make: Make) -> torch.optim.Optimizer:
        self.optimizer = make(_trained(self.module))
        return self.optimizer

    def loss(self, batch: Batch, loss: Loss | None) -> Tensor:
        return loss_of(self.module, to_device(batch, self.device), loss)

    def mean(self, value: Tensor) -> float:
        return value.item()

    def lead(self, value: bool) -> bool:
        return value

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def skip(self) -> None: ...

    def collect(self) -> None: ...

    def release(self) -> None: ...

    def state(self) -> dict[str, Any]:
        return {
            "model": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict()["state"],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        self.module.load_state_dict(state["model"])
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state["optimizer"], "param_groups": groups})

    def noise(self) -> list[Any]:
        return [_noise(self.cuda)]

    def set_noise(self, states: list[Any]) -> None:
        _set_noise(self.cuda, states[0])


class Elsewhere(Here):
    """What `accelerate` says: a device, mixed precision, one of several processes (DDP).

    Every process walks through the same batches in the same order and takes its rows of each.
    Losses are weighted by the rows a process has, so that averaged gradients are the gradients of
    the whole batch.
    """

    def __init__(self, model: nn.Module, accelerator: Any) -> None:
        self.accelerator = accelerator
        self.module = self.model = model
        self.device = accelerator.device
        self.main = accelerator.is_main_process
        self.rank, self.world = accelerator.process_index, accelerator.num_processes
        self.cuda = [self.device] if self.device.type == "cuda" else []
        self.forward = vars(model).get("forward")

    def prepare(self, make: Make) -> torch.optim.Optimizer:
        optimizer = make(_trained(self.module))
        self.model, self.optimizer = self.accelerator.prepare(self.module, optimizer)
        return self.optimizer

    def loss(self, batch: Batch, loss: Loss | None) -> Tensor:
        mine = self._rows(batch, size(batch))
        with self.accelerator.autocast():
            value = loss_of(self.model, to_device(mine, self.device), loss)
        self.share = size(mine) * self.world / size(batch)
        return value * self.share if self.world > 1 else value

    def mean(self, value: Tensor) -> float:
        if self.world == 1:
            return value.item()
        return self.accelerator.reduce(value.detach().clone(), "mean").item()

    def lead(self, value: bool) -> bool:
        if self.world == 1:
            return value
        word = torch.tensor([value], dtype=torch.uint8, device=self.device)
        torch.distributed.broadcast(word, 0)
        return bool(word)

    def backward(self, loss: Tensor) -> None:
        self.accelerator.backward(loss)
        if self.accelerator.scaler is not None:  # hooks see gradients as they are
            self.accelerator.unscale_gradients(self.optimizer)

    def skip(self) -> None:
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.update()

    def collect(self) -> None:
        if self.world > 1:  # such as batch-norm statistics, which each process takes of its rows
            for buffer in self.module.buffers():
                torch.distributed.broadcast(buffer, 0)

    def release(self) -> None:
        # accelerate marks what it has seen, and for mixed precision puts its own `forward` there.
        own = vars(self.module)
        for name in ("_is_accelerate_prepared", "_original_forward"):
            own.pop(name, None)
        if self.forward is None:
            own.pop("forward", None)
        else:
            own["forward"] = self.forward

    def state(self) -> dict[str, Any]:
        scaler = self.accelerator.scaler
        return super().state() | ({} if scaler is None else {"scaler": scaler.state_dict()})

    def load(self, state: Mapping[str, Any]) -> None:
        super().load(state)
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])

    def noise(self) -> list[Any]:
        if self.world == 1:
            return super().noise()
        by_kind = []  # tensors, not objects: those would go as pickles
        for own in _noise(self.cuda):
            all_states = [torch.empty_like(own, device=self.device) for _ in range(self.world)]
            torch.distributed.all_gather(all_states, own.to(self.device))
            by_kind.append([state.cpu() for state in all_states])
        return [list(states) for states in zip(*by_kind, strict=True)]

    def set_noise(self, states: list[Any]) -> None:
        _set_noise(self.cuda, states[self.rank])

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


class Sharded(Elsewhere):
    """Parameters, gradients and optimiser state spread over the processes: torch's `fully_shard`.

    Not `accelerator.prepare`: accelerate 1.15 shards on GPUs only, and on CPUs makes DDP of it
    without a word. A twin of the model is spread and trained; `collect` puts its values into the
    model, which stays what it was: plain tensors, whole in every process.
    """

    def __init__(self, model: nn.Module, accelerator: Any) -> None:
        super().__init__(model, accelerator)
        self.whole = model
        self.module = self.model = _spread(copy.deepcopy(model).to(self.device))

    def prepare(self, make: Make) -> torch.optim.Optimizer:
        self.optimizer = make(_trained(self.module))
        return self.optimizer

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def collect(self) -> None:
        super().collect()
        state = self._options(self.module)["model"]
        self.whole.load_state_dict(state)
        theirs = dict(self.module.named_buffers())
        with torch.no_grad():
            for name, buffer in self.whole.named_buffers():  # those not in the state dict, too
                buffer.copy_(theirs[name])

    def state(self) -> dict[str, Any]:
        return self._options(self.module, self.optimizer)

    def load(self, state: Mapping[str, Any]) -> None:
        from torch.distributed.checkpoint import state_dict as whole

        options = whole.StateDictOptions(full_state_dict=True)
        whole.set_model_state_dict(self.module, dict(state["model"]), options=options)
        groups = whole.get_optimizer_state_dict(self.module, self.optimizer, options=options)
        whole.set_optimizer_state_dict(
            self.module,
            self.optimizer,
            {"state": state["optimizer"], "param_groups": groups["param_groups"]},
            options=options,
        )

    @staticmethod
    def _options(module: nn.Module, optimizer: Any = None) -> dict[str, Any]:
        from torch.distributed.checkpoint import state_dict as whole

        options = whole.StateDictOptions(full_state_dict=True)
        found: dict[str, Any] = {"model": whole.get_model_state_dict(module, options=options)}
        if optimizer is not None:
            states = whole.get_optimizer_state_dict(module, optimizer, options=options)
            found["optimizer"] = states["state"]
        return found


def _trained(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]


def _spread(model: nn.Module) -> nn.Module:
    """Shard each block by itself, then what is left; processes hold one whole block at a time."""
    from torch.distributed.fsdp import fully_shard

    try:
        for block in _blocks(model):
            fully_shard(block)
        return fully_shard(model)
    except (ValueError, RuntimeError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise PruneError(f"FSDP cannot spread {type(model).__name__}: {reason}") from error


def _blocks(model: nn.Module) -> Iterator[nn.Module]:
    """Outermost elements of module lists whose parameters are nobody else's."""
    owners: dict[int, int] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1

    def walk(module: nn.Module) -> Iterator[nn.Module]:
        for child in module.children():
            if isinstance(module, (nn.ModuleList, nn.Sequential)):
                parameters = list(child.parameters())
                inside = sum(len(list(m.parameters(recurse=False))) for m in child.modules())
                if parameters and inside == sum(owners[id(p)] for p in parameters):
                    yield child
                    continue
            yield from walk(child)

    yield from walk(model)


def _noise(cuda: list[torch.device]) -> list[Tensor]:
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in cuda)]


def _set_noise(cuda: list[torch.device], states: list[Tensor]) -> None:
    torch.set_rng_state(states[0])
    for device, state in zip(cuda, states[1:], strict=True):
        torch.cuda.set_rng_state(state, device)
