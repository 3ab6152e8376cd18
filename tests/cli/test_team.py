"""`sentei prune` in two processes and in 16-bit floats comes to what one process comes to."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
import torch.distributed as dist
import yaml
from safetensors.torch import load_file

import sentei as package
from sentei.cli import team
from sentei.cli.config import Config
from sentei.cli.folder import read_result
from sentei.cli.pruning import prune
from sentei.graph.errors import PruneError
from tests.cli.helpers import error, process, sentei

gloo = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="no gloo here"
)


def asked(home, out, *more):
    """Batches of 14 and 13 examples: the two processes have uneven parts."""
    return (
        "prune", f"{home}/mine.py:residual", "-d", f"{home}/mine.py:data", "-t", "50%",
        "--rounds", "2", "--train-epochs", "2", "--epochs", "2", "--heal", "compensate",
        "--batch-size", "14", "--distill", "-o", out, *more,
    )  # fmt: skip


def weights(out):
    return load_file(out / "model" / "model.safetensors")


def same(out, wanted, atol=1e-5):
    ours, theirs = weights(out), weights(wanted)
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], atol=atol, rtol=1e-4)


@pytest.fixture(scope="module")
def alone(home):
    sentei(*asked(home, home / "alone"))
    return home / "alone"


def done(child):
    try:
        text, errors = child.communicate(timeout=120)
    finally:
        child.terminate()  # a launcher ends what it has started
    assert child.returncode == 0, errors
    return text, errors


def test_bf16_on_a_cpu(home, alone):
    out = home / "bf16"
    sentei(*asked(home, out, "--precision", "bf16"))
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["precision"] == "bf16" and config["processes"] == 1
    same(out, alone, atol=0.05)
    assert any(not torch.equal(t, weights(alone)[n]) for n, t in weights(out).items())
    model = package.load(out, trust=True)
    assert model(torch.zeros(2, 6)).dtype == torch.float32
    sentei("prune", "--config", out / "config.yaml", "-o", home / "again")
    assert all(torch.equal(t, weights(out)[n]) for n, t in weights(home / "again").items())


@gloo
@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_two_processes_with_fsdp_and_a_kill_in_between(home, alone, ending):
    out = home / f"two{ending}"
    long = [a if a != "2" else "20000" for a in asked(home, out)]
    long[long.index("--rounds") + 1] = "2"
    more = ("--processes", "2", "--parallel", "fsdp", "--checkpoint", "0.1")
    child = process(*long, *more)
    began = time.monotonic()
    while not (out / "work" / "train").exists() and time.monotonic() - began < 60:
        assert child.poll() is None, child.communicate()
        time.sleep(0.05)
    child.send_signal(ending)
    _, errors = child.communicate(timeout=60)  # nobody writes any more: all have ended
    if ending == signal.SIGTERM:
        assert child.returncode == 130
        assert errors.strip().splitlines() == [
            f"stopped; nothing is lost. Go on with: sentei prune --resume --out {out}"
        ]
        return
    # How many processes is in the folder; how long it was to take is made bearable.
    config = out / "config.yaml"
    config.write_text(config.read_text().replace("20000", "2"))
    (out / "work" / "train").unlink()
    text, errors = done(process("prune", "--resume", "-o", out))
    assert not errors and text.count("verify ") == 1  # only one of them speaks
    same(out, alone)
    assert read_result(out)["cost"] == read_result(alone)["cost"]
    losses = [[t["losses"] for t in read_result(o)["training"]] for o in (out, alone)]
    assert losses[0] == [pytest.approx(values, rel=1e-4) for values in losses[1]]
    assert package.load(out, trust=True)(torch.zeros(1, 6)).shape == (1, 3)


@gloo
def test_a_method_under_torchrun(home):
    def method(out):
        return (
            "prune", f"{home}/mine.py:drawn", "-d", f"{home}/mine.py:data", "-m", "lth-imp",
            "--sparsity", "0.6", "--train-epochs", "2", "--epochs", "1", "-o", str(out),
        )  # fmt: skip

    out, alone = home / "imp2", home / "imp1"
    child = subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m",
         "sentei", *method(out)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    text, errors = done(child)
    assert text.count("verify ") == 1
    assert "unused" not in errors  # DDP's remark at the first step, once a process
    assert yaml.safe_load((out / "config.yaml").read_text())["processes"] == 2
    sentei(*method(alone))
    same(out, alone)
    masks = [load_file(folder / "masks.safetensors") for folder in (out, alone)]
    assert all(torch.equal(m, masks[1][n]) for n, m in masks[0].items())


USERS_OWN = """
import sys
import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional as F

from sentei.allocation.weights import select
from sentei.cli.config import Config
from sentei.cli.pruning import prune
from sentei.criteria import Evidence
from sentei.criteria.weights import weigh
from sentei.hooks import MaskHook

home, out = sys.argv[1:]

def loop(accelerator=None, rank=0, world=1):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    x, y = torch.randn(40, 6), torch.arange(40) % 3
    trained = net
    if accelerator is not None:
        trained, optimizer = accelerator.prepare(net, optimizer)
    hook = MaskHook(select(weigh("magnitude", Evidence.of(net)), density=0.3))
    hook.start(net, optimizer, steps=5)
    for step in range(5):
        mine = slice(8 * step + rank * 8 // world, 8 * step + (rank + 1) * 8 // world)
        loss = F.cross_entropy(trained(x[mine]), y[mine]) + hook.penalty()
        optimizer.zero_grad()
        loss.backward() if accelerator is None else accelerator.backward(loss)
        if hook.before_step():
            optimizer.step()
        hook.after_step()
    hook.finish()
    return net

prune(Config(model=f"{home}/mine.py:residual", data=f"{home}/mine.py:data", target={"macs": 0.5},
             train_epochs=2, epochs=2, rounds=2, heal=["compensate"], distill=True, batch_size=14),
      out)
accelerator = Accelerator(cpu=True)
assert accelerator.num_processes == 2
several, alone = loop(accelerator, accelerator.process_index, 2), loop()
for a, b in zip(several.parameters(), alone.parameters(), strict=True):
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
assert sum(int((p == 0).sum()) for p in several.parameters()) >= 100
accelerator.end_training()
"""


@gloo
def test_accelerate_launch_starts_a_run_and_a_loop_of_ones_own(home, alone, tmp_path):
    script, out = tmp_path / "own.py", tmp_path / "run"
    script.write_text(USERS_OWN)
    child = subprocess.Popen(
        [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
         "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
         "--main_process_port", "0", script, home, out],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    done(child)
    assert yaml.safe_load((out / "config.yaml").read_text())["processes"] == 2
    same(out, alone)


def test_mistakes_are_one_line(home, monkeypatch, tmp_path):
    assert "option precision: input should be 'no', 'bf16' or 'fp16'" in error(
        *asked(home, tmp_path / "o", "--precision", "int4")
    )
    assert "fp16 needs a GPU" in error(
        *asked(home, tmp_path / "o", "--precision", "fp16", "--device", "cpu")
    )
    config = Config(model=f"{home}/mine.py:net", input="1x6", target={"macs": 0.5}, processes=3)
    with pytest.raises(PruneError, match="wants 3 processes, and 1 is here: start it with"):
        prune(config, tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_a_launcher_that_started_one_of_several_is_noticed(home, monkeypatch, tmp_path):
    """As `accelerate launch --cpu --num_processes 2` does."""
    run = ("prune", f"{home}/mine.py:net", "--input", "1x6", "-t", "50%", "-o")
    assert "started one process" not in sentei(*run, tmp_path / "one")
    for name, value in {"ACCELERATE_MIXED_PRECISION": "no", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert "started one process of those" in " ".join(sentei(*run, tmp_path / "two").split())


class Two(team.Team):
    """What two processes say to each other, by one of them."""

    def __init__(self, other):
        super().__init__()
        self.count, self.other = 2, other

    def _gather(self, value):
        return [value, self.other]


def test_what_fails_in_one_process_fails_in_all():
    with pytest.raises(PruneError, match="process 1: no data here"):
        Two("no data here").together(lambda: 3)
    assert Two(None).together(lambda: 3) == 3
    with pytest.raises(PruneError, match="came to different networks"):
        Two("another digest").agree(torch.nn.Linear(2, 2))
