import os
import subprocess
import sys
from pathlib import Path

import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from torch import nn

from sentei.hooks import Hook, MaskHook, Stop
from sentei.recovery.train import Recipe, train
from sentei.structures import Masks


def toy():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(50, 4, generator=generator)
    return x, (x[:, 0] > 0).long()


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


RECIPE = Recipe(epochs=3, lr=0.1, batch_size=16, momentum=0.0)


def test_a_training_cut_in_two_gives_the_same_bits():
    whole, parts = net(), net()
    train(whole, toy(), RECIPE)
    first = train(parts, toy(), RECIPE, stop=5)
    second = train(parts, toy(), RECIPE, start=5)
    assert (first.steps, second.steps) == (5, 7)
    assert all(
        torch.equal(a, b) for a, b in zip(whole.parameters(), parts.parameters(), strict=True)
    )


def test_hooks_see_every_step_and_may_skip_one_or_stop():
    calls = []

    class Watch(Hook):
        def penalty(self):
            calls.append("penalty")
            return self.model[0].weight.square().sum()

        def before_step(self):
            assert self.model[0].weight.grad is not None
            calls.append("before")
            return self.step != 0

        def after_step(self):
            super().after_step()
            calls.append("after")
            if self.step == 2:
                raise Stop

        def finish(self):
            calls.append("finish")

    model = net()
    before = [p.detach().clone() for p in model.parameters()]
    log = train(model, toy(), RECIPE, hooks=[Watch()])
    assert calls == ["penalty", "before", "after"] * 2 + ["finish"]
    assert log.stopped and log.steps == 2
    assert not all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


# -- accelerate ----------------------------------------------------------------------------------
def test_mixed_precision_and_devices_come_from_accelerate():
    from accelerate import Accelerator

    plain, placed, half = net(), net(), net()
    train(plain, toy(), RECIPE)
    train(placed, toy(), RECIPE, accelerator=Accelerator(cpu=True))
    assert all(
        torch.equal(a, b) for a, b in zip(plain.parameters(), placed.parameters(), strict=True)
    )
    AcceleratorState._reset_state()
    train(half, toy(), RECIPE, accelerator=Accelerator(cpu=True, mixed_precision="bf16"))
    AcceleratorState._reset_state()
    close = torch.cat([(a - b).abs().flatten() for a, b in
                       zip(plain.parameters(), half.parameters(), strict=True)])  # fmt: skip
    assert 0 < close.max() < 0.05


WORKER = """
import sys, torch
from accelerate import Accelerator
from safetensors.torch import save_file
from sentei.hooks import MaskHook
from sentei.recovery.train import train
from sentei.structures import Masks
from tests.recovery.test_train import RECIPE, net, toy
accelerator = Accelerator(cpu=True)
assert accelerator.num_processes == 2
model = net()
masks = Masks({"0.weight": torch.arange(32).view(8, 4) % 3 > 0})
train(model, toy(), RECIPE, hooks=[MaskHook(masks)], accelerator=accelerator)
if accelerator.is_main_process:
    save_file(model.state_dict(), sys.argv[1])
accelerator.end_training()
"""


def test_two_processes_give_what_one_gives(tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    home = Path(__file__).parents[2]
    path = os.pathsep.join([str(home / "src"), str(home)])
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone",
         str(script), str(tmp_path / "two.safetensors")],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    one = net()
    masks = Masks({"0.weight": torch.arange(32).view(8, 4) % 3 > 0})
    train(one, toy(), RECIPE, hooks=[MaskHook(masks)])
    two = load_file(tmp_path / "two.safetensors")
    for name, tensor in one.state_dict().items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-5, atol=1e-6)
        assert torch.equal(two[name] == 0, tensor == 0)
