"""What holds for every saliency: exact counts, nested masks, and what scaling a layer changes."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sentei.allocation.weights import select
from sentei.criteria import Evidence
from sentei.criteria.weights import SALIENCIES, weigh

# Functions of the weights alone, within a layer rising with their size.
BY_SIZE = ("magnitude", "lamp")


def network(scale=1.0):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 16), nn.ReLU(),
                        nn.Linear(16, 4))  # fmt: skip
    with torch.no_grad():
        net[2].weight.mul_(scale)
    return net


def scores(name, net=None):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 8, generator=generator)
    data = (x, (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0).long())
    net = network() if net is None else net
    return weigh(name, Evidence.of(net, data=data, loss=F.cross_entropy, example=x[:1]))


@pytest.mark.parametrize("name", SALIENCIES)
def test_counts_are_exact_and_masks_nested(name):
    """I1 and I5."""
    given = scores(name)
    before = None
    for density in (0.0, 0.013, 0.1, 0.25, 0.5, 0.9, 1.0):
        masks = select(given, density)
        assert masks.kept == round(density * masks.total)
        assert before is None or (before & masks).equal(before)
        before = masks
    assert before.kept == before.total


@pytest.mark.parametrize("name", SALIENCIES)
def test_local_counts_are_exact(name):
    for density in (0.013, 0.1, 0.5):
        masks = select(scores(name), density, "uniform")
        assert masks.kept == round(density * masks.total)
        for mask in masks.values():
            assert abs(int(mask.sum()) - density * mask.numel()) < 1


@pytest.mark.parametrize("name", BY_SIZE)
def test_scaling_a_layer_changes_no_local_ranking(name):
    """I3; of these only LAMP's global ranking does not change either."""
    one, two = scores(name), scores(name, network(scale=8.0))
    for density in (0.1, 0.4):
        assert select(one, density, "uniform").equal(select(two, density, "uniform"))
        assert select(one, density).equal(select(two, density)) == (name == "lamp")
