import pytest
import torch
from torch import nn

from sentei.graph.errors import PruneError
from sentei.methods import METHODS, apply
from sentei.methods.magnitude.han_magnitude import _weaker_dropout, thresholded
from sentei.recovery.train import Recipe
from sentei.structures import Masks
from tests.methods.magnitude.nets import setting

HAN = METHODS["han-magnitude"]
NOTHING = Recipe(epochs=0)


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
