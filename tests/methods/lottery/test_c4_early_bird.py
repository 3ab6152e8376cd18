"""C4: early-bird tickets."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from sentei import Target
from sentei.graph.errors import PruneError
from sentei.hooks import EarlyBird, Hook
from sentei.hooks.early_bird import channel_mask, mask_distance
from sentei.methods import METHODS, apply


def test_the_distance_of_masks():
    torch.manual_seed(0)
    one, two = torch.rand(50) < 0.5, torch.rand(50) < 0.5
    assert mask_distance(one, two) == mask_distance(two, one)
    assert mask_distance(one, one) == 0 and mask_distance(one, ~one) == 1
    assert 0 <= mask_distance(one, two) <= 1


def test_scaling_all_scales_leaves_the_mask():
    torch.manual_seed(0)
    scales = [torch.randn(7), torch.randn(20)]
    mask = channel_mask(scales, 0.3)
    assert int((~mask).sum()) == int(0.3 * 27)
    assert torch.equal(mask, channel_mask([s * 8 for s in scales], 0.3))
    flat = torch.cat(scales).abs()
    assert flat[~mask].max() < flat[mask].min()


class Change(Hook):
    """Sets the scales at the end of each epoch, before the masks are looked at."""

    def __init__(self, value):
        self.value = value

    def after_step(self):
        super().after_step()
        for i, norm in enumerate(m for m in self.model if isinstance(m, nn.BatchNorm1d)):
            norm.weight.data.copy_(self.value(norm.weight, i + 10 * self.step))


def fixed(weight, key):
    return torch.linspace(0.1, 1, len(weight))


def random(weight, key):
    return torch.rand(weight.shape, generator=torch.Generator().manual_seed(key))


def test_the_newest_mask_must_be_near_all_the_others(make):
    def late(weight, key):  # the masks of the first three epochs are upside down
        return fixed(weight, key) if key >= 10 * 18 else fixed(weight, key).flip(0)

    given = make()
    given.recipe = replace(given.recipe, epochs=12)
    hook = EarlyBird(0.5, every=6)
    given.train([Change(late), hook])
    assert hook.found == 7 * 6 and hook.distances[-1] == 0 and min(hook.distances[:-1]) > 0.5


def test_it_fires_at_the_fifth_epoch_at_the_earliest(make):
    given = make()
    given.recipe = replace(given.recipe, epochs=12)
    hook = EarlyBird(0.5, every=6)
    log = given.train([Change(fixed), hook])
    assert hook.found == 5 * 6 == log.steps and log.stopped and hook.distances == [0]


def test_masks_that_never_settle_never_fire(make):
    given = make()
    given.recipe = replace(given.recipe, epochs=12)
    hook = EarlyBird(0.5, every=6)
    log = given.train([Change(random), hook])
    assert hook.found is None and log.steps == 72
    # Two random halves differ in 2 p (1 - p) = 1/2 of their entries.
    assert min(hook.distances) > 0.3 and len(hook.distances) == 8


def test_the_penalty_is_l1_times_the_sign():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    model[1].weight.data = torch.tensor([1.0, -1.0, 0.5, 0.0])
    hook = EarlyBird(0.5, every=1, l1=0.25)
    hook.start(model, None, 1)
    model[1].weight.grad = torch.ones(4)
    assert hook.before_step()
    assert model[1].weight.grad.tolist() == [1.25, 0.75, 1.25, 1.0]


def test_the_pruned_network_takes_the_rest_of_the_steps(make):
    given = make(None, target=Target(units=0.5))
    given.recipe = replace(given.recipe, epochs=12)
    outcome = apply(METHODS["early-bird"], given, tolerance=1.0)  # every mask is near enough
    assert [log.steps for log in outcome.logs] == [5 * 6, 7 * 6]
    assert given.began[1][1]["start"] == 5 * 6
    assert given.model[0].out_features + given.model[3].out_features == 20
    assert given.model[0].out_features == given.model[1].num_features
    given.model(given.data[0])


def test_without_batch_norm_it_refuses(make):
    given = make(None, model=nn.Linear(8, 4), target=Target(units=0.5))
    with pytest.raises(PruneError, match="Linear has no batch-norm"):
        apply(METHODS["early-bird"], given)
    with pytest.raises(PruneError, match=r"must lie in \(0, 1\); got 1.5"):
        EarlyBird(1.5, every=1)
