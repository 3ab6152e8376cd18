"""Curves by real cuts, against cutting by hand."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import sentei
from sentei import PruneError, Sensitivity, Target, sensitivity
from sentei.tasks.models import digits_resnet


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3)
    )


def data(n=64):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, 6, generator=generator), torch.randint(3, (n,), generator=generator)


def test_every_point_is_what_a_cut_by_hand_gives():
    model, (x, y) = net(), data()
    before = copy.deepcopy(model.state_dict())
    found = sensitivity(
        model, x[:2], data=(x, y), loss=F.cross_entropy, ratios=(0.25, 0.5), progress=False
    )
    assert found.baseline == pytest.approx(float(F.cross_entropy(model(x), y).detach()))
    assert {n: c.shares for n, c in found.curves.items()} == {
        "0": (1.0, 0.75, 0.5), "2": (1.0, 0.75, 0.5),
    }  # fmt: skip
    for name, other in (("0", "2"), ("2", "0")):
        small = sentei.prune(
            model, x[:2], target=Target(width=0.5), protect=[other], inplace=False
        ).model
        want = float(F.cross_entropy(small(x), y).detach())
        assert found.curves[name].values[2] == pytest.approx(want)
        assert found.curves[name].damage[2] == pytest.approx(max(0.0, want - found.baseline))
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())


def test_accuracy_and_metrics_of_ones_own():
    model, (x, y) = net(), data()
    found = sensitivity(model, x[:2], data=(x, y), metric="accuracy", progress=False)
    assert found.higher_is_better
    assert found.baseline == pytest.approx(float((model(x).argmax(1) == y).float().mean()))

    def width(model):
        return float(model[0].out_features)

    own = sensitivity(model, x[:2], data=None, metric=width, ratios=[0.5], progress=False)
    assert own.metric == "width"
    assert own.curves["0"].damage == (0.0, 8.0)
    assert own.curves["2"].damage == (0.0, 0.0)


def test_it_prints_and_survives_json():
    model, (x, y) = net(), data()
    found = sensitivity(model, x[:2], data=(x, y), metric="accuracy", progress=False)
    assert Sensitivity.from_json(found.to_json()) == found
    assert "accuracy by share removed" in str(found)
    with pytest.raises(PruneError, match="no sensitivity report"):
        Sensitivity.from_json("{}")


def test_words():
    model, (x, y) = net(), data()
    with pytest.raises(PruneError, match="unknown metric 'acuracy'; closest: 'accuracy'"):
        sensitivity(model, x[:2], data=(x, y), metric="acuracy")
    with pytest.raises(PruneError, match="between 0 and 1"):
        sensitivity(model, x[:2], data=(x, y), ratios=[1.5])
    with pytest.raises(PruneError, match="no loss: give loss="):
        sensitivity(model, x[:2], data=(x, y))
    with pytest.raises(PruneError, match="needs data="):
        sensitivity(model, x[:2], data=None)


def test_as_an_allocation():
    """What the loss does not feel goes first, however large its weights are."""
    model, (x, y) = net(), data()
    with torch.no_grad():  # the first layer's units in pairs: one of each is silent in the next
        model[2].weight[:, 8:] = 0
    result = sentei.prune(
        model, x[:2], target=Target(params=0.75), allocation="sensitivity", data=(x, y),
        loss=F.cross_entropy, inplace=False,
    )  # fmt: skip
    assert result.reached["params"] <= result.asked["params"]
    assert result.plan.widths["0"] / 16 < result.plan.widths.get("2", 12) / 12
    assert "sensitivity" in result.seconds
    with pytest.raises(PruneError, match="sensitivity needs data="):
        sentei.prune(model, x[:2], target=Target(params=0.8), allocation="sensitivity")


def test_a_whole_network():
    x = torch.randn(8, 1, 8, 8)
    found = sensitivity(
        digits_resnet(width=8), x, data=(x, torch.arange(8)), metric="accuracy", ratios=[0.5],
        progress=False,
    )  # fmt: skip
    assert all(curve.shares == (1.0, 0.5) for curve in found.curves.values())
