"""A run in one process or several: who does what, and how the others learn of it.

Trainings are everybody's. All else, pruning and measuring and writing included, is done by the main
process, and what it found is told to the others, who read models from the folder of the run: no
two machines need to come to the same result by themselves. `torchrun`, `accelerate launch` and
`sentei prune --processes N` start the processes.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import math
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from sentei.cli.config import Config
from sentei.graph.errors import PruneError
from sentei.startup import INTERRUPTED

__all__ = ["Team", "end_with_launcher", "follows", "launch", "lonely", "team_of", "world"]

T = TypeVar("T")
Facts = Any
"""What JSON can hold."""

# Others wait while the main process prunes, evaluates and measures, however long that takes.
_PATIENCE = timedelta(days=30)
_LAUNCHER = "SENTEI_LAUNCHER"


def world() -> int:
    """How many processes the launcher has started; 1 without one."""
    return max(int(os.environ.get("WORLD_SIZE") or 1), 1)


def lonely() -> bool:
    """Whether `accelerate launch` was asked for several processes and has started one.

    It does so on CPUs, unless it is given --multi_gpu.
    """
    asked = {"ACCELERATE_MIXED_PRECISION", "MASTER_ADDR"} <= os.environ.keys()
    return asked and "WORLD_SIZE" not in os.environ


def follows() -> bool:
    """Whether this is one of several processes, and not the main one."""
    return world() > 1 and int(os.environ.get("RANK") or 0) > 0


class Team:
    """The processes of a run; by default this one alone.

    accelerator: what trainings run on; None for plain training here.
    sharded: do trainings spread parameters over the processes?
    """

    def __init__(self, accelerator: Any = None, sharded: bool = False) -> None:
        self.accelerator, self.sharded = accelerator, sharded
        self.count = 1 if accelerator is None else accelerator.num_processes
        self.main = accelerator is None or accelerator.is_main_process
        self._words = None
        if self.count > 1:  # NCCL would keep the devices busy while it waits
            self._words = torch.distributed.new_group(backend="gloo", timeout=_PATIENCE)

    def wait(self) -> None:
        """Until all processes are here."""
        if self.count > 1:
            torch.distributed.barrier(self._words)

    def lead(self, do: Callable[[], Facts]) -> Facts:
        """What the main process finds by doing it, for all: as JSON holds it.

        Raises:
            PruneError: in the others, where it failed in the main process.
        """
        if self.count == 1:
            return do()
        self.wait()
        if not self.main:
            told = json.loads(self._broadcast(""))
            if "failed" in told:
                raise PruneError(told["failed"])
            return told["found"]
        try:
            found = do()
        except Exception as error:
            self._broadcast(json.dumps({"failed": str(error) or type(error).__name__}))
            raise
        self._broadcast(json.dumps({"found": found}))
        return found

    def together(self, do: Callable[[], T]) -> T:
        """What every process does for itself; where it fails in one, it fails in all.

        Raises:
            PruneError: it failed in another process; says in which.
        """
        if self.count == 1:
            return do()
        found, failure = None, None
        try:
            found = do()
        except Exception as error:
            failure = error
        words = None if failure is None else str(failure) or type(failure).__name__
        all_words = self._gather(words)
        if failure is not None:
            raise failure
        for number, text in enumerate(all_words):
            if text is not None:
                raise PruneError(f"process {number}: {text}")
        return found  # type: ignore[return-value]

    def agree(self, model: nn.Module) -> None:
        """Make sure that all processes hold the same model, bit for bit.

        Raises:
            PruneError: they do not.
        """
        if self.count == 1:
            return
        digest = hashlib.sha256()
        for name, tensor in model.state_dict().items():
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
        if len(set(self._gather(digest.hexdigest()))) > 1:
            raise PruneError(
                "the processes came to different networks: what was done draws or measures "
                "something of its own in each of them. Run it in one process"
            )

    # Bytes, not objects: torch sends those as pickles.
    def _broadcast(self, text: str) -> str:
        own = torch.frombuffer(bytearray(text.encode() or b" "), dtype=torch.uint8)
        size = torch.tensor([len(own)])
        torch.distributed.broadcast(size, 0, group=self._words)
        data = own if self.main else torch.empty(int(size), dtype=torch.uint8)
        torch.distributed.broadcast(data, 0, group=self._words)
        return data.numpy().tobytes().decode()

    def _gather(self, text: str | None) -> list[str | None]:
        own = torch.frombuffer(bytearray(json.dumps(text).encode()), dtype=torch.uint8)
        sizes = [torch.tensor([0]) for _ in range(self.count)]
        torch.distributed.all_gather(sizes, torch.tensor([len(own)]), group=self._words)
        longest = int(max(sizes))
        padded = torch.zeros(longest, dtype=torch.uint8)
        padded[: len(own)] = own
        found = [torch.empty(longest, dtype=torch.uint8) for _ in range(self.count)]
        torch.distributed.all_gather(found, padded, group=self._words)
        return [
            json.loads(data[: int(size)].numpy().tobytes())
            for data, size in zip(found, sizes, strict=True)
        ]


@contextmanager
def team_of(config: Config) -> Iterator[Team]:
    """The team of a resolved configuration.

    Raises:
        PruneError: it wants other processes than there are, or a precision that the device lacks.
    """
    there = world()
    if config.processes != there:
        raise PruneError(
            f"this run wants {config.processes} processes, and {there} "
            f"{'is' if there == 1 else 'are'} here: start it with `sentei prune`, torchrun or "
            "accelerate launch"
        )
    device, precision = torch.device(config.device), config.precision or "no"
    if there == 1 and precision == "no":
        yield Team()
        return
    if precision == "fp16" and device.type == "cpu":
        raise PruneError("--precision fp16 needs a GPU; on a CPU use bf16")
    if there > 1 and device.index is not None:
        raise PruneError(f"--device {device} is one device; several processes want --device cuda")
    try:
        from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
        from accelerate.state import AcceleratorState, PartialState
    except ImportError as error:
        raise PruneError(
            f"--precision and several processes need accelerate ({error}); "
            "pip install 'sentei[train]'"
        ) from None
    ours = not PartialState._shared_state
    if device.index is not None:
        torch.cuda.set_device(device)
    try:
        accelerator = Accelerator(
            cpu=device.type == "cpu",
            mixed_precision=precision,
            kwargs_handlers=[
                # Heads that only some losses reach are no reason to fail.
                DistributedDataParallelKwargs(find_unused_parameters=True),
                InitProcessGroupKwargs(timeout=_PATIENCE),
            ],
        )
    except ValueError as error:
        raise PruneError(f"accelerate: {error}") from error
    if there > 1 and ours:
        # Not when this run ends: processes that meet a second time, for another run or a loop of
        # the user's own, would find the addresses of the first in the launcher's store, and wait.
        atexit.register(_part)
    try:
        yield Team(accelerator, sharded=config.parallel == "fsdp")
    finally:
        if ours:  # the next run in this process may want another precision
            AcceleratorState._reset_state(reset_partial_state=True)


def _part() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def launch(config: Config | None, out: Path, processes: int, *, resume: bool, debug: bool) -> int:
    """Start `sentei prune` in several processes of this machine, and wait for them.

    The main one keeps the terminal; when one fails, the others are ended.

    Returns:
        the exit code: 0, or that of the first process that failed.
    """
    with tempfile.TemporaryDirectory(prefix="sentei-") as home:
        command = [sys.executable, "-m", "sentei", *(["--debug"] if debug else []), "prune"]
        if config is not None:
            path = Path(home) / "config.yaml"
            path.write_text(config.to_yaml(), encoding="utf-8")
            command += ["--config", str(path)]
        command += ["--out", str(out), *(["--resume"] if resume else [])]
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        threads = str(max((cores or 1) // processes, 1))
        shared = {
            "OMP_NUM_THREADS": threads,
            **os.environ,
            "WORLD_SIZE": str(processes),
            "LOCAL_WORLD_SIZE": str(processes),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(_free_port()),
        }
        children: list[subprocess.Popen[bytes]] = []
        # While we live we hold one end of a pipe; whatever ends us closes it.
        alive, ours = os.pipe()
        more: dict[str, Any] = {}
        if os.name == "posix":
            shared[_LAUNCHER] = str(alive)
            more["pass_fds"] = (alive,)
        try:
            for rank in range(processes):
                children.append(
                    subprocess.Popen(
                        command,
                        env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                        stdin=None if rank == 0 else subprocess.DEVNULL,
                        stdout=None if rank == 0 else subprocess.DEVNULL,
                        **more,
                    )
                )
            return _outcome(children)
        except KeyboardInterrupt:
            for child in children:  # a terminal has told them already; a signal to us has not
                child.terminate()
            return _outcome(children[:1], limit=30)
        finally:
            _end(children)
            os.close(alive)
            os.close(ours)


def end_with_launcher() -> None:
    """In a process that `launch` started: stop when the launcher is gone, killed or not."""
    text = os.environ.pop(_LAUNCHER, None)
    if text is None:
        return

    def watch() -> None:
        with contextlib.suppress(OSError):
            os.read(int(text), 1)  # returns when nobody holds the other end any more
        os._exit(INTERRUPTED)  # what is on disk holds at any moment

    threading.Thread(target=watch, daemon=True).start()


def _outcome(children: list[subprocess.Popen[bytes]], limit: float = math.inf) -> int:
    """0 when all are done; the code of the first that fails, the main one's before others'."""
    end = time.monotonic() + limit
    while True:
        codes = [child.poll() for child in children]
        if any(codes):
            time.sleep(0.3)  # the main process may be about to say why, for the same reason
            codes = [child.poll() for child in children]
            code = next(code for code in codes if code)
            return code if code > 0 else 128 - code
        if all(code == 0 for code in codes) or time.monotonic() > end:
            return 0 if all(code == 0 for code in codes) else INTERRUPTED
        time.sleep(0.05)


def _end(children: list[subprocess.Popen[bytes]]) -> None:
    """Nothing is lost by it: what is on disk holds at any moment."""
    for child in children:
        if child.poll() is None:
            child.terminate()
    limit = time.monotonic() + 2  # one that waits for a process that is gone hears of nothing
    for child in children:
        try:
            child.wait(max(limit - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
