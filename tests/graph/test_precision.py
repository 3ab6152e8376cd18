"""Where rounding decides, and where a loss is still alive."""

import copy

import pytest
import torch
from torch import nn

import sentei
from sentei.graph import surgery
from sentei.graph.verify import widened


class Picky(nn.Module):
    """Ranks its inputs by scores; which of two that are almost alike is first, rounding decides."""

    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(8, 64), nn.Linear(64, 1)

    def forward(self, x):
        score = self.down(self.up(x).relu()).squeeze(1)
        return score.argsort().to(x.dtype)


def test_what_rounding_decides_is_judged_in_float64():
    torch.manual_seed(0)
    model, x = Picky(), torch.randn(1, 8) + 1e-6 * torch.randn(400, 8)
    result = sentei.delete_units(model, "up", range(0, 64, 2), x)
    assert model.up.out_features == 32
    assert result.verification.passed and result.verification.tolerance == 1e-6


def test_a_wrong_network_is_still_refused_and_put_back(monkeypatch):
    torch.manual_seed(0)
    model, x = Picky(), torch.randn(40, 8)
    before = copy.deepcopy(model.state_dict())
    right = surgery.apply

    def wrong(model, record, transaction=None):
        right(model, record, transaction)
        model.up.weight.data.mul_(-1)

    monkeypatch.setattr(surgery, "apply", wrong)
    with pytest.raises(sentei.graph.errors.VerificationError):
        sentei.delete_units(model, "up", [0, 1], x)
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())


def test_a_judge_that_only_says_nan_is_not_heard(monkeypatch):
    class Nan(Picky):
        def forward(self, x):
            score = self.down(self.up(x).relu())
            return score if x.dtype is torch.float32 else score * float("nan")

    right = surgery.apply

    def wrong(model, record, transaction=None):
        right(model, record, transaction)
        model.up.weight.data.mul_(-1)

    monkeypatch.setattr(surgery, "apply", wrong)
    with pytest.raises(sentei.graph.errors.VerificationError):
        sentei.delete_units(Nan(), "up", [0, 1], torch.randn(40, 8))


def test_a_model_that_does_not_run_in_float64_has_no_wide_twin():
    class Casts(nn.Linear):
        def forward(self, x):
            return super().forward(x.float())

    call = ((torch.randn(2, 4),), {})
    assert widened(Casts(4, 2), call) is None
    wide, (args, _) = widened(nn.Linear(4, 2), call)
    assert wide.weight.dtype is args[0].dtype is torch.float64


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_training_goes_on_while_an_old_loss_is_alive(dtype):
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3)).to(dtype)
    x = torch.randn(8, 4, dtype=dtype)
    optimizer = torch.optim.AdamW(model.parameters())
    loss = model(x).square().sum()
    loss.backward()
    optimizer.step()
    sentei.prune(model, x, target=sentei.Target(width=0.5), optimizer=optimizer)
    again = model(x).square().sum()  # `loss` and its graph are still there
    optimizer.zero_grad()
    again.backward()
    optimizer.step()
    assert model[0].weight.grad.shape == (8, 4) and loss.item() > 0
