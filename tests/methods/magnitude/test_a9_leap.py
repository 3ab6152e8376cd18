import math

import pytest
import torch
from torch import nn

from sentei.batches import batches
from sentei.hooks.leap import RatioHook, coefficient, regulariser, settled
from sentei.methods import METHODS, apply
from sentei.recovery.train import Recipe
from tests.methods.magnitude.nets import mlp, setting, toy


def hook_of(model, target=0.2, **options):
    weights = {n: p for n, p in model.named_parameters() if p.dim() > 1}
    return RatioHook(weights, target, **({"settle": 1000} | options))


def backward(hook, model, lr=0.0):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    hook.start(model, optimizer, 1)
    x, y = next(batches(toy(), 96))
    nn.functional.cross_entropy(model(x), y).backward()
    return optimizer


def test_the_penalty_is_one_sided_and_its_weight_ends_at_the_most():
    assert regulariser(torch.tensor(0.2), 0.2) == 0 and regulariser(torch.tensor(0.1), 0.2) == 0
    whole = regulariser(torch.tensor(1.0), 0.2).item()
    assert coefficient(whole, 0.2, 3000, 50) == pytest.approx(3000)
    assert coefficient(1e-9, 0.2, 3000, 50) == 50


@pytest.mark.parametrize("start", [10.0, 1.0, -1.5])
def test_each_matrix_keeps_the_rounded_up_share(start):
    model = mlp()
    hook = hook_of(model, start=start)
    hook.start(model, torch.optim.SGD(model.parameters(), lr=0.1), 1)
    k = 1 / (1 + math.exp(-start))
    for name, mask in hook.masks.items():
        assert int(mask.sum()) == math.ceil(k * hook.sizes[name] - 1e-4)


def test_above_the_target_the_ratios_fall():
    model = mlp()
    hook = hook_of(model, target=0.01, start=0.0, most=1e6)
    backward(hook, model)
    penalty = regulariser(hook.total(), 0.01)
    (slope,) = torch.autograd.grad(penalty, hook.sigma)
    assert (slope > 0).all()
    hook.before_step()
    assert (hook.sigma < 0).all()


def test_below_the_target_only_the_task_moves_the_ratios():
    model = mlp()
    hook = hook_of(model, target=0.9, start=0.0)
    backward(hook, model)
    expected = [
        (w.grad * hook.dense[n])[hook.masks[n]].sum().item() for n, w in hook.weights.items()
    ]
    seen = []
    hook.ratio_learner.step = lambda: seen.extend(hook.sigma.grad.tolist())
    hook.before_step()
    assert seen == pytest.approx(expected, rel=1e-4)


def test_ratios_settle_on_the_target_exactly_in_their_proportions():
    sizes = {"a": 192, "b": 384, "c": 64}
    for ratios in ({"a": 0.5, "b": 0.2, "c": 0.9}, {"a": 0.05, "b": 0.01, "c": 0.3}):
        kept = settled(sizes, ratios, 0.25)
        assert sum(kept.values()) == 160 and all(kept[n] <= sizes[n] for n in sizes)
        shares = [kept[n] / sizes[n] for n in "bac"]
        assert shares == sorted(shares)


def test_a_short_training_still_ends_at_the_density():
    given = setting(0.25, tuning=Recipe(epochs=2, lr=0.05, batch_size=16))
    assert apply(METHODS["leap"], given, settle=1.0).kept == 160
