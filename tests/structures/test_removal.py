"""Units that masks left without effect are taken out, and nothing else changes."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import sentei
from sentei.allocation.weights import top
from sentei.graph.errors import PruneError
from sentei.structures import removal
from sentei.structures.removal import shrink


def same(model, before, x):
    torch.testing.assert_close(model.eval()(x), before.eval()(x), rtol=0, atol=1e-6)


def test_units_that_nothing_reads_go():
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    with torch.no_grad():
        net[2].weight[:, [1, 4]] = 0
    before = copy.deepcopy(net)
    done = shrink(net, torch.randn(2, 4).double())
    assert done.removed == {"0": 2} and net[0].out_features == 4 and not done.folded
    same(net, before, torch.randn(20, 4).double())


def test_constant_units_go_into_the_bias_of_what_reads_them():
    net = nn.Sequential(nn.Linear(4, 6), nn.Sigmoid(), nn.Linear(6, 5), nn.ReLU(),
                        nn.Linear(5, 3)).double()  # fmt: skip
    with torch.no_grad():
        net[0].weight[[0, 3]] = 0
        net[0].bias[0] = 2.0
    before = copy.deepcopy(net)
    done = shrink(net, torch.randn(2, 4).double())
    assert done.removed == {"0": 2} and done.folded == {"2.bias": 2} and done.error < 1e-12
    same(net, before, torch.randn(20, 4).double())


def test_what_starves_goes_too():
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    with torch.no_grad():
        net[2].weight[1:, 2] = 0  # unit 2 feeds only unit 0, which nothing reads
        net[4].weight[:, 0] = 0
    before = copy.deepcopy(net)
    assert shrink(net, torch.randn(2, 4)).removed == {"2": 1, "0": 1}
    same(net, before, torch.randn(20, 4))


def test_convolutions_batch_norms_and_padding():
    def build(padding):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(),
            nn.Conv2d(6, 8, 3, padding=padding), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(8, 4),
        ).double()  # fmt: skip
        with torch.no_grad():
            net[0].weight[2] = 0  # constant, and positive after the norm
            net[1].bias[2] = 1.0
            net[0].weight[3] = 0  # constant, and cut off by the ReLU
            net[1].bias[3] = -5.0
        return net

    x = torch.randn(2, 3, 8, 8).double()
    plain, padded = build(0), build(1)
    for net, gone in ((plain, 2), (padded, 1)):
        before = copy.deepcopy(net)
        done = shrink(net, x)
        assert done.removed == {"0": gone}
        same(net, before, torch.randn(4, 3, 8, 8).double())
    assert "pads with zeros" in done.left["0"]


def test_residual_streams_and_norms_that_count_them():
    class Block(nn.Module):
        def __init__(self, norm):
            super().__init__()
            self.stem, self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 8)
            self.norm = nn.LayerNorm(8) if norm else nn.Identity()
            self.head = nn.Linear(8, 2)

        def forward(self, x):
            x = self.stem(x)
            x = x + self.b(F.relu(self.a(x)))
            return self.head(self.norm(x))

    for norm in (False, True):
        net = Block(norm).double()
        with torch.no_grad():
            for layer in (net.a, net.head):
                layer.weight[:, 5] = 0  # nothing reads channel 5 of the stream
            net.b.weight[:, 1] = 0  # nothing reads unit 1 inside
        before = copy.deepcopy(net)
        done = shrink(net, torch.randn(2, 4).double())
        assert done.removed == ({"a": 1} if norm else {"a": 1, "stem": 1})
        assert ("stem" in done.left) == norm
        same(net, before, torch.randn(20, 4).double())


def test_a_layer_without_effect_keeps_one_unit():
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    with torch.no_grad():
        net[2].weight.zero_()
    before = copy.deepcopy(net)
    shrink(net, torch.randn(2, 4))
    assert net[0].out_features == 1
    same(net, before, torch.randn(20, 4))


def test_a_unit_that_something_else_reads_stays():
    class Side(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 3)

        def forward(self, x):
            h = F.relu(self.a(x))
            return self.b(h) + h.square().sum(-1, keepdim=True)

    net = Side().double()
    with torch.no_grad():
        net.b.weight[:, 2] = 0
    before = copy.deepcopy(net)
    done = shrink(net, torch.randn(2, 4).double())
    assert not done.removed and done.left == {"a": "something else reads it"}
    same(net, before, torch.randn(20, 4).double())


@pytest.mark.parametrize("density", [0.02, 0.1])
def test_random_masks_on_a_convolutional_network(density):
    torch.manual_seed(3)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(12 * 16, 20), nn.ReLU(), nn.Linear(20, 4),
    ).double()  # fmt: skip
    with torch.no_grad():
        for layer in net:
            if hasattr(layer, "weight") and layer.weight.dim() > 1:
                size = layer.weight.numel()
                layer.weight.mul_(top(torch.rand(layer.weight.shape), max(int(density * size), 1)))
    before = copy.deepcopy(net)
    params = sum(p.numel() for p in net.parameters())
    done = shrink(net, torch.randn(2, 1, 8, 8).double())
    assert done.removed and sum(p.numel() for p in net.parameters()) < params
    same(net, before, torch.randn(10, 1, 8, 8).double())


def test_an_error_leaves_the_model_as_it_was(monkeypatch):
    net = nn.Sequential(nn.Linear(4, 6), nn.Sigmoid(), nn.Linear(6, 3))
    with torch.no_grad():
        net[0].weight[0] = 0
    before = copy.deepcopy(net.state_dict())
    monkeypatch.setattr(removal, "_TOLERANCE", -1.0)
    with pytest.raises(PruneError, match="changed the outputs"):
        shrink(net, torch.randn(2, 4))
    after = net.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(t, after[n]) for n, t in before.items())
    assert net[0].out_features == 6


def test_the_state_of_the_optimiser_follows():
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0, momentum=0.9)
    net(torch.randn(5, 4)).sum().backward()
    optimizer.step()
    with torch.no_grad():
        net[2].weight[:, 1] = 0
    state = optimizer.state[net[0].weight]["momentum_buffer"].clone()
    shrink(net, torch.randn(2, 4), optimizer=optimizer)
    kept = [0, 2, 3, 4, 5]
    assert torch.equal(optimizer.state[net[0].weight]["momentum_buffer"], state[kept])


def test_what_was_shrunk_is_saved_and_loaded(tmp_path):
    def build():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 6), nn.Sigmoid(), nn.Linear(6, 3))

    net, x = build(), torch.randn(5, 4)
    with torch.no_grad():
        net[0].weight[2] = 0
        net[2].weight[:, 4] = 0
    sentei.shrink(net, x)
    sentei.save(net, tmp_path / "net")
    again = sentei.load(tmp_path / "net", model=build())
    assert again[0].out_features == 4 and torch.equal(again(x), net(x))
