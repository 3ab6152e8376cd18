"""Card A6."""

import torch
from torch import nn

from sentei.allocation.weights import select, top
from sentei.criteria import Evidence
from sentei.criteria.weights import weigh
from sentei.criteria.weights.lamp import lamp_score


def nets():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 16), nn.Linear(16, 4))


def scores():
    return weigh("lamp", Evidence.of(nets()))


def test_it_rises_with_size_inside_a_layer_and_ends_at_one():
    for name, score in scores().items():
        by_size = dict(nets().named_parameters())[name].abs().flatten().argsort()
        ordered = score.flatten()[by_size]
        assert (ordered.diff() > 0).all() and ordered[-1] == 1
        assert int((score == 1).sum()) == 1


def test_no_layer_is_left_empty():
    given = scores()
    masks = select(given, len(given) / sum(s.numel() for s in given.values()))
    assert [int(m.sum()) for m in masks.values()] == [1] * len(given)


def test_scaling_a_layer_changes_nothing():
    weight = torch.randn(20, 30)
    torch.testing.assert_close(lamp_score(1e-3 * weight), lamp_score(weight), rtol=1e-5, atol=0)


def test_what_is_removed_is_the_product_of_what_stays():
    weight = torch.randn(10, 10, dtype=torch.float64)
    score, square = lamp_score(weight).flatten(), weight.flatten().square()
    order = square.argsort()
    for i in (0, 10, 50, 98):
        left = square[order[i + 1 :]].sum() / square.sum()
        torch.testing.assert_close((1 - score[order[: i + 1]]).prod(), left, rtol=1e-10, atol=0)


def test_counts_of_the_global_threshold_and_layerwise_magnitude_are_the_same_masks():
    given = scores()
    masks = select(given, 0.2)
    for name, weight in nets().named_parameters():
        if name in masks:
            assert torch.equal(masks[name], top(weight.detach().abs(), int(masks[name].sum())))


def test_zeros_and_ties_are_no_trouble():
    assert lamp_score(torch.zeros(3, 3)).count_nonzero() == 0
    assert lamp_score(torch.ones(4)).tolist() == [0.25, 1 / 3, 0.5, 1.0]
    huge = torch.tensor([1e-20, 1.0, 1e19])
    assert lamp_score(huge).max() == 1 and lamp_score(huge).isfinite().all()
