"""Card B9."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from sentei.allocation.weights import select
from sentei.criteria.derivatives import gradient, hessian_times
from sentei.criteria.weights import weigh
from sentei.criteria.weights.grasp import grasp
from sentei.graph.errors import PruneError
from tests.methods.gradient.nets import batch, evidence, mlp


def test_the_product_agrees_with_finite_differences():
    model, data = mlp(6, 9, 3), batch(20, 6)
    about = evidence(model, data)
    grads, step, ends = gradient(about), 1e-5, []
    for sign in (1, -1):
        moved = mlp(6, 9, 3)
        with torch.no_grad():
            for name, p in moved.named_parameters():
                if name in grads:
                    p.add_(sign * step * grads[name])
        ends.append(gradient(evidence(moved, data)))
    product = hessian_times(about, grads)
    for name in grads:
        want = (ends[0][name] - ends[1][name]) / (2 * step)
        torch.testing.assert_close(product[name], want, rtol=1e-5, atol=1e-10)


def test_scores_are_weight_times_product_with_both_signs_however_the_batch_is_split():
    model, (x, y) = mlp(6, 9, 3), batch(20, 6)
    whole = grasp(evidence(model, (x, y)))
    halves = grasp(evidence(model, [(x[:10], y[:10]), (x[10:], y[10:])]))
    for name, scores in whole.items():
        torch.testing.assert_close(scores, halves[name], rtol=1e-9, atol=1e-16)
        assert (scores > 0).any() and (scores < 0).any()


def test_the_sign_is_that_of_what_removal_does_to_the_gradients_norm():
    """Weight q less a share ε of it: |g|² changes by -2 ε w_q (H g)_q. High scores stay."""
    model, data = mlp(6, 9, 3), batch(20, 6)

    def norm() -> float:
        return sum(float(g.square().sum()) for g in gradient(evidence(model, data)).values())

    scores, before, share = grasp(evidence(model, data), temperature=1), norm(), 1e-6
    for name, place in (("0.weight", 5), ("2.weight", 7), ("2.weight", 11)):
        flat = dict(model.named_parameters())[name].data.view(-1)
        kept = flat[place].clone()
        flat[place] *= 1 - share
        change = norm() - before
        flat[place] = kept
        want = -2 * share * scores[name].flatten()[place].item()
        assert change == pytest.approx(want, rel=1e-3)


def test_the_temperature_makes_the_softmax_even():
    """d CE(z / T) / dz = (softmax(z / T) - onehot) / T, close to (1/K - onehot) / T."""
    (z, y), temperature = batch(5, 3), 1e6
    z.requires_grad_()
    F.cross_entropy(z / temperature, y, reduction="sum").backward()
    want = (1 / 3 - F.one_hot(y, 3).double()) / temperature
    torch.testing.assert_close(z.grad, want, rtol=1e-4, atol=0)
    model, data = mlp(6, 9, 3), batch(20, 6)
    masks = [
        select(weigh(partial(grasp, temperature=t), evidence(model, data)), 0.3) for t in (200, 1)
    ]
    assert not masks[0].equal(masks[1])


def test_it_needs_a_loss_to_cool_or_no_cooling():
    class Own(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = mlp(6, 9, 3)

        def forward(self, x, y):
            return SimpleNamespace(loss=F.cross_entropy(self.inner(x), y))

    x, y = batch(20, 6)
    about = evidence(Own(), {"x": x, "y": y}, None)
    with pytest.raises(PruneError, match="give loss=, a function of"):
        grasp(about)
    plain = grasp(evidence(mlp(6, 9, 3), (x, y)), temperature=1)
    for name, scores in grasp(about, temperature=1).items():
        torch.testing.assert_close(scores, plain[name.removeprefix("inner.")])
