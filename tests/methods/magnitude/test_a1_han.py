import copy

import numpy as np
import pytest
import torch
from torch import nn

from sentei.allocation.curves import Curve
from sentei.allocation.scan import QUALITIES, equally_missed, scan
from sentei.graph.errors import PruneError
from sentei.methods import METHODS, apply
from sentei.methods.magnitude.han_magnitude import _weaker_dropout, scanned, thresholded
from sentei.recovery.finetune import evaluate
from sentei.recovery.train import Recipe
from sentei.structures import Masks
from tests.methods.magnitude.nets import setting

HAN = METHODS["han-magnitude"]
NOTHING = Recipe(epochs=0)


def trained(given):
    given.train()
    return given


def test_thresholds_by_spread_keep_what_the_count_would():
    given = setting()
    masks = thresholded(given.weights, 1.2)
    for name, weight in given.weights.items():
        k = int((weight.abs() > 1.2 * weight.std(correction=0)).sum())
        largest = weight.abs().flatten().topk(k).indices
        assert masks[name].sum() == k and masks[name].flatten()[largest].all()


def test_quality_decides_in_place_of_a_density():
    given = setting(density=None)
    expected = thresholded(given.weights, dict.fromkeys(given.weights, 1.0))
    assert apply(HAN, given, quality=1.0).masks.equal(expected)
    with pytest.raises(PruneError, match="no weight is larger than 100"):
        apply(HAN, setting(density=None), quality=100.0)
    with pytest.raises(PruneError, match=r"names no value for '0.weight'"):
        apply(HAN, setting(density=None), quality={"2.weight": 1.0})


def test_rounds_shrink_geometrically_and_survivors_keep_training():
    given = setting(density=1 / 64)
    seen = []
    train = given.train

    def watched(*args, masks=None, **kwargs):
        seen.append(masks)
        return train(*args, masks=masks, **kwargs)

    given.train = watched
    apply(HAN, given, rounds=3)
    assert [m.kept for m in seen] == [160, 40, 10]
    assert (seen[1] & seen[0]).equal(seen[1]) and (seen[2] & seen[1]).equal(seen[2])


def test_dropout_is_weaker_while_retraining_only():
    model = nn.Sequential(
        nn.Dropout(0.5), nn.Linear(8, 24), nn.ReLU(), nn.Dropout(0.4), nn.Linear(24, 4)
    )
    given = setting(model=model)
    masks = {n: torch.zeros_like(w, dtype=torch.bool) for n, w in given.weights.items()}
    masks["1.weight"].flatten()[: 24 * 8 // 4] = True
    masks["4.weight"].fill_(True)
    with _weaker_dropout(given, Masks(masks)):
        assert model[0].p == 0.5 * 0.25**0.5 and model[3].p == 0.4
    assert model[0].p == 0.5 and model[3].p == 0.4


def test_convolutions_and_linear_layers_take_turns():
    model = nn.Sequential(nn.Unflatten(1, (1, 8)), nn.Conv1d(1, 4, 3), nn.Flatten(),
                          nn.Linear(24, 4))  # fmt: skip
    given = setting(model=model)
    moved, train = [], given.train

    def watched(*args, **kwargs):
        before = [model[1].bias.clone(), model[3].bias.clone()]
        log = train(*args, **kwargs)
        moved.append([not torch.equal(a, b) for a, b in zip(before, (model[1].bias, model[3].bias),
                                                            strict=True)])  # fmt: skip
        return log

    given.train = watched
    apply(HAN, given, alternate=True)
    assert moved == [[False, True], [True, False]]
    assert all(p.requires_grad for p in model.parameters())


def test_dead_neurons_are_removed_and_outputs_stay():
    with_dead, without = setting(density=0.05), setting(density=0.05)
    outcome = apply(HAN, with_dead, remove_dead=True)
    apply(HAN, without)
    assert outcome.params < sum(p.numel() for p in without.model.parameters())
    assert with_dead.model[2].out_features < 16
    x = torch.randn(50, 8)
    torch.testing.assert_close(with_dead.model(x), without.model(x), rtol=0, atol=1e-6)
    # What is masked now is what is zero in the smaller network.
    assert outcome.masks.equal(Masks.of_zeros(with_dead.weights))


def test_the_scan_prunes_one_layer_at_a_time_and_touches_nothing():
    given = trained(setting())
    before = given.state()
    curves = scanned(given)
    assert all(torch.equal(t, before[n]) for n, t in given.state().items())
    data = given.examples(given.calibration)
    for name, curve in curves.items():
        for q, share, value in zip(QUALITIES, curve.shares[1:], curve.values[1:], strict=False):
            model = copy.deepcopy(given.model)
            weight = model.get_parameter(name).data
            mask = thresholded({name: weight}, q)[name]
            weight.mul_(mask)
            assert share == mask.double().mean() and value == evaluate(model, data).accuracy
    assert len({c.values[0] for c in curves.values()}) == 1


def test_layers_get_qualities_by_what_they_can_lose():
    """Small weights that do nothing go, and no other."""
    net = nn.Sequential(nn.Linear(8, 16, bias=False), nn.Linear(16, 4, bias=False))
    torch.manual_seed(0)
    net[0].weight.data = 1e-4 * torch.randn(16, 8)
    net[0].weight.data[:4, :4] = torch.eye(4)
    net[1].weight.data = torch.cat([torch.eye(4), torch.zeros(4, 12)], dim=1) + 1e-4
    x = torch.randn(96, 8)
    data = x, x[:, :4].argmax(1)
    given = setting(0.3, model=net, data=data, tuning=NOTHING)
    masks = apply(HAN, given, quality="scan", tolerance=0.0).masks
    assert evaluate(net, data).accuracy > 0.99
    used = torch.zeros(16, 8, dtype=torch.bool)
    used[:4, :4] = torch.eye(4, dtype=torch.bool)
    assert torch.equal(masks["0.weight"], used)


def test_a_scan_gives_exactly_the_density_asked_for():
    for density in (0.05, 0.3, 0.9):
        given = trained(setting(density))
        outcome = apply(HAN, given, quality="scan")
        assert outcome.kept == round(density * outcome.weights)


def test_equal_damage_by_hand():
    """Densities fall together: between measured points, before the first and beyond the last."""
    a = Curve("a", ("a",), (1.0, 0.5, 0.1), (1, 1, 0.8), (0.0, 0.0, 0.2))
    b = Curve("b", ("b",), (1.0, 0.5, 0.1), (1, 0.9, 0.5), (0.0, 0.1, 0.5))
    curves, sizes = {"a": a, "b": b}, {"a": 300, "b": 100}
    for density in (0.95, 0.7, 0.5, 0.35, 0.2, 0.12, 0.05):
        found = equally_missed(curves, sizes, density)
        assert sum(found[n] * sizes[n] for n in sizes) / 400 == pytest.approx(density)
        assert all(0 < d <= 1 for d in found.values()) and found["a"] <= found["b"]
        if 0.15 < density < 0.6:  # measured: what is lost is the same
            lost = [c.damage_at(np.array([found[n]]))[0] for n, c in curves.items()]
            assert lost[0] == pytest.approx(lost[1], abs=1e-6)


def test_mistakes_of_the_scan_speak():
    with pytest.raises(PruneError, match="'scan'; got 'scam'"):
        apply(HAN, setting(), quality="scam")
    with pytest.raises(PruneError, match="tolerance goes with quality='scan'"):
        apply(HAN, setting(), tolerance=0.1)
    with pytest.raises(PruneError, match="tolerance goes with quality='scan'"):
        apply(HAN, setting(), quality="scan", tolerance=-0.1)
    with pytest.raises(PruneError, match=r"ascending, at least one; got \[2, 1\]"):
        scan({}, lambda: 0.0, [2, 1])
