"""Layers and widths under one budget."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import sentei
from sentei import PruneError, Target, prune
from sentei.allocation.table import LatencyTable
from sentei.graph.groups import analyze
from sentei.pruning.depth import absolute
from sentei.tasks.models import digits_resnet, digits_vit


class Block(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.a, self.b = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x):
        return x + self.b(self.a(x).relu())


def tower(blocks=4, width=12, inner=24):
    torch.manual_seed(0)
    parts = [
        nn.Linear(6, width),
        *(Block(width, inner) for _ in range(blocks)),
        nn.Linear(width, 3),
    ]
    return nn.Sequential(*parts)


def data(n=48):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, 6, generator=generator), torch.randint(3, (n,), generator=generator)


def test_a_block_that_does_nothing_goes_before_any_width():
    net, (x, _) = tower(), data()
    with torch.no_grad():
        net[2].b.weight.mul_(1e-4), net[2].b.bias.zero_()
        net[2].a.weight.mul_(1e-4), net[2].a.bias.zero_()
    want = net(x).detach()
    macs = sentei.analyze(net, x).cost().macs
    block = 2 * 48 * 12 * 24
    for options in ({}, {"data": (x, want), "loss": F.mse_loss}):
        result = prune(
            net, x, target=Target(macs=macs - block), depth=True, inplace=False, **options
        )
        assert [layer.name for layer in result.layers] == ["2"]
        assert result.layers[0].verification.passed
        assert result.keep == {}
        assert result.reached["macs"] <= result.asked["macs"]
        assert result.before.macs == macs
        torch.testing.assert_close(result.model(x), want, atol=1e-5, rtol=1e-4)
        assert "1 layers taken out: 2." in str(result)


def test_layers_and_widths_go_together_and_the_budget_holds():
    x = torch.randn(2, 1, 8, 8)
    for build in (digits_resnet, digits_vit):
        torch.manual_seed(0)
        net = build()
        before = copy.deepcopy(net.state_dict())
        result = prune(
            net, x, target=Target(macs=0.3, params=0.5), depth=True, inplace=False,
            data=(torch.randn(32, 1, 8, 8), torch.arange(32) % 10), loss=F.cross_entropy,
        )  # fmt: skip
        assert all(result.reached[n] <= result.asked[n] for n in ("macs", "params"))
        assert result.verification is None or result.verification.passed
        assert all(layer.verification.passed for layer in result.layers)
        assert analyze(result.model, x).cost().macs == result.reached["macs"]
        assert result.after.params == sum(p.numel() for p in result.model.parameters())
        assert all(torch.equal(t, before[n]) for n, t in net.state_dict().items())


def test_fractions_are_of_the_whole_network():
    net = tower()
    groups = analyze(net, data()[0])
    wanted = absolute(Target(params=0.5, macs=0.25, width=0.7, units=40), groups, 108)
    cost = groups.cost()
    assert (wanted.params, wanted.macs) == (cost.params // 2, cost.macs // 4)
    assert (wanted.width, wanted.units) == (0.7, 40)


def test_protected_layers_stay():
    net, (x, y) = tower(), data()
    result = prune(
        net, x, target=Target(macs=0.6), depth=True, protect=["1*", "2", "3.*"], inplace=False,
        data=(x, y), loss=F.cross_entropy,
    )  # fmt: skip
    assert {layer.name for layer in result.layers} <= {"4", "4.a", "4.b"}
    assert result.reached["macs"] <= result.asked["macs"]


def test_a_dry_run_and_an_impossible_budget_leave_the_model_alone():
    net, (x, _) = tower(), data()
    before = copy.deepcopy(net.state_dict())
    planned = prune(net, x, target=Target(macs=0.3), depth=True, dry_run=True)
    assert planned.model is net
    assert planned.reached["macs"] <= planned.asked["macs"]
    with pytest.raises(PruneError, match="budget out of reach"):
        prune(net, x, target=Target(macs=0.0001), depth=True)
    assert len(net) == 6
    assert all(torch.equal(t, before[n]) for n, t in net.state_dict().items())
    done = prune(net, x, target=Target(macs=0.3), depth=True)
    assert done.model is net
    assert [layer.name for layer in done.layers] == [layer.name for layer in planned.layers]


class Count:
    """A model takes a microsecond for each linear layer: only depth helps."""

    def operator(self, signature, run):
        return 1e-6 if "linear" in signature else 1e-9

    def models(self, models, call):
        return [1e-6 * sum(type(m) is nn.Linear for m in net.modules()) for net in models]


def counted():
    return LatencyTable(stopwatch=Count(), folder=False, progress=False)


def test_latency_by_layers():
    net, (x, _) = tower(), data()
    result = prune(net, x, target=Target(latency=0.61), depth=True, latency_table=counted())
    assert len(result.layers) == 2
    assert result.timing.before == pytest.approx(1e-5)
    assert result.reached["latency"] == pytest.approx(6e-6)
    assert result.reached["latency"] <= result.asked["latency"]


@pytest.mark.parametrize("share, gone", [(0.9, 0), (0.6, 1), (0.3, 2)])
def test_the_fastest_mixture_takes_out_layers_and_no_more_than_was_asked_for(share, gone):
    net, (x, y) = tower(), data()
    with torch.no_grad():  # of layers that save equal time the one of least score goes first
        net[3].a.weight.mul_(0.1), net[3].b.weight.mul_(0.1)
    result = prune(
        net, x, target=Target(macs=share), allocation="fastest", depth=True, inplace=False,
        latency_table=counted(), data=(x, y), loss=F.cross_entropy,
    )  # fmt: skip
    assert len(result.layers) == gone and [g.name for g in result.layers[:1]] == ["3"][:gone]
    assert result.keep
    assert 0.9 * result.asked["macs"] <= result.reached["macs"] <= result.asked["macs"]
    wide = prune(
        net, x, target=Target(macs=share), allocation="fastest", inplace=False,
        latency_table=counted(),
    )  # fmt: skip
    assert result.timing.after <= wide.timing.after
