"""C12: scratch-E and scratch-B."""

import copy

import pytest
import torch
from torch import nn

from sentei import Target
from sentei.graph.errors import PruneError
from sentei.methods import METHODS, apply
from sentei.methods.lottery.rethinking_value import scratch_epochs


def net():
    return nn.Sequential(
        nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 4)
    )


def outcome(make, budget, **options):
    torch.manual_seed(0)
    given = make(None, model=net(), target=Target(macs=0.5))
    given.train()
    found = apply(METHODS["rethinking-value"], given, budget=budget, **options)
    return given, found


@pytest.mark.parametrize("ratio, epochs", [(1.0, 160), (1.5, 240), (3.0, 480), (2.999, 479)])
def test_epochs_of_equal_compute(ratio, epochs):
    assert scratch_epochs(160, ratio, 1.0) == epochs
    assert scratch_epochs(160, ratio, 1.0, cap=2) == min(epochs, 320)


def test_all_three_have_the_same_architecture_and_their_own_training(make):
    found = {b: outcome(make, b)[1] for b in ("inherit", "epochs", "compute")}
    shapes = {b: [tuple(p.shape) for p in o.model.parameters()] for b, o in found.items()}
    assert shapes["inherit"] == shapes["epochs"] == shapes["compute"]
    ratio = found["compute"].result.before.macs / found["compute"].result.after.macs
    assert found["epochs"].steps == 3 * 6
    assert found["compute"].steps == int(3 * ratio) * 6 > 3 * 6


def test_scratch_starts_from_fresh_weights_that_pair_by_seed(make):
    seen = {}
    for budget in ("epochs", "compute"):
        given, _ = outcome(make, budget)
        seen[budget] = given.began[-1][0]
    inherited = outcome(make, "inherit")[0].began[-1][0]
    for name, values in seen["epochs"].items():
        assert torch.equal(values, seen["compute"][name])
    assert not torch.equal(seen["epochs"]["0.weight"], inherited["0.weight"])


def test_weights_can_be_drawn_otherwise(make):
    def init(model):
        for p in model.parameters():
            nn.init.constant_(p, 0.5)

    given, _ = outcome(make, "epochs", init=init)
    assert all((t == 0.5).all() for t in given.began[-1][0].values())


def test_mistakes_leave_the_model_alone(make):
    given = make(None, model=net(), target=Target(macs=0.5))
    before = copy.deepcopy(given.model.state_dict())
    with pytest.raises(PruneError, match="unknown budget 'flops'"):
        apply(METHODS["rethinking-value"], given, budget="flops")
    assert all(torch.equal(t, before[n]) for n, t in given.model.state_dict().items())
