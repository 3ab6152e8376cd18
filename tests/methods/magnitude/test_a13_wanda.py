import copy
import math

import pytest
import torch
from torch import nn

from sentei.allocation import Target
from sentei.allocation.weights import select
from sentei.criteria import Evidence
from sentei.criteria.inputs import observe
from sentei.criteria.weights import weigh
from sentei.criteria.weights.wanda import Norms
from sentei.graph.errors import PruneError
from sentei.methods import METHODS, apply
from sentei.methods.blockwise import sections
from sentei.pruning import prune
from sentei.structures import nm
from tests.methods.magnitude.nets import mlp, setting, toy

WANDA = METHODS["wanda"]


def convolutional():
    torch.manual_seed(0)
    return nn.Sequential(nn.Unflatten(1, (2, 4)), nn.Conv1d(2, 6, 3, padding=1), nn.ReLU(),
                         nn.Conv1d(6, 6, 3, groups=2), nn.Flatten(), nn.Linear(12, 4))  # fmt: skip


@pytest.mark.parametrize("build", [mlp, convolutional])
def test_every_row_loses_its_share_and_survivors_keep_their_bits(build):
    given = setting(0.3, model=build())
    before = copy.deepcopy(given.model.state_dict())
    outcome = apply(WANDA, given)
    for name, mask in outcome.masks.items():
        rows = mask.flatten(1)
        assert ((~rows).sum(1) == int(0.7 * rows.shape[1] + 1e-9)).all()
        assert torch.equal(given.weights[name][mask], before[name][mask])


def test_equal_norms_are_magnitude_by_rows():
    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 4)

        def forward(self, x):
            return self.layer(torch.sign(x))  # every input has the same norm

    given = setting(0.5, model=Flat())
    expected = select({"w": given.model.layer.weight.detach().abs()}, 0.5, "rows")["w"]
    assert torch.equal(apply(WANDA, given).masks["layer.weight"], expected)


def test_rescaling_features_changes_magnitudes_mask_and_not_this_one():
    plain, scaled = setting(0.5), setting(0.5)
    with torch.no_grad():
        a = torch.rand(24) * 30 + 1
        scaled.model[0].weight.mul_(a[:, None])
        scaled.model[0].bias.mul_(a)
        scaled.model[2].weight.div_(a)
    x = toy()[0]
    torch.testing.assert_close(plain.model(x), scaled.model(x), rtol=1e-4, atol=1e-5)
    one, two = apply(WANDA, plain).masks, apply(WANDA, scaled).masks
    assert torch.equal(one["2.weight"], two["2.weight"])
    before, after = plain.initial["2.weight"].abs(), scaled.initial["2.weight"].abs()
    after = after / a
    assert not select({"w": before}, 0.5, "rows").equal(select({"w": after}, 0.5, "rows"))


def test_inside_a_row_it_is_optimal_brain_damage():
    layer = nn.Linear(8, 5)
    x = toy()[0]
    score = weigh("wanda", Evidence.of(layer, data=(x, None)))["weight"]
    damage = layer.weight.detach().square() * (x.T @ x).diagonal()
    assert torch.equal(score.argsort(1), damage.argsort(1))


@pytest.mark.parametrize("pattern", ["2:4", "1:4"])
def test_patterns_hold_and_keep_the_best_of_each_group(pattern):
    n, m = nm.parse(pattern)
    given = setting(n / m)
    outcome = apply(WANDA, given, scope=pattern)
    for name, mask in outcome.masks.items():
        assert (mask.reshape(-1, m).sum(1) == n).all()
        assert nm.holds(given.weights[name], n, m)
    with pytest.raises(PruneError, match=r"asked for is 0\.25"):
        apply(WANDA, setting(0.25), scope="2:4")


def test_later_layers_see_what_pruned_ones_give():
    given, dense = setting(0.3), mlp()
    masks = apply(WANDA, given).masks
    twin = copy.deepcopy(dense)
    with torch.no_grad():
        twin[0].weight.copy_(given.model[0].weight)
    norms = Norms()
    observe(twin, {"2.weight": twin[2].weight}, given.examples(64), norms)
    expected = select({"w": norms.score("2.weight", twin[2].weight)}, 0.3, "rows")["w"]
    assert torch.equal(masks["2.weight"], expected)
    at_once = apply(WANDA, setting(0.3), propagate="none").masks
    assert not at_once.equal(masks)


def test_sections():
    names = ["embed.weight", "h.0.a.weight", "h.0.b.weight", "h.1.a.weight", "head.weight"]
    assert sections(names) == [[n] for n in names]
    assert sections(names, "none") == [names]
    assert sections(names, "block") == [names[:1], names[1:3], names[3:4], names[4:]]
    with pytest.raises(PruneError, match="unknown propagation 'blok'; closest: 'block'"):
        sections(names, "blok")


def test_it_is_a_criterion_for_units_too():
    net, x = mlp(), toy()[0]
    result = prune(net, x, target=Target(params=0.5), criterion="wanda", data=toy())
    assert result.after.params <= 0.5 * result.before.params


def test_the_cumulative_variant_drops_equal_shares_of_the_rows_sums():
    given = setting(0.4)
    with torch.no_grad():
        given.model[0].weight[:12] *= torch.linspace(0, 1, 8) ** 4  # rows that differ in spread
    norms, model = Norms(), copy.deepcopy(given.model)
    observe(model, {"0.weight": model[0].weight}, given.examples(64), norms)
    mask = apply(WANDA, given, scope="cumulative").masks["0.weight"]
    assert mask.sum() == round(0.4 * 192) and len(set(mask.sum(1).tolist())) > 1
    score = norms.score("0.weight", model[0].weight).double()
    dropped = (score * ~mask).sum(1) / score.sum(1)
    smallest = score.masked_fill(~mask, math.inf).amin(1) / score.sum(1)
    # One share α for all rows: none dropped more, each would exceed it with one weight more.
    assert dropped.max() <= (dropped + smallest).min() + 1e-9
