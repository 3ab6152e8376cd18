"""C3: instability analysis."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sentei.diagnostics import linear_mode_connectivity
from sentei.graph.errors import PruneError
from sentei.methods.lottery.rounds import cut
from sentei.recovery.finetune import evaluate
from sentei.structures import Masks


def trained(setting, seed):
    own = copy.deepcopy(setting)
    own.train(seed=seed)
    return own.state()


def error(data):
    return lambda model: 1 - evaluate(model, data).accuracy


def test_two_equal_networks_are_connected(make):
    given = make()
    one = trained(given, 1)
    found = linear_mode_connectivity(
        given.model, one, one, error(given.data), statistics=given.data
    )
    assert found.instability == 0 and found.stable and len(found.errors) == 11


def test_it_is_symmetric(make):
    given = make()
    one, two = trained(given, 1), trained(given, 2)
    before = given.state()
    there, back = (
        linear_mode_connectivity(given.model, a, b, error(given.data), statistics=given.data)
        for a, b in ((one, two), (two, one))
    )
    assert there.errors == back.errors[::-1]
    assert there.instability == back.instability
    assert all(torch.equal(t, before[n]) for n, t in given.state().items())


def test_a_convex_model_has_no_barrier_in_its_loss(make):
    given = make(model=nn.Linear(8, 4))
    one, two = trained(given, 1), trained(given, 2)
    assert not torch.equal(one["weight"], two["weight"])
    x, y = given.data
    found = linear_mode_connectivity(
        given.model, one, two, lambda m: F.cross_entropy(m(x), y).item()
    )
    assert found.barrier <= 1e-6
    # The largest error is at an end: no more than half the difference of the two is left.
    assert found.instability <= abs(found.errors[0] - found.errors[-1]) / 2 + 1e-6


def test_masked_weights_do_not_count(make):
    given = make(model=nn.Sequential(nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 4)))
    one, two = trained(given, 1), trained(given, 2)
    full = Masks.full(given.weights)
    scores = {n: torch.rand(m.shape) for n, m in full.items()}
    masks = cut(scores, full, dict.fromkeys(full, 0.5))
    noisy = {n: t.masked_fill(~masks[n], 9.0) if n in masks else t for n, t in two.items()}
    a = linear_mode_connectivity(given.model, one, two, error(given.data), masks=masks)
    b = linear_mode_connectivity(given.model, one, noisy, error(given.data), masks=masks)
    assert a == b


def test_statistics_are_those_of_the_mean_network(make):
    given = make()
    one, two = trained(given, 1), trained(given, 2)
    seen = []

    def look(model):
        x, _ = given.data
        seen.append((model[1].running_mean.clone(), model[0](x).mean(0)))
        assert model[1].momentum == 0.1
        return 0.0

    linear_mode_connectivity(given.model, one, two, look, points=3, statistics=given.data)
    for running, actual in seen:
        torch.testing.assert_close(running, actual.detach())


def test_mistakes_speak(make):
    given = make()
    state = given.state()
    with pytest.raises(PruneError, match="at least 2 points; got 1"):
        linear_mode_connectivity(given.model, state, state, lambda m: 0.0, points=1)
    less = {n: t for n, t in state.items() if n != "0.bias"}
    with pytest.raises(PruneError, match=r"differ in what they hold: 0\.bias"):
        linear_mode_connectivity(given.model, state, less, lambda m: 0.0)
