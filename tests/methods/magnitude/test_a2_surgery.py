import math

import pytest
import torch
from torch import nn

from sentei.batches import batches
from sentei.graph.errors import PruneError
from sentei.hooks.surgery import SurgeryHook
from sentei.methods import METHODS, apply
from sentei.methods.magnitude.dynamic_network_surgery import thresholds
from sentei.recovery.train import Recipe
from tests.methods.magnitude.nets import mlp, setting, toy

SURGERY = METHODS["dynamic-network-surgery"]


def hook_of(model, low=0.1, high=0.2, **options):
    weights = {n: p for n, p in model.named_parameters() if p.dim() > 1}
    options = {"gamma": 0.0, "power": 1.0, "stop": 100} | options
    return SurgeryHook(dict.fromkeys(weights, (low, high)), weights, **options)


def started(hook, model, lr=0.1, **options):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, **options)
    hook.start(model, optimizer, 100)
    return optimizer


def test_between_the_thresholds_nothing_changes():
    model = mlp()
    hook = hook_of(model)
    started(hook, model)
    name = "2.weight"
    hook.dense[name].fill_(0.3)
    hook._show()
    # Down through the band, below it, up through it, above it.
    for value, stays in ((0.15, True), (0.05, False), (0.15, False), (0.25, True), (0.11, True)):
        hook.dense[name].fill_(value)
        hook._show()
        assert hook.masks[name].all() == stays and hook.masks[name].any() == stays
        assert torch.equal(model[2].weight, hook.dense[name] * stays)
    assert hook.spliced > hook.dense[name].numel()


@pytest.mark.parametrize("gamma,updates", [(0.0, True), (math.inf, False)])
def test_how_often_masks_are_looked_at(gamma, updates):
    model = mlp()
    hook = hook_of(model, gamma=gamma)
    started(hook, model)
    for step in range(5):
        hook.step = step + 1
        for dense in hook.dense.values():
            dense.fill_(0.0 if step % 2 == 0 else 1.0)
        hook._show()
        kept = step % 2 == 1 if updates else None
        if updates:
            assert all(m.all() == kept for m in hook.masks.values())
    if not updates:
        assert hook.masks.kept == hook.masks.total or hook.step == 0


def test_the_chance_falls():
    hook = hook_of(mlp(), gamma=1e-2, power=2.0)
    assert hook.chance(0) == 1 and hook.chance(100) == 0.25
    assert [hook.chance(i) for i in range(9)] == sorted(hook.chance(i) for i in range(9))[::-1]


def test_the_gradient_at_masked_weights_moves_weights_outside_the_mask():
    model = mlp()
    hook = hook_of(model, low=-1.0, high=9.0)
    optimizer = started(hook, model)
    hook.masks["2.weight"][3, 5] = False
    hook._show()
    assert model[2].weight[3, 5] == 0
    before = hook.dense["2.weight"][3, 5].item()
    x, y = next(batches(toy(), 96))
    nn.functional.cross_entropy(model(x), y).backward()
    slope = model[2].weight.grad[3, 5].item()
    assert slope != 0
    hook.before_step()
    optimizer.step()
    hook.after_step()
    assert hook.dense["2.weight"][3, 5].item() == pytest.approx(before - 0.1 * slope)
    assert model[2].weight[3, 5] == 0


def test_without_splicing_masked_weights_stand_still_for_good():
    model = mlp()
    hook = hook_of(model, splice=False)
    optimizer = started(hook, model)
    gone = ~hook.masks["2.weight"]
    before = hook.dense["2.weight"].clone()
    x, y = next(batches(toy(), 96))
    nn.functional.cross_entropy(model(x), y).backward()
    hook.before_step()
    optimizer.step()
    hook.after_step()
    assert gone.any() and torch.equal(hook.dense["2.weight"][gone], before[gone])
    last = hook.masks["2.weight"].clone()
    hook.dense["2.weight"].fill_(1.0)
    hook._show()
    assert torch.equal(hook.masks["2.weight"], last) and hook.spliced == 0


def test_after_the_stop_masks_are_frozen():
    model = mlp()
    hook = hook_of(model, stop=3)
    started(hook, model)
    for step in range(1, 8):
        hook.step = step
        for dense in hook.dense.values():
            dense.fill_(0.0 if step % 2 else 1.0)
        hook._show()
    assert all(m.all() for m in hook.masks.values())  # as of step 2


def test_thresholds_look_at_sizes_that_are_not_zero():
    weight = torch.tensor([[0.0, 1.0], [-3.0, 2.0]])
    middle, spread = 2.0, math.sqrt(2 / 3)
    for c in (0.5, 2.0, -1.0):
        level = max(middle + c * spread, 0)
        assert thresholds(weight, c) == pytest.approx((0.9 * level, 1.1 * level))
    assert thresholds(weight, -100.0) == (0.0, 0.0)


def test_a_rate_gives_a_density_of_its_own_and_splices():
    recipe = Recipe(epochs=6, lr=0.1, batch_size=16)
    given = setting(density=None, tuning=recipe)
    outcome = apply(SURGERY, given, c_rate=0.5, gamma=0.0)
    assert 0 < outcome.density < 0.6
    with pytest.raises(PruneError, match=r"c_rate names no value for '0\.weight'"):
        apply(SURGERY, setting(), c_rate={"2.weight": 1.0})
    with pytest.raises(PruneError, match="stop is a share"):
        apply(SURGERY, setting(), stop=2.0)
