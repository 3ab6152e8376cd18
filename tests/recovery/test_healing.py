"""Repair without labels: exact where theory says so, an improvement where it does not."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import sentei
from sentei.graph.errors import PruneError
from sentei.hooks import Distill
from sentei.recovery import Recipe, compensate, merge, recalibrate, reconstruct, soften, train


def conv_net(bias: bool = True) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 12, 3, padding=1, bias=bias), nn.ReLU(),
        nn.Conv2d(12, 10, 3, stride=2, padding=1, dilation=1, bias=bias), nn.ReLU(),
        nn.Flatten(), nn.Linear(160, 24), nn.ReLU(), nn.Linear(24, 5),
    ).double()  # fmt: skip


def images(n: int = 96) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    return torch.randn(n, 2, 8, 8, generator=g).double(), torch.randint(5, (n,), generator=g)


def pruned(model: nn.Module, x: torch.Tensor, width: float = 0.5, **options):
    return sentei.prune(model, x[:2], target=sentei.Target(width=width), inplace=False,
                        **{"allocation": "local"} | options)  # fmt: skip


def gap(one: nn.Module, two: nn.Module, x: torch.Tensor) -> float:
    with torch.no_grad():
        return float((one(x) - two(x)).square().mean() / two(x).square().mean())


def test_constant_units_are_compensated_exactly():
    model, (x, y) = conv_net(), images()
    with torch.no_grad():  # units 0..3 of the first layers answer the same whatever they see
        for layer in (model[0], model[2], model[5]):
            layer.weight[:4] = 0
            layer.bias[:4] = torch.tensor([0.3, 0.5, 0.7, 0.9])
    result = sentei.delete_units(
        model, {"0": range(4), "2": range(4), "5": range(4)}, x[:2], inplace=False
    )
    assert gap(result.model, model, x) > 1e-3
    assert compensate(model, result.model, result.surgery, (x, y)) == []
    # Border pixels of a padded convolution see fewer taps: only the mean is exact there.
    assert gap(result.model, model, x) < 1e-3
    flat = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    flat = flat.double()
    with torch.no_grad():
        flat[0].weight[:3] = 0
        flat[2].weight[:3] = 0
    z = torch.randn(20, 6).double()
    result = sentei.delete_units(flat, {"0": [0, 1, 2], "2": [0, 1, 2]}, z, inplace=False)
    compensate(flat, result.model, result.surgery, (z, torch.zeros(20)))
    assert gap(result.model, flat, z) < 1e-24


def test_layers_without_a_bias_are_named():
    model, (x, y) = conv_net(bias=False), images()
    result = pruned(model, x)
    assert compensate(model, result.model, result.surgery, (x, y)) == ["2"]


def test_redundant_units_are_reconstructed_exactly():
    """A unit that is a combination of others costs nothing to lose once consumers are refitted."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, 3)).double()
    x = torch.randn(200, 6).double()
    result = sentei.delete_units(model, "0", [0, 1], x, inplace=False)  # 6 inputs span all 8
    assert gap(result.model, model, x) > 1e-3
    told = reconstruct(model, result.model, result.surgery, (x, torch.zeros(200)), ridge=1e-12)
    assert [t.layer for t in told] == ["0", "1", "3"]
    assert gap(result.model, model, x) < 1e-12


@pytest.mark.parametrize("bias", [True, False])
def test_reconstruction_helps_on_data_it_did_not_see(bias):
    model, (x, y) = conv_net(bias), images(256)
    result = pruned(model, x, 0.7)
    new = torch.randn(64, 2, 8, 8).double()
    before = gap(result.model, model, new)
    told = reconstruct(model, result.model, result.surgery, (x, y), batch_size=32)
    assert gap(result.model, model, new) < 0.7 * before
    assert all(t.after <= t.before or not t.used for t in told)


class Normed(nn.Module):
    """Two convolutions, each into a batch norm; where `seen`, the first is added behind it, too."""

    def __init__(self, seen: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.norm = nn.Conv2d(2, 12, 3, padding=1), nn.BatchNorm2d(12)
        self.two, self.last = nn.Conv2d(12, 10, 3), nn.BatchNorm2d(10)
        self.head, self.seen = nn.Linear(10, 4), seen

    def forward(self, x):
        one = self.one(x)
        y = self.norm(one).relu()
        two = self.two(y + one if self.seen else y)
        return self.head(self.last(two).relu().mean((2, 3)))


@pytest.mark.parametrize("seen", [False, True])
def test_a_refit_in_front_of_a_batch_norm_keeps_its_lengths_and_its_function(seen):
    x, y = images(128)
    model = Normed(seen).double()
    model.train()(x)
    model.eval()
    result = sentei.delete_units(model, {"one": range(7)}, x[:2], inplace=False)
    free, kept = copy.deepcopy(result.model), copy.deepcopy(result.model)
    told = reconstruct(model, free, result.surgery, (x, y))
    assert not any(t.kept_norm for t in told)
    told = reconstruct(model, kept, result.surgery, (x, y), keep_norms=True)
    told = {t.layer: t for t in told}
    length = {
        name: net.two.weight.flatten(1).norm(dim=1)
        for name, net in {"was": result.model, "free": free, "kept": kept}.items()
    }
    assert told["two"].used and told["two"].kept_norm
    assert not told["head"].kept_norm
    torch.testing.assert_close(length["kept"], length["was"])
    assert (length["free"] > 1.1 * length["was"]).all()
    torch.testing.assert_close(kept(x), free(x), rtol=1e-6, atol=1e-8)


def test_lengths_are_not_kept_where_somebody_else_looks():
    """The output of `one` goes to a batch norm and past it: scaled, it would not be the same."""
    from sentei.recovery.pairs import in_order, pairs
    from sentei.recovery.reconstruct import _keep_lengths, _matrix, _norms_behind

    x, y = images(32)
    for seen in (False, True):
        model = Normed(seen).double().eval()
        result = sentei.delete_units(model, {"one": range(4)}, x[:2], inplace=False)
        small, batch = result.model, (x, y)
        one = in_order(pairs(model, small, result.surgery), small, batch)[0]
        norm = _norms_behind([one], small, batch)["one"]
        assert norm is small.norm
        before, answers = copy.deepcopy(small.state_dict()), small(x)
        assert _keep_lengths(one.after, norm, 3 * _matrix(one.after), small, batch) is not seen
        torch.testing.assert_close(small(x), answers)
        if seen:
            for name, value in small.state_dict().items():
                assert torch.equal(value, before[name]), name


def test_softened_logits_give_the_same_answers_with_the_confidence_asked_for():
    model, (x, y) = conv_net().eval(), images()
    with torch.no_grad():
        model[-1].weight.mul_(50)
    before = model(x)
    factor = soften(model, (x, y), confidence=0.4)
    after = model(x)
    assert 0 < factor < 1
    torch.testing.assert_close(after, factor * before)
    assert after.softmax(1).amax(1).mean().item() == pytest.approx(0.4, abs=1e-6)
    assert soften(model, (x, y), confidence=0.4) == pytest.approx(1)
    assert soften(model, (x, y), confidence=0.9) == 1  # less sure than that: left as it is


def test_logits_with_classes_in_another_place_are_softened_and_others_refused():
    class Last(nn.Module):
        def __init__(self, end):
            super().__init__()
            torch.manual_seed(0)
            self.head, self.end = nn.Linear(6, 3), end

        def forward(self, x):
            return self.end(self.head(x))

    x = 9 * torch.randn(8, 5, 6)
    words = Last(lambda y: y.transpose(1, 2))  # (N, classes, positions)
    assert soften(words, (x, x), confidence=0.5) < 1
    assert words(x).softmax(1).amax(1).mean().item() == pytest.approx(0.5, abs=1e-4)
    for end in (torch.tanh, lambda y: y.log_softmax(-1)):
        model = Last(end)
        held = copy.deepcopy(model.state_dict())
        with pytest.raises(PruneError, match="not that of a linear layer"):
            soften(model, (x, x))
        assert all(torch.equal(v, held[k]) for k, v in model.state_dict().items())
    for wrong in (0.2, 1.5):
        with pytest.raises(PruneError, match="confidence"):
            soften(words, (x, x), confidence=wrong)


def test_weights_that_are_used_elsewhere_are_not_softened():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.head = nn.Embedding(7, 4), nn.Linear(4, 7, bias=False)
            self.head.weight = self.words.weight

        def forward(self, x):
            return self.head(9 * self.words(x))

    with pytest.raises(PruneError, match="'words' uses the weights"):
        soften(Tied(), (torch.arange(7), torch.arange(7)))


def test_the_patches_of_any_convolution_are_those_its_weight_sees():
    from sentei.recovery.pairs import Pair, inputs

    for layer, x in (
        (nn.Conv2d(3, 4, (3, 2), stride=2, padding=(1, 0), dilation=2), torch.randn(2, 3, 9, 8)),
        (nn.Conv2d(3, 4, 3, padding="same"), torch.randn(2, 3, 5, 5)),
        (nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"), torch.randn(2, 3, 5, 5)),
        (nn.Conv1d(3, 4, 3, stride=2), torch.randn(2, 3, 9)),
        (nn.Conv3d(2, 4, 2), torch.randn(1, 2, 4, 4, 4)),
    ):
        every = torch.arange(4), torch.arange(x.shape[1]), torch.ones(4)
        pair = Pair("", layer, layer, *every)
        y = inputs(pair, x) @ layer.weight.flatten(1).T + layer.bias
        torch.testing.assert_close(y, layer(x).movedim(1, -1).reshape(-1, 4))


def test_twins_are_merged_exactly():
    for norm in (False, True):
        torch.manual_seed(0)
        middle = [nn.BatchNorm2d(6)] if norm else []
        model = nn.Sequential(
            nn.Conv2d(2, 6, 3), *middle, nn.ReLU(), nn.Conv2d(6, 4, 3), nn.ReLU(),
            nn.Flatten(), nn.Linear(64, 3),
        ).double().eval()  # fmt: skip
        with torch.no_grad():
            model[0].weight[3] = 2.5 * model[0].weight[1]
            model[0].bias[3] = 2.5 * model[0].bias[1]
            if norm:
                m = model[1]
                m.weight.uniform_(0.5, 2)
                m.bias.normal_()
                m.running_mean.normal_()
                m.running_var.uniform_(0.5, 2)
                # The twin's batch norm is such that it is 2.5 times the other after it, too.
                m.running_mean[3], m.running_var[3] = m.running_mean[1] * 2.5, m.running_var[1]
                m.eps, m.weight[3], m.bias[3] = 0.0, m.weight[1], 2.5 * m.bias[1]
        x = torch.randn(4, 2, 8, 8).double()
        result = sentei.delete_units(model, "0", [3], x, inplace=False)
        assert gap(result.model, model, x) > 1e-4
        told = merge(model, result.model, result)
        assert [(t.unit, t.into) for t in told] == [(3, 1)]
        assert told[0].factor == pytest.approx(2.5) and told[0].cosine == pytest.approx(1)
        assert gap(result.model, model, x) < 1e-24


def test_merging_across_a_flatten_moves_every_position():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)).double()
    with torch.no_grad():
        model[0].weight[2] = model[0].weight[0]
        model[0].bias[2] = model[0].bias[0]
    x = torch.randn(4, 1, 4, 4).double()
    result = sentei.delete_units(model, "0", [2], x, inplace=False)
    merge(model, result.model, result)
    assert gap(result.model, model, x) < 1e-24


def test_recalibrated_statistics_are_those_of_the_data():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2))
    model[1].momentum = 0.3
    x = torch.randn(64, 4)
    recalibrate(model, (x, x), batch_size=64)
    hidden = model[0](x)
    torch.testing.assert_close(model[1].running_mean, hidden.mean(0))
    torch.testing.assert_close(model[1].running_var, hidden.var(0))
    assert model.training and model[1].momentum == 0.3


def test_networks_that_do_not_belong_together_speak():
    model, (x, y) = conv_net(), images()
    result = pruned(model, x)
    with pytest.raises(PruneError, match="do not belong together"):
        compensate(result.model, copy.deepcopy(model), result.surgery, (x, y))
    with pytest.raises(ValueError, match="no data"):
        reconstruct(model, result.model, result.surgery, [])


def test_distilling_pulls_towards_the_teacher():
    model, (x, y) = conv_net().float(), images()
    x = x.float()
    result = pruned(model, x)
    before = gap(result.model, model, x)
    kept = result.surgery.kept["2.weight"][0]
    hook = Distill(model, weight=1.0, temperature=2.0, features=["2"], kept={"2": kept})
    wrong = torch.zeros_like(y)
    train(result.model, (x, wrong), Recipe(20, 0.03, 32), hooks=[hook],
          loss=lambda out, target: 0.0 * F.cross_entropy(out, target))  # fmt: skip
    assert gap(result.model, model, x) < 0.5 * before
    assert not result.model._forward_hooks and not model[2]._forward_hooks
    twin = Distill(model)
    twin.start(model, torch.optim.SGD(model.parameters(), lr=0.1), 1)
    model.eval()(x)
    assert twin.penalty().item() == pytest.approx(0, abs=1e-6)
    twin.finish()


def test_distilling_says_which_features_do_not_fit():
    model, (x, y) = conv_net().float(), images()
    x = x.float()
    result = pruned(model, x)
    with pytest.raises(PruneError, match="say which are left"):
        train(result.model, (x, y), Recipe(1), hooks=[Distill(model, features=["2"])])
    with pytest.raises(PruneError, match="no module 'nine'"):
        train(result.model, (x, y), Recipe(1), hooks=[Distill(model, features=["nine"])])
