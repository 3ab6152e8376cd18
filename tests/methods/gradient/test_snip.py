"""Card B5."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sentei.allocation.weights import select
from sentei.criteria.weights import weigh
from sentei.criteria.weights.snip import connection_sensitivity
from sentei.graph.errors import PruneError
from sentei.methods import Setting
from sentei.methods.gradient.samples import scoring_batches
from tests.methods.gradient.nets import batch, convnet, evidence, mlp


def test_shares_rank_as_sensitivities_and_add_up_to_one():
    about = evidence(mlp(6, 9, 3), batch(20, 6))
    scores = weigh("snip", about)
    raw = {n: s.abs() for n, s in connection_sensitivity(about).items()}
    assert sum(s.sum() for s in scores.values()).item() == pytest.approx(1.0)
    assert select(scores, 0.3).equal(select(raw, 0.3))


def test_the_scale_of_the_loss_does_not_matter():
    model, data = mlp(6, 9, 3), batch(20, 6)
    one = select(weigh("snip", evidence(model, data)), 0.3)
    two = select(
        weigh("snip", evidence(model, data, lambda out, y: 37.0 * F.cross_entropy(out, y))), 0.3
    )
    assert one.equal(two)


def test_permuting_hidden_units_permutes_the_mask():
    model, data = mlp(6, 9, 3), batch(20, 6)
    before = select(weigh("snip", evidence(model, data)), 0.3)
    order = torch.randperm(9)
    with torch.no_grad():
        model[0].weight.copy_(model[0].weight[order])
        model[0].bias.copy_(model[0].bias[order])
        model[2].weight.copy_(model[2].weight[:, order])
    after = select(weigh("snip", evidence(model, data)), 0.3)
    assert torch.equal(after["0.weight"], before["0.weight"][order])
    assert torch.equal(after["2.weight"], before["2.weight"][:, order])


def test_batch_norm_uses_the_batch_and_keeps_its_statistics():
    model, data = convnet(norm=True).eval(), batch(8, 2, 8, 8)
    one = weigh("snip", evidence(model, data))
    model[1].running_mean.fill_(5.0)
    model[1].running_var.fill_(9.0)
    two = weigh("snip", evidence(model, data))
    assert all(torch.equal(one[n], two[n]) for n in one)
    assert model[1].running_mean.eq(5.0).all() and not model[1].training


def test_batches_count_by_their_examples():
    model, (x, y) = mlp(6, 9, 3), batch(20, 6)
    whole = weigh("snip", evidence(model, (x, y)))
    parts = weigh("snip", evidence(model, [(x[:3], y[:3]), (x[3:], y[3:])]))
    for name in whole:
        torch.testing.assert_close(whole[name], parts[name], rtol=1e-10, atol=1e-14)


def test_one_example_is_too_few_for_batch_norm():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)).double()
    with pytest.raises(PruneError, match="more than one example a batch"):
        weigh("snip", evidence(model, batch(1, 4)))


def test_the_scoring_batch_has_equally_many_of_each_class():
    x, _ = batch(90, 6)
    y = torch.cat([torch.zeros(60), torch.ones(20), torch.full((10,), 2.0)]).long()
    [(drawn, labels)] = scoring_batches(Setting(mlp(6, 4, 3), (x, y)), 24)
    assert labels.bincount().tolist() == [8, 8, 8]
    positions = [(x == row).all(1).nonzero().item() for row in drawn]
    assert torch.equal(y[positions], labels)
    [(_, few)] = scoring_batches(Setting(mlp(6, 4, 3), (x, y)), 60)
    assert few.bincount().tolist() == [30, 20, 10]


def test_data_in_batches_gives_as_many_as_it_takes():
    data = [batch(10, 6, seed=seed) for seed in range(5)]
    got = scoring_batches(Setting(mlp(6, 4, 3), data), 24)
    assert [len(y) for _, y in got] == [10, 10, 10]
