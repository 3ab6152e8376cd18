"""The training loop learns, repeats from a seed, leaves no trace, and says what is wrong."""

import io

import pytest
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from sentei.recovery import Evaluation, TrainingError, evaluate, finetune
from sentei.recovery.finetune import progress_bar
from sentei.tasks.digits import digits
from sentei.tasks.models import lenet_300_100


def toy(n=130):
    x = torch.randn(n, 4, generator=torch.Generator().manual_seed(1))
    return x, (x[:, 0] > 0).long()


def net(dropout=0.2):
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 2)
    )


def test_it_learns_the_digits():
    task = digits()
    model = finetune(lenet_300_100(), task.train, epochs=8, progress=False)
    assert evaluate(model, task.test).accuracy > 0.95


def test_one_step_is_sgd_by_hand():
    model = nn.Linear(3, 1)
    x, y = torch.randn(8, 3), torch.randn(8, 1)
    w, velocity = model.weight.detach().clone(), 0.0
    b, velocity_b = model.bias.detach().clone(), 0.0
    finetune(model, (x, y), epochs=2, lr=0.1, momentum=0.5, weight_decay=0.01, batch_size=8,
             progress=False, schedule="linear", loss=F.mse_loss)  # fmt: skip
    for factor in (1.0, 0.5):
        residual = x @ w.T + b - y
        velocity = 0.5 * velocity + 2 * residual.T @ x / 8 + 0.01 * w
        velocity_b = 0.5 * velocity_b + 2 * residual.mean(0) + 0.01 * b
        w, b = w - 0.1 * factor * velocity, b - 0.1 * factor * velocity_b
    torch.testing.assert_close(model.weight, w)
    torch.testing.assert_close(model.bias, b)


def test_the_same_seed_gives_the_same_bits_whatever_the_callers_random_state():
    runs = []
    for caller, seed in ((1, 7), (2, 7), (1, 8)):
        model = net()
        torch.manual_seed(caller)
        finetune(model, toy(), epochs=3, seed=seed, progress=False)
        runs.append(model[0].weight)
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_it_leaves_no_trace():
    model = net()
    model[1].eval()
    model[4].bias.requires_grad_(False)
    bias = model[4].bias.clone()
    state = torch.get_rng_state()
    assert finetune(model, toy(), epochs=1, progress=False) is model
    evaluate(model, toy())
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert not model[1].training
    assert torch.equal(model[4].bias, bias)
    assert all(p.grad is None for p in model.parameters())


def test_no_epochs_no_change():
    model = net()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    finetune(model, toy(), epochs=0, progress=False)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize(("n", "batch_size"), [(65, 64), (1347, 64), (10, 64), (7, 2)])
def test_every_example_once_an_epoch_in_even_batches(n, batch_size):
    seen = []

    class Recorder(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.zeros(1))

        def forward(self, x):
            seen.append(x.flatten().tolist())
            return x * self.w

    x = torch.arange(float(n))[:, None]
    finetune(Recorder(), (x, x), epochs=2, lr=0, batch_size=batch_size, progress=False,
             loss=F.mse_loss)  # fmt: skip
    sizes = [len(batch) for batch in seen]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    values = [value for batch in seen for value in batch]
    first, second = values[:n], values[n:]
    assert sorted(first) == sorted(second) == x.flatten().tolist()
    assert first != second


def test_a_data_loader_and_a_list_of_batches_do_as_well():
    x, y = toy(64)
    loader = DataLoader(TensorDataset(x, y), batch_size=32)
    # Without dropout: a DataLoader draws a number of its own each epoch.
    one, two = net(dropout=0), net(dropout=0)
    finetune(one, loader, epochs=2, progress=False)
    finetune(two, [(x[:32], y[:32]), (x[32:], y[32:])], epochs=2, progress=False)
    assert torch.equal(one[0].weight, two[0].weight)
    assert evaluate(one, loader) == evaluate(two, loader)


def test_evaluate_counts():
    logits = torch.tensor([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0]])
    y = torch.tensor([0, 1, 1])
    got = evaluate(nn.Identity(), (logits, y), batch_size=2)
    assert got == Evaluation(2 / 3, pytest.approx(F.cross_entropy(logits, y).item()), 3)


def test_a_loss_that_is_no_number_says_where_and_what_to_try():
    model = net()
    with pytest.raises(TrainingError, match=r"loss is (nan|inf) at epoch \d+, .*lr=1e\+28"):
        finetune(model, toy(), epochs=50, lr=1e29, schedule="constant", progress=False)
    assert model.training
    x, y = toy()
    x[5, 0] = float("nan")
    with pytest.raises(TrainingError, match="batch itself holds nan"):
        finetune(net(), (x, y), progress=False)


def test_empty_data_says_so():
    empty = (torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))
    for act in (evaluate, finetune):
        with pytest.raises(ValueError, match=r"no data: x is empty, with shape \(0, 4\)"):
            act(net(), empty)
        with pytest.raises(ValueError, match="no data"):
            act(net(), [])
        with pytest.raises(ValueError, match="4 examples and y has 3"):
            act(net(), (torch.zeros(4, 4), torch.zeros(3, dtype=torch.long)))
    with pytest.raises(ValueError, match="no data to evaluate"):
        evaluate(net(), iter(()))
    with pytest.raises(ValueError, match=r"no data in epoch 2.*only once"):
        finetune(net(), iter([toy()]), epochs=2, progress=False)


def test_other_mistakes_say_so():
    with pytest.raises(ValueError, match="unknown schedule 'cosin'; closest: 'cosine'"):
        finetune(net(), toy(), schedule="cosin")
    with pytest.raises(ValueError, match="nothing to train"):
        finetune(net().requires_grad_(False), toy())
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        finetune(net(), toy(), batch_size=0, progress=False)


def test_the_bar_is_drawn_and_a_given_one_is_cleared():
    page = io.StringIO()
    bar = progress_bar(Console(file=page, force_terminal=True, width=100))
    with bar:
        finetune(net(), toy(), epochs=2, progress=bar)
        assert bar.tasks == []
        drawn = page.getvalue()
    assert "training Sequential" in drawn
    assert "epochs" in drawn
