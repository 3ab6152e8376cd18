"""Optimisers go on where they were when the model is pruned in mid-training."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import sentei
from sentei import PruneError, Target

OPTIMIZERS = {
    "SGD": lambda ps: torch.optim.SGD(ps, 0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "Adam": lambda ps: torch.optim.Adam(ps, 1e-2, amsgrad=True),
    "AdamW": lambda ps: torch.optim.AdamW(ps, 1e-2),
    "AdamW, foreach": lambda ps: torch.optim.AdamW(ps, 1e-2, foreach=True),
    "RMSprop": lambda ps: torch.optim.RMSprop(ps, 1e-2, momentum=0.5, centered=True),
    "Adagrad": lambda ps: torch.optim.Adagrad(ps, 1e-2),
    "NAdam": lambda ps: torch.optim.NAdam(ps, 1e-2),
}


def net():
    return nn.Sequential(
        nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 3)
    )


def step(model, optimizer, x, y, mask=None):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    if mask:
        for name, p in model.named_parameters():
            p.grad.mul_(mask[name])
    optimizer.step()
    if mask:
        with torch.no_grad():
            for name, p in model.named_parameters():
                p.mul_(mask[name])
    return loss.item()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_pruned_training_is_training_with_the_units_held_at_zero(name):
    x, y = torch.randn(32, 6), torch.randint(3, (32,))
    model = net()
    optimizer = OPTIMIZERS[name](model.parameters())
    for _ in range(5):
        step(model, optimizer, x, y)
    # The reference never shrinks: the removed units stay, and are held at zero. tanh(0) is 0.
    dense = copy.deepcopy(model)
    reference = OPTIMIZERS[name](dense.parameters())
    reference.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    result = sentei.prune(model, x, target=Target(macs=0.5), optimizer=optimizer)
    kept = result.surgery.kept
    masks = {}
    for n, p in dense.named_parameters():
        masks[n] = torch.ones_like(p)
        for dim, positions in kept.get(n, {}).items():
            gone = torch.ones(p.shape[dim], dtype=torch.bool)
            gone[positions] = False
            masks[n].index_fill_(dim, gone.nonzero().flatten(), 0)
        p.data.mul_(masks[n])
    for _ in range(5):
        assert step(model, optimizer, x, y) == pytest.approx(
            step(dense, reference, x, y, masks), rel=1e-4
        )
    for n, p in dense.named_parameters():
        for dim, positions in kept.get(n, {}).items():
            p = p.index_select(dim, positions)
        torch.testing.assert_close(model.get_parameter(n), p, atol=1e-5, rtol=1e-4)


def adafactor_of_torch(parameters):
    return torch.optim.Adafactor(parameters, 1e-2)


def adafactor_of_transformers(parameters):
    from transformers.optimization import Adafactor

    return Adafactor(parameters, lr=1e-2, scale_parameter=False, relative_step=False)


@pytest.mark.parametrize("make", [adafactor_of_torch, adafactor_of_transformers])
def test_factored_statistics(make):
    """Rows and columns of Adafactor's statistics follow; they sum over units that are gone."""
    x, y = torch.randn(32, 6), torch.randint(3, (32,))
    model = net()
    optimizer = make(model.parameters())
    for _ in range(5):
        step(model, optimizer, x, y)
    before = {n: copy.deepcopy(optimizer.state[p]) for n, p in model.named_parameters()}
    shapes = {n: p.shape for n, p in model.named_parameters()}
    result = sentei.prune(model, x, target=Target(macs=0.5), optimizer=optimizer)
    kept = result.surgery.kept
    for name, p in model.named_parameters():
        for key, old in before[name].items():
            new = optimizer.state[p][key]
            if not isinstance(old, torch.Tensor) or old.dim() == 0:
                assert new == old
                continue
            for dim, positions in kept.get(name, {}).items():
                if old.dim() < len(shapes[name]):  # without the dimension that was summed up
                    if dim != ("col" in key):
                        continue
                    dim = 0
                if old.shape[dim] > 1:
                    old = old.index_select(dim, positions)
            assert torch.equal(new, old), (name, key)
    losses = [step(model, optimizer, x, y) for _ in range(15)]
    assert losses[-1] < losses[0]
    assert all(float(optimizer.state[p]["step"]) == 20 for p in model.parameters())


def test_square_matrices_and_state_that_cannot_follow():
    """Of a square matrix the shape does not tell rows from columns."""
    model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))
    x, y = torch.randn(32, 6), torch.randint(3, (32,))
    optimizer = adafactor_of_transformers(model.parameters())
    step(model, optimizer, x, y)
    state = {k: v.clone() for k, v in optimizer.state[model[0].weight].items() if "exp_avg" in k}
    sentei.delete_units(model, "0", [1, 4], x, optimizer=optimizer)
    new, keep = optimizer.state[model[0].weight], [0, 2, 3, 5]
    assert torch.equal(new["exp_avg_sq_row"], state["exp_avg_sq_row"][keep])
    assert torch.equal(new["exp_avg_sq_col"], state["exp_avg_sq_col"])
    optimizer.state[model[2].weight]["flat"] = torch.zeros(24)
    before = model[0].weight.clone()
    with pytest.raises(PruneError, match=r"the optimizer's 'flat' of shape \[24\] cannot follow"):
        sentei.delete_units(model, "0", [1], x, optimizer=optimizer)
    assert torch.equal(model[0].weight, before)
    step(model, optimizer, x, y)


def test_a_loss_that_lives_on():
    """Autograd keeps nodes of the old shapes while the last graph lives: they must not be used."""
    model, x, y = net(), torch.randn(32, 6), torch.randint(3, (32,))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    sentei.prune(model, x, target=Target(macs=0.5), optimizer=optimizer)
    again = F.cross_entropy(model(x), y)
    again.backward()
    assert all(p.grad.shape == p.shape for p in model.parameters())
    assert loss.grad_fn is not None  # it lived all the time


def test_a_pruning_that_fails_leaves_the_state():
    x, y = torch.randn(32, 6), torch.randint(3, (32,))
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    step(model, optimizer, x, y)
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(PruneError):
        sentei.prune(model, x, target=Target(macs=1), optimizer=optimizer)
    after = optimizer.state_dict()
    for key, state in before["state"].items():
        assert all(
            torch.equal(torch.as_tensor(v), after["state"][key][k]) for k, v in state.items()
        )
    step(model, optimizer, x, y)
