import contextlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from torch import nn

import sentei
from sentei.graph.errors import PruneError
from sentei.hooks import Distill, Hook, MaskHook, Stop
from sentei.recovery.resumable import train_resumably
from sentei.recovery.train import Recipe, TrainingError, train
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


def test_what_accelerate_puts_into_a_model_is_taken_out_again():
    from accelerate import Accelerator

    model = net()
    before = set(vars(model))
    train(model, toy(), RECIPE, accelerator=Accelerator(cpu=True, mixed_precision="bf16"))
    AcceleratorState._reset_state()
    assert set(vars(model)) == before
    assert model(toy()[0]).dtype == torch.float32


def small():
    """A pruned network with widths that two processes cannot share evenly."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 15), nn.ReLU(), nn.Linear(15, 9), nn.ReLU(), nn.Linear(9, 2))
    sentei.prune(model, toy()[0][:2], target=sentei.Target(macs=0.7))
    return model


def masks():
    return Masks({"0.weight": torch.arange(32).view(8, 4) % 3 > 0})


def trainings(folder, accelerator=None):
    """Each kind of training once, with what it gave. Batches of 13 and 12 have a middle row."""
    placed = {"accelerator": accelerator}
    adam = replace(RECIPE, optimizer="adam", lr=0.01)
    held, taught, spread, resumed, other = net(), small(), small(), small(), small()
    logs = [train(held, toy(), RECIPE, hooks=[MaskHook(masks())], **placed)]
    logs.append(train(taught, toy(), RECIPE, hooks=[Distill(small(), weight=3.0)], **placed))
    logs.append(train(spread, toy(), adam, sharded=True, **placed))

    def cut(done, total, note):
        if done == 6:
            raise InterruptedError

    for path in (folder / "ddp", folder / "fsdp"):
        model, recipe, more = resumed, RECIPE, {}
        if path.name == "fsdp":
            model, recipe = other, adam
            more = {"sharded": True, "hooks": [Distill(small(), features=["2"])]}
        with contextlib.suppress(InterruptedError):
            train_resumably(path, model, toy(), recipe, every=0, tick=cut, **placed, **more)
        model.load_state_dict(small().state_dict())
        logs.append(train_resumably(path, model, toy(), recipe, every=0, **placed, **more))
    models = {"held": held, "taught": taught, "spread": spread, "ddp": resumed, "fsdp": other}
    return models, logs


def refusals(accelerator):
    with pytest.raises(PruneError, match="whole parameters"):
        train(
            net(), toy(), RECIPE, hooks=[MaskHook(masks())], accelerator=accelerator, sharded=True
        )
    one = (torch.zeros(1, 4), torch.zeros(1).long())
    with pytest.raises(PruneError, match="a batch of 1 examples cannot be shared by 2 processes"):
        train(net(), one, RECIPE, accelerator=accelerator)
    bad = (torch.full((8, 4), torch.nan), torch.zeros(8).long())
    bad[0][:4] = 0  # only the second process sees it, and both stop
    with pytest.raises(TrainingError, match="that batch itself holds nan"):
        train(net(), [bad], RECIPE, accelerator=accelerator)


WORKER = """
import json, sys
from pathlib import Path
import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from tests.recovery.test_train import refusals, trainings
accelerator = Accelerator(cpu=True)
assert accelerator.num_processes == 2
models, logs = trainings(Path(sys.argv[1]), accelerator)
refusals(accelerator)
tensors = {f"{k}.{n}": t for k, m in models.items() for n, t in m.state_dict().items()}
assert all(type(t) is torch.Tensor for t in tensors.values())
save_file(tensors, f"{sys.argv[1]}/{accelerator.process_index}.safetensors")
text = json.dumps([log.losses for log in logs])
Path(f"{sys.argv[1]}/{accelerator.process_index}.json").write_text(text)
accelerator.end_training()
"""


def test_two_processes_give_what_one_gives(tmp_path):
    """With DDP and FSDP, hooks, distillation, and after a cut in the middle of an epoch.

    Sums over rows are taken in another order, so not to the same bits; both processes are alike
    to the bit.
    """
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    home = Path(__file__).parents[2]
    path = os.pathsep.join([str(home / "src"), str(home)])
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone",
         str(script), str(tmp_path)],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    (tmp_path / "alone").mkdir()
    models, logs = trainings(tmp_path / "alone")
    ours = {f"{k}.{n}": t for k, m in models.items() for n, t in m.state_dict().items()}
    first, second = (load_file(tmp_path / f"{i}.safetensors") for i in range(2))
    assert first.keys() == ours.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(
            first[name], tensor, rtol=1e-4, atol=1e-5, msg=lambda words, name=name: name + words
        )
        assert torch.equal(first[name], second[name]), name
    assert torch.equal(first["held.0.weight"] == 0, ours["held.0.weight"] == 0)
    losses = [json.loads((tmp_path / f"{i}.json").read_text()) for i in range(2)]
    assert losses[0] == losses[1]
    for log, theirs in zip(logs, losses[0], strict=True):
        assert theirs == pytest.approx(log.losses, rel=1e-4)
