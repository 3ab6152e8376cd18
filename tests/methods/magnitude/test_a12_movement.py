import pytest
import torch
from torch import nn

from sentei.allocation.weights import select
from sentei.batches import batches
from sentei.graph.errors import PruneError
from sentei.hooks.movement import ScoreHook, SoftScoreHook, threshold
from sentei.methods import METHODS, apply
from sentei.recovery.train import Recipe
from sentei.structures import block
from tests.methods.magnitude.nets import mlp, setting, toy


def keep(density):
    return lambda step, scores: select(scores, density, "uniform")


def one_step(hook, model, lr=0.1):
    """(gradient at the masked weights, dense weights before) of one step of plain SGD."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    hook.start(model, optimizer, 1)
    dense = {n: d.clone() for n, d in hook.dense.items()}
    x, y = next(batches(toy(), 32))
    nn.functional.cross_entropy(model(x), y).backward()
    grads = {n: hook.weights[n].grad.clone() for n in hook.names}
    hook.before_step()
    optimizer.step()
    hook.after_step()
    return grads, dense


def weights(model):
    return {n: p for n, p in model.named_parameters() if p.dim() > 1}


def test_scores_move_by_the_gradient_times_the_weight():
    model = mlp()
    hook = ScoreHook(weights(model), keep(0.5), lr=0.3, optimizer="sgd")
    grads, dense = one_step(hook, model)
    for name, score in hook.scores.items():
        torch.testing.assert_close(score, -0.3 * grads[name] * dense[name])
        growing = grads[name] * dense[name] < 0
        assert (score[growing] > 0).all()


def test_pruned_weights_are_frozen_but_their_scores_learn():
    model = mlp()
    hook = ScoreHook(weights(model), keep(0.25), lr=0.3, optimizer="sgd")
    first = select({n: torch.zeros_like(w) for n, w in weights(model).items()}, 0.25, "uniform")
    grads, before = one_step(hook, model)
    for name, mask in first.items():
        assert torch.equal(hook.dense[name][~mask], before[name][~mask])
        assert not torch.equal(hook.dense[name][mask], before[name][mask])
        moved = (grads[name] * before[name])[~mask] != 0
        assert moved.any() and torch.equal(hook.scores[name][~mask] != 0, moved)


def test_ties_at_the_start_are_the_same_each_time_and_counts_exact():
    zeros = {"w": torch.zeros(10, 10)}
    one, two = (select(zeros, 0.15, "uniform") for _ in range(2))
    assert one.equal(two) and one.kept == 15


def test_soft_scores_feel_the_penalty_of_autograd():
    model = mlp()
    hook = SoftScoreHook(weights(model), keep(1.0), lambda step: 7.0, lr=1.0, optimizer="sgd")
    start = {n: torch.randn_like(s) for n, s in hook.scores.items()}
    for name, value in start.items():
        hook.scores[name].copy_(value)
    grads, dense = one_step(hook, model)
    leaves = {n: s.clone().requires_grad_() for n, s in start.items()}
    penalty = 7.0 * torch.stack([s.sigmoid().mean() for s in leaves.values()]).mean()
    penalty.backward()
    for name, leaf in leaves.items():
        expected = start[name] - (grads[name] * dense[name] + leaf.grad)
        torch.testing.assert_close(hook.scores[name], expected)


def test_half_a_percent_always_stays():
    assert threshold({"w": torch.full((20, 50), -99.0)}, 0.5).kept == 5


def test_blocks_share_a_score_and_stay_or_go_together():
    given = setting(0.25, tuning=Recipe(epochs=2, lr=0.05, batch_size=16))
    outcome = apply(METHODS["movement-pruning"], given, scope="4x4")
    for mask in outcome.masks.values():
        sums = block.pooled(mask.float(), (4, 4))
        assert set(sums.flatten().tolist()) <= {0.0, 16.0}
    assert outcome.kept == 160


def test_the_schedule_ends_with_a_fixed_density_and_zeros():
    given, counts = setting(0.1, tuning=Recipe(epochs=4, lr=0.05, batch_size=16)), []
    train = given.train

    def watched(hooks, **options):
        (hook,) = hooks
        choose = hook.choose
        hook.choose = lambda step, scores: counts.append(choose(step, scores)) or counts[-1]
        return train(hooks, **options)

    given.train = watched
    apply(METHODS["movement-pruning"], given, warmup=0.25, cooldown=0.25)
    kept = [m.kept for m in counts]
    assert kept[:7] == [640] * 7 and set(kept[18:]) == {64} and kept == sorted(kept)[::-1]


def test_a_training_goes_on_from_its_state():
    def fresh():
        model = mlp()
        return model, ScoreHook(weights(model), keep(0.3), lr=0.05)

    (one, a), (two, b) = fresh(), fresh()
    one_step(a, one)
    state = a.state_dict()
    b.start(two, torch.optim.SGD(two.parameters(), lr=0.1), 1)
    b.load_state_dict(state)
    for name in a.names:
        assert torch.equal(a.weights[name], b.weights[name])
        assert torch.equal(a.scores[name], b.scores[name])


def test_soft_movement_without_the_last_top_k_ends_where_the_threshold_leads():
    given = setting(0.1, tuning=Recipe(epochs=2, lr=0.05, batch_size=16))
    outcome = apply(METHODS["soft-movement"], given, exact=False, strength=0.0)
    assert outcome.density == 1.0  # sigmoid(0) = 0.5 passes, and nothing pulls the scores down
    with pytest.raises(PruneError, match="warmup and cooldown"):
        apply(METHODS["soft-movement"], given, warmup=0.6, cooldown=0.6)
