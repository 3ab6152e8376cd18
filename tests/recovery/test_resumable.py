"""A training cut off at any step and gone on with comes out to the same bits."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from sentei.graph.errors import PruneError
from sentei.hooks import Hook, MaskHook, Stop
from sentei.recovery import resumable
from sentei.recovery.resumable import train_resumably
from sentei.recovery.train import Recipe, train
from sentei.storage.checkpoint import load_checkpoint
from sentei.structures import Masks

RECIPE = Recipe(epochs=4, lr=0.05, batch_size=16, optimizer="adam", weight_decay=1e-3)


class Cut(Exception):
    pass


class CutAt(Hook):
    """Pulls the plug after so many steps of this process."""

    def __init__(self, step):
        self.at = step

    def after_step(self):
        super().after_step()
        if self.step == self.at:
            raise Cut


class Counts(Hook):
    """A hook with a state of its own that reaches the weights."""

    calls = 0

    def penalty(self):
        self.calls += 1
        return 1e-3 * self.calls * self.model[0].weight.square().sum()

    def state_dict(self):
        return super().state_dict() | {"calls": self.calls}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.calls = state["calls"]


def toy():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(50, 4, generator=generator)
    return x, (x[:, 0] > 0).long()


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 2)
    )


def same(a, b):
    return all(torch.equal(t, b.state_dict()[n]) for n, t in a.state_dict().items())


class Noisy(Dataset):
    """Draws while it is read, as augmentation does."""

    def __len__(self):
        return 50

    def __getitem__(self, i):
        x, y = toy()
        return x[i] + 0.1 * torch.rand(4), y[i]


def loader():
    return DataLoader(Noisy(), batch_size=16, shuffle=True)


@pytest.mark.parametrize("data", [toy, loader])
@pytest.mark.parametrize("step", [1, 4, 7, 12, 15])
def test_cut_off_at_any_step_and_gone_on_with(tmp_path, step, data):
    masks = Masks({"0.weight": torch.rand(8, 4) > 0.5})
    whole, parts = net(), net()
    log = train(whole, data(), RECIPE, hooks=[Counts(), MaskHook(masks)])
    with pytest.raises(Cut):
        train_resumably(
            tmp_path / "state",
            parts,
            data(),
            RECIPE,
            hooks=[Counts(), MaskHook(masks), CutAt(step)],
            every=0,
        )
    # Whatever the step: no more than it is lost.
    assert step == 1 or load_checkpoint(tmp_path / "state")["done"] == step - 1
    # A fresh process knows nothing but the file.
    again = net()
    hooks = [Counts(), MaskHook(masks), Hook()]
    resumed = train_resumably(tmp_path / "state", again, data(), RECIPE, hooks=hooks, every=0)
    assert same(whole, again)
    assert (resumed.steps, resumed.losses) == (log.steps, log.losses)
    assert hooks[0].calls == 16


def test_writing_costs_a_twentieth_of_the_time_at_most(tmp_path, monkeypatch):
    now, writes = [0.0], []

    def slow(path, tree):
        writes.append(now[0])
        now[0] += 2.0

    class Clock(Hook):
        def after_step(self):
            now[0] += 3.0

    monkeypatch.setattr(resumable, "save_checkpoint", slow)
    monkeypatch.setattr(resumable, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    train_resumably(tmp_path / "state", net(), toy(), RECIPE, hooks=[Clock()], every=5.0)
    assert writes == [6.0, 47.0, 52.0]  # due; nineteen times two seconds later; the end


def test_a_training_that_is_done_is_put_in_place(tmp_path):
    first, second = net(), net()
    train_resumably(tmp_path / "state", first, toy(), RECIPE)
    log = train_resumably(tmp_path / "state", second, toy(), RECIPE, hooks=[])
    assert same(first, second) and log.steps == 16 and len(log.losses) == 4


def test_a_hook_that_stops_has_stopped_afterwards_too(tmp_path):
    class Enough(Hook):
        def after_step(self):
            super().after_step()
            if self.step == 6:
                raise Stop

    first, second = net(), net()
    log = train_resumably(tmp_path / "state", first, toy(), RECIPE, hooks=[Enough()])
    again = train_resumably(tmp_path / "state", second, toy(), RECIPE, hooks=[Enough()])
    assert same(first, second) and log.stopped and again.stopped and again.steps == log.steps == 6


def test_the_state_of_another_training_is_refused(tmp_path):
    train_resumably(tmp_path / "state", net(), toy(), RECIPE)
    with pytest.raises(PruneError, match=r"another training .*'lr'"):
        train_resumably(tmp_path / "state", net(), toy(), Recipe(epochs=4, lr=0.1, batch_size=16))


def test_data_of_unknown_length_cannot_be_resumed(tmp_path):
    with pytest.raises(PruneError, match="number of batches is known"):
        train_resumably(tmp_path / "state", net(), iter([toy()]), RECIPE)


def test_a_damaged_state_is_one_clear_line(tmp_path):
    (tmp_path / "state").write_bytes(b"\x08" * 100)
    with pytest.raises(PruneError, match="cannot read the checkpoint"):
        train_resumably(tmp_path / "state", net(), toy(), RECIPE)
