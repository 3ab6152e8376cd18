"""Card B3, on networks."""

import copy

import pytest
import torch
from torch import nn

from sentei.graph.errors import PruneError
from sentei.methods import METHODS, Setting, apply
from sentei.structures import nm
from tests.methods.gradient.nets import batch


def network(groups=1):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(4, 8, 3, padding=1, groups=groups), nn.ReLU(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(32, 6), nn.ReLU(), nn.Linear(6, 3),
    ).double()  # fmt: skip


NOISE, LABELS = batch(160, 4, 8, 8)
DATA = nn.functional.avg_pool2d(NOISE, 5, stride=1), LABELS  # neighbours look alike


def pruned(method, model, density=0.5, **options):
    given = Setting(model, DATA, density=density, calibration=160)
    return apply(METHODS[method], given, recover=False, **options).masks


@pytest.mark.parametrize("method", ["obc", "l-obs"])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_convolution_keeps_its_output_better_than_by_magnitude(method, groups):
    model = network(groups)
    whole = copy.deepcopy(model)
    masks = pruned(method, model)
    assert masks.kept == round(0.5 * masks.total)
    small = copy.deepcopy(whole)
    weight = small[0].weight
    cut = weight.abs().flatten().kthvalue(weight.numel() // 2).values
    weight.data[weight.abs() <= cut] = 0
    x = DATA[0]
    want = whole[0](x)
    errors = [(m[0](x) - want).square().mean().item() for m in (model, small)]
    assert errors[0] < 0.9 * errors[1]


def test_each_row_is_the_least_squares_fit_on_what_it_keeps():
    model = network()
    whole = copy.deepcopy(model)
    masks = pruned("obc", model, damping=0.0)
    x = nn.functional.unfold(DATA[0], 3, padding=1).movedim(1, 2).reshape(-1, 36)
    kept, dense = masks["0.weight"].flatten(1), whole[0].weight.flatten(1)
    for row in range(8):
        keep = kept[row]
        want = torch.linalg.lstsq(x[:, keep], (x @ dense[row])[:, None]).solution[:, 0]
        torch.testing.assert_close(model[0].weight[row].flatten()[keep], want)


def test_a_bias_takes_up_what_came_from_a_constant_input():
    torch.manual_seed(0)
    layer, x = nn.Linear(5, 3).double(), torch.randn(200, 5, dtype=torch.float64)
    x[:, 2] = 4.0
    with torch.no_grad():
        layer.weight[:, 2] = 1e-3  # the cheapest of every row, even so
    whole = copy.deepcopy(layer)
    given = Setting(layer, (x, torch.zeros(200)), density=0.8, calibration=200)
    masks = apply(METHODS["l-obs"], given, recover=False, damping=1e-9).masks
    assert not masks["weight"][:, 2].any() and masks["weight"][:, [0, 1, 3, 4]].all()
    torch.testing.assert_close(layer.bias, whole.bias + 4e-3, rtol=0, atol=1e-6)
    torch.testing.assert_close(layer(x), whole(x), rtol=0, atol=1e-6)


def test_patterns_and_blocks():
    model = nn.Sequential(nn.Linear(32, 8), nn.ReLU(), nn.Linear(8, 4)).double()
    data = batch(100, 32)
    given = Setting(copy.deepcopy(model), data, density=0.5)
    apply(METHODS["obc"], given, scope="2:4")
    assert nm.holds(given.model[0].weight, 2, 4) and nm.holds(given.model[2].weight, 2, 4)
    given = Setting(copy.deepcopy(model), data, density=0.5)
    masks = apply(METHODS["obc"], given, scope="1x4").masks
    blocks = masks["0.weight"].view(8, 8, 4)
    assert (blocks.all(2) | ~blocks.any(2)).all() and masks["0.weight"].sum() == 128


def test_l_obs_moves_the_bias_along():
    for bias in (True, False):
        model = network()
        before = model[0].bias.detach().clone()
        pruned("l-obs", model, bias=bias)
        assert torch.equal(model[0].bias, before) is not bias


def test_mistakes_speak():
    with pytest.raises(PruneError, match="blocks inside a row: 1x4, not 2x4"):
        pruned("obc", network(), scope="2x4")
    with pytest.raises(PruneError, match=r"2:4 keeps 0.5 of the weights"):
        pruned("obc", network(), density=0.3, scope="2:4")
    with pytest.raises(PruneError, match="unknown scope 'unifrm'; closest: 'uniform'"):
        pruned("l-obs", network(), scope="unifrm")
