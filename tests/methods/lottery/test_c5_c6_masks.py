"""C5 and C6: edge-popup and supermasks."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sentei.graph.errors import PruneError
from sentei.hooks import BernoulliMask, EdgePopup, FreezeHook
from sentei.methods import METHODS, apply
from sentei.methods.lottery.mask_criteria import MASK_CRITERIA, mask_criterion
from sentei.methods.lottery.rounds import cut, path, search
from sentei.methods.lottery.values import DROPPED, KEPT, dropped_values, kept_values
from sentei.structures import Masks


@pytest.mark.parametrize("density", [0.1, 0.37, 0.7, 1.0])
def test_edge_popup_trains_no_weight_and_counts_as_the_card_says(make, density):
    given = make(density)
    before = given.state()
    masks = apply(METHODS["edge-popup"], given, values="as-is").masks
    after = given.state()
    for name, values in before.items():
        if name in masks:
            mask, n = masks[name], values.numel()
            assert torch.equal(after[name][mask], values[mask])
            assert int(mask.sum()) == n - int((1 - density) * n + 1e-9)
        elif "running" not in name and "num_batches" not in name:
            assert torch.equal(after[name], values)  # biases and norms, too


def test_edge_popup_with_everything_is_the_frozen_network(make):
    given = make(1.0)
    x = given.data[0]
    before = given.model.train()(x)  # batch statistics: the running ones move
    apply(METHODS["edge-popup"], given, values="as-is")
    assert torch.equal(given.model.train()(x), before)


def test_a_swapped_edge_lowers_the_loss_of_its_batch():
    torch.manual_seed(0)
    better = swaps = 0
    for _ in range(60):
        model = nn.Linear(40, 3, bias=False)
        x, y = torch.randn(32, 40), torch.randint(3, (32,))
        hook = EdgePopup(["weight"], 0.5, momentum=0.0, weight_decay=0.0, seed=swaps)
        hook.start(model, torch.optim.SGD(model.parameters(), lr=0.3), 0)
        before = hook.masks["weight"]
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        slope = model.weight.grad * hook.frozen["weight"]
        assert not hook.before_step()
        hook.after_step()
        came, left = hook.masks["weight"] & ~before, before & ~hook.masks["weight"]
        if int(came.sum()) == 1:
            swaps += 1
            # To first order by the lemma; the loss itself nearly always.
            assert slope[came] < slope[left]
            better += F.cross_entropy(model(x), y).item() < loss.item()
    assert swaps >= 10 and better >= 0.9 * swaps


def test_the_gradient_of_a_score_is_straight_through():
    model = nn.Linear(6, 2)
    hook = EdgePopup(["weight"], 0.5, momentum=0.0, weight_decay=0.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    hook.start(model, optimizer, 0)
    scores = hook.scores["weight"].clone().requires_grad_()
    mask = hook.masks["weight"].float()
    x = torch.randn(4, 6)
    through = mask + scores.abs() - scores.abs().detach()
    loss = F.linear(x, hook.frozen["weight"] * through, model.bias).square().sum()
    (want,) = torch.autograd.grad(loss, scores)
    model(x).square().sum().backward()
    hook.before_step()
    torch.testing.assert_close(hook.scores["weight"], scores.detach() - 0.5 * want)


def test_rescaling_times_the_mean_of_the_mask_is_one(make):
    given = make()
    hook = BernoulliMask(given.weights, initial=-1.0)
    hook.start(given.model, torch.optim.SGD(given.model.parameters(), lr=0.1), 0)
    for name in given.weights:
        drawn = hook.sample(name)
        assert hook.scale(drawn) * drawn.float().mean().item() == pytest.approx(1)


def test_the_mean_of_sampled_masks_is_the_sigmoid(make):
    given = make(model=nn.Linear(8, 4))
    hook = BernoulliMask(["weight"])
    hook.start(given.model, torch.optim.SGD(given.model.parameters(), lr=0.1), 0)
    hook.scores["weight"] = torch.linspace(-3, 3, 32).view(4, 8)
    total = torch.zeros(4, 8)
    for hook.step in range(2000):
        total += hook.sample("weight")
    torch.testing.assert_close(
        total / 2000, hook.scores["weight"].sigmoid(), atol=0.045, rtol=0
    )  # four standard errors


def test_learned_supermasks_keep_the_weights_up_to_one_factor(make):
    given = make()
    before = given.state()
    masks = apply(METHODS["learned-supermask"], given, constant=False).masks
    for name, mask in masks.items():
        factor = mask.numel() / int(mask.sum())
        torch.testing.assert_close(given.state()[name][mask], before[name][mask] * factor)


def test_same_sign_masks_keep_only_what_kept_its_sign():
    torch.manual_seed(1)
    start, final = {"w": torch.randn(20, 20)}, {"w": torch.randn(20, 20)}
    same = start["w"].sign() == final["w"].sign()
    full = Masks.full(start)
    for name in ("large_final_same_sign", "magnitude_increase_same_sign"):
        masks = cut(mask_criterion(name)(start, final), full, {"w": 0.3})
        assert masks.kept == 120 and not masks["w"][~same].any()


def test_criteria_by_hand():
    start, final = {"w": torch.tensor([1.0, -2.0, 3.0])}, {"w": torch.tensor([2.0, 2.5, -1.0])}
    want = {
        "large_final": [2, 2.5, 1],
        "small_final": [-2, -2.5, -1],
        "large_init": [1, 2, 3],
        "small_init": [-1, -2, -3],
        "large_init_large_final": [0, 1, 0],
        "small_init_small_final": [1, 0, 0],
        "magnitude_increase": [1, 0.5, -2],
        "movement": [1, 4.5, 4],
    }
    for name, scores in want.items():
        assert mask_criterion(name)(start, final)["w"].tolist() == scores
    assert set(MASK_CRITERIA) - set(want) == {
        "large_final_same_sign", "magnitude_increase_same_sign", "random",
    }  # fmt: skip
    one, two = (mask_criterion("random", s)(start, final)["w"] for s in (0, 1))
    assert not torch.equal(one, two)


def test_values_change_what_they_say():
    torch.manual_seed(2)
    start = {"w": torch.randn(30, 30), "b": torch.ones(3)}
    masks = Masks({"w": torch.rand(30, 30) < 0.3})
    kept = masks["w"]
    for action in KEPT:
        found = kept_values(action, start, masks, seed=3)
        assert torch.equal(found["b"], start["b"])
        same = (found["w"].sign() == start["w"].sign()).float().mean().item()
        kind = "same-sign" in action or action in ("rewind", "constant")
        assert same == 1 if kind else same < 0.9
        again = kept_values(action, start, masks, seed=3)
        assert torch.equal(found["w"], again["w"])
    shuffled = kept_values("reshuffle", start, masks)["w"]
    assert torch.equal(shuffled[kept].sort().values, start["w"][kept].sort().values)
    constant = kept_values("constant", start, masks)["w"]
    torch.testing.assert_close(constant.abs(), start["w"].std().expand(30, 30))

    final = {"w": start["w"] * torch.where(torch.rand(30, 30) < 0.5, 0.5, 2.0)}
    shrunk = final["w"].abs() < start["w"].abs()
    for action in DROPPED:
        found = dropped_values(action, start, final, masks)["w"]
        assert not found[kept].any()
        zero = {"zero": ~kept, "freeze": kept, "zero-if-shrunk": ~kept & shrunk}[action]
        assert not found[zero].any()
        assert torch.equal(found[~kept & ~zero], start["w"][~kept & ~zero])


def test_dropped_weights_can_be_held_at_their_values(make):
    given = make()
    ticket = search(given, path({n: tuple(w.shape) for n, w in given.weights.items()}, 0.25))
    frozen = dropped_values("freeze", ticket.start, ticket.dense, ticket.masks)
    given.rewind(ticket.start)
    given.train([FreezeHook(ticket.masks, frozen)])
    for name, mask in ticket.masks.items():
        now = given.state()[name]
        assert torch.equal(now[~mask], ticket.start[name][~mask])
        assert not torch.equal(now[mask], ticket.start[name][mask])


def test_a_supermask_leaves_constants_of_the_initial_signs(make):
    given = make()
    masks = apply(METHODS["supermask"], given).masks
    for name, mask in masks.items():
        values = given.state()[name][mask]
        assert len(values.abs().unique()) == 1
        assert torch.equal(values.sign(), given.initial[name][mask].sign())


def test_mistakes_speak(make):
    with pytest.raises(PruneError, match="unknown mask criterion 'large_finale'"):
        apply(METHODS["supermask"], make(), criterion="large_finale")
    with pytest.raises(PruneError, match="unknown action 'rewinds'; closest: 'rewind'"):
        apply(METHODS["supermask"], make(), kept="rewinds", rounds=1)
    with pytest.raises(PruneError, match="values are 'signed-constant' or 'as-is'; got 'x'"):
        apply(METHODS["edge-popup"], make(), values="x")
