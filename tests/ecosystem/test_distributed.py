"""Pruned models in DDP and FSDP: two processes train as one does."""

import copy
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

import sentei
from sentei import Target

pytestmark = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="no gloo here"
)


def pruned():
    torch.manual_seed(0)
    x = torch.randn(8, 6)
    model = nn.Sequential(
        nn.Linear(6, 30), nn.ReLU(), nn.Linear(30, 22), nn.ReLU(), nn.Linear(22, 4)
    )
    sentei.prune(model, x, target=Target(macs=0.5))
    return model.train(), x, torch.arange(8) % 4


def train(model, x, y):
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    for _ in range(4):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()


def same(one, other):
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        b = b.full_tensor() if hasattr(b, "full_tensor") else b
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def worker(rank, meeting):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.nn.parallel import DistributedDataParallel

    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    model, x, y = pruned()
    alone = copy.deepcopy(model)
    train(alone, x, y)
    share = slice(4 * rank, 4 * rank + 4)

    wrapped = DistributedDataParallel(copy.deepcopy(model))
    train(wrapped, x[share], y[share])
    same(alone, wrapped.module)
    # Pruned on, inside the wrapper: it sees through.
    sentei.prune(wrapped, x, target=Target(macs=0.7))
    again = DistributedDataParallel(wrapped.module)
    train(again, x[share], y[share])

    sharded, mesh = copy.deepcopy(model), init_device_mesh("cpu", (2,))
    for layer in sharded:
        if isinstance(layer, nn.Linear):
            fully_shard(layer, mesh=mesh)  # widths that two processes cannot share evenly
    fully_shard(sharded, mesh=mesh)
    train(sharded, x[share], y[share])
    same(alone, sharded)
    print("done", flush=True)
    dist.destroy_process_group()


def test_two_processes_train_as_one(tmp_path):
    code = "import sys; from tests.ecosystem.test_distributed import worker; "
    code += "worker(int(sys.argv[1]), sys.argv[2])"
    both = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", code, str(rank), str(tmp_path / "meeting")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        for process in both:
            out, err = process.communicate(timeout=120)
            assert (process.returncode, out) == (0, "done\n"), err[-3000:]
    finally:
        for process in both:
            process.kill()
            process.communicate()
