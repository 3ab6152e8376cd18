from itertools import pairwise

import pytest
import torch
from torch import nn

from sentei.graph.errors import PruneError
from sentei.methods import METHODS, apply
from sentei.recovery.train import Recipe
from sentei.schedules.threshold import Ramp
from tests.methods.magnitude.nets import setting

NARANG = METHODS["narang-gradual-rnn"]


@pytest.mark.parametrize("start,ramp,end,freq", [(10, 100, 200, 10), (0, 50, 51, 1), (3, 3, 9, 2)])
def test_it_ends_at_q_but_for_the_ones(start, ramp, end, freq):
    curve = Ramp(0.7, start, ramp, end, freq)
    assert curve(end) == pytest.approx(0.7 + 2.5 * curve.theta / freq)


def test_it_never_falls_and_jumps_by_one_step_at_most():
    curve = Ramp(0.7, 10, 100, 200, 10)
    values = [curve(t) for t in range(10, 201)]
    assert values == sorted(values)
    steps = [b - a for a, b in pairwise(values)]
    assert max(steps) == pytest.approx((1 + 1.5) * curve.theta / 10, rel=1e-6)


def test_impossible_ramps_speak():
    with pytest.raises(PruneError, match="start <= ramp <= end"):
        Ramp(1.0, 5, 3, 9, 1)
    with pytest.raises(PruneError, match="shares of the training in this order"):
        apply(NARANG, setting(), ramp=0.9, end=0.2)
    with pytest.raises(PruneError, match=r"q names no threshold for '0\.weight'"):
        apply(NARANG, setting(), q={"2.weight": 0.1})


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.RNN(2, 16, batch_first=True)
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        return self.head(self.cell(x.unflatten(1, (4, 2)))[0][:, -1])


def recurrent(**more):
    torch.manual_seed(0)
    recipe = Recipe(epochs=8, lr=2e-3, batch_size=16, optimizer="adam")
    return setting(0.2, model=Recurrent(), recipe=recipe, tuning=Recipe(epochs=0), **more)


def test_masks_only_shrink_and_are_fixed_after_the_end(monkeypatch):
    from sentei.hooks.gradual import GradualHook

    held = []
    hold = GradualHook.hold

    def watched(self, masks):
        held.append((self.step, masks))
        hold(self, masks)

    monkeypatch.setattr(GradualHook, "hold", watched)
    given = recurrent()
    outcome = apply(NARANG, given)
    steps = [step for step, _ in held]
    assert len(held) > 5 and max(steps) == 24  # half of 8 epochs of 6 steps
    for (_, a), (_, b) in pairwise(held):
        assert (a & b).equal(b)
    assert outcome.masks.equal(held[-1][1])
    assert set(outcome.masks) == {"cell.weight_ih_l0", "cell.weight_hh_l0", "head.weight"}
    assert len(outcome.logs) == 2  # the dense run that q comes from, and the pruned one


def test_given_thresholds_need_no_dense_run():
    given = recurrent()
    outcome = apply(NARANG, given, q=dict.fromkeys(given.weights, 0.1))
    assert len(outcome.logs) == 1 and 0 < outcome.density < 1
