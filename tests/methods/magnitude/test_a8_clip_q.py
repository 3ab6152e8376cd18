import sys

import pytest
import torch
from torch import nn

from sentei.batches import batches
from sentei.graph.errors import PruneError
from sentei.hooks.clip_q import ClipQ
from sentei.methods import METHODS, apply
from sentei.methods.magnitude.clip_q import BITS, RATES, SEARCHES, _sampled, search_rates
from sentei.structures.codebook import cells, clip_and_quantise, stored_bits
from tests.methods.magnitude.nets import mlp, setting, toy

CLIP_Q = METHODS["clip-q"]


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("rate", [0.0, 0.5, 0.93])
def test_few_values_and_the_same_share_clipped_of_either_sign(bits, rate):
    weight = torch.randn(30, 40) + 0.3
    drop = round(rate * weight.numel())
    out = clip_and_quantise(weight, drop, bits)
    assert len(out.unique()) <= 2**bits
    assert int((out == 0).sum()) == drop
    for side in (weight >= 0, weight < 0):
        assert abs(int((out[side] == 0).sum()) - rate * int(side.sum())) <= 1
        kept, gone = weight[side & (out != 0)].abs(), weight[side & (out == 0)].abs()
        if len(gone) and len(kept):
            assert gone.max() <= kept.min()


def test_one_value_a_cell_is_a_fixed_point():
    levels = torch.tensor([0.0, 0.0, 1.0, 2.0, 3.0, 4.0, -1.0, -2.0, -3.0])
    weight = levels[torch.randint(9, (40, 30))]
    assert torch.equal(clip_and_quantise(weight, int((weight == 0).sum()), 3), weight)


def test_levels_are_the_best_for_their_cells_and_keep_the_sum():
    weight = torch.randn(20, 20, dtype=torch.float64)
    cell, out = cells(weight, 200, 2), clip_and_quantise(weight, 200, 2)
    for c in range(1, 4):
        mine, level = weight[cell == c], out[cell == c][0]
        error = (mine - level).square().sum()
        for shift in (-0.1, -1e-3, 1e-3, 0.1):
            assert (mine - level - shift).square().sum() > error
    torch.testing.assert_close(out.sum(), weight[cell > 0].sum())


def test_intervals_are_of_equal_width_and_the_longer_side_has_one_more():
    weight = torch.tensor([-1.0, -2.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    assert cells(weight, 0, 2).tolist() == [3, 3, 1, 1, 2, 2, 2]
    assert cells(-weight, 0, 2).tolist() == [1, 1, 2, 2, 3, 3, 3]


def test_the_gradient_at_the_quantised_weights_moves_the_precise_ones():
    model = mlp()
    hook = ClipQ({n: (p.numel() // 2, 2) for n, p in model.named_parameters() if p.dim() > 1})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    hook.start(model, optimizer, 1)
    before = {n: d.clone() for n, d in hook.dense.items()}
    x, y = next(batches(toy(), 96))
    nn.functional.cross_entropy(model(x), y).backward()
    grads = {n: hook.weights[n].grad.clone() for n in before}
    hook.before_step()
    optimizer.step()
    hook.after_step()
    for name, old in before.items():
        torch.testing.assert_close(hook.dense[name], old - 0.1 * grads[name])
        assert torch.equal(
            hook.weights[name], clip_and_quantise(hook.dense[name], *hook.plan[name])
        )
        assert grads[name][hook.weights[name] == 0].any()  # clipped weights move, too


def test_the_model_ends_with_few_values_and_the_density_asked_for():
    given = setting(0.25)
    outcome = apply(CLIP_Q, given, bits=2)
    assert outcome.kept == 160
    assert all(len(w.unique()) <= 4 for w in given.weights.values())


@pytest.mark.parametrize("how", SEARCHES)
def test_the_search_looks_at_layers_alone_and_changes_nothing(how):
    given = setting()
    before = {n: w.detach().clone() for n, w in given.weights.items()}
    found = search_rates(given, how, trade=0.0, trials=3)
    assert all(torch.equal(w, before[n]) for n, w in given.weights.items())
    assert list(found) == list(before)
    assert all(RATES[0] <= p <= RATES[-1] and b in BITS for p, b in found.values())
    # Where only size counts, the most is clipped and the fewest bits are taken.
    if how == "grid":
        assert set(search_rates(given, how, trade=1e9).values()) == {(RATES[-1], BITS[0])}


@pytest.mark.parametrize("how", ["gp", "tpe"])
def test_samplers_come_near_the_cheapest_and_repeat_from_a_seed(how):
    def price(rate, bits):
        return (rate - 0.83) ** 2 + 0.05 * (bits - 3) ** 2

    found = _sampled(price, how, 25, seed=0)
    assert found == _sampled(price, how, 25, seed=0)
    assert found[1] == 3 and abs(found[0] - 0.83) < 0.05


def test_a_search_without_its_library_says_which(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(PruneError, match=r"search='gp' needs scipy: pip install 'sentei\[bench\]'"):
        search_rates(setting(), "gp")
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(PruneError, match="search='tpe' needs optuna"):
        search_rates(setting(), "tpe")


def test_bits_on_disk():
    assert stored_bits(1000, 900, 2) == 100 * (2 + 5) + 4 * 32


def test_mistakes_speak():
    with pytest.raises(PruneError, match="takes 2 bits; got 1"):
        apply(CLIP_Q, setting(), bits=1)
    with pytest.raises(PruneError, match="unknown search 'gird'; closest: 'grid'"):
        apply(CLIP_Q, setting(), search="gird")
    with pytest.raises(PruneError, match="cannot clip 9 of 4"):
        cells(torch.ones(4), 9, 2)
