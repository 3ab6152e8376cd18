"""Card B1."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sentei.criteria.derivatives import (
    gauss_newton_diagonal,
    gradient,
    hessian_diagonal,
    sample_gradients,
    second_moment,
)
from sentei.criteria.weights import weigh
from sentei.criteria.weights.fisher import obd
from sentei.graph.errors import PruneError
from tests.methods.gradient.nets import batch, convnet, evidence, mlp


class Bowl(nn.Module):
    """L = sum of h (w - w*)² / 2, at its minimum."""

    def __init__(self, h: torch.Tensor, best: torch.Tensor) -> None:
        super().__init__()
        self.h, self.best = h, best
        self.weight = nn.Parameter(best.clone())

    def forward(self, x):
        return 0.5 * (self.h * (self.weight - self.best).square()).sum() + 0 * x.sum()


def bowl():
    torch.manual_seed(0)
    model = Bowl(torch.rand(2, 3).double() + 0.1, torch.randn(2, 3).double())
    return model, evidence(model, (torch.zeros(1, 1), torch.zeros(1)), lambda out, y: out)


@pytest.mark.parametrize("curvature", ["exact", "hutchinson"])
def test_on_a_bowl_it_is_the_true_cost(curvature):
    model, about = bowl()
    scores = obd(about, curvature=curvature)["weight"]
    for place in range(6):
        with torch.no_grad():
            model.weight.copy_(model.best)
            model.weight.view(-1)[place] = 0.0
            cost = model(torch.zeros(1)).item()
            model.weight.copy_(model.best)
        assert scores.view(-1)[place].item() == pytest.approx(cost, rel=1e-9)


def test_hutchinson_comes_to_the_diagonal():
    about = evidence(mlp(4, 5, 3), batch(20, 4))
    exact = hessian_diagonal(about, None)
    rows = [hessian_diagonal(evidence(about.model, about.data, seed=seed), 4) for seed in range(60)]
    for name, want in exact.items():
        drawn = torch.stack([r[name] for r in rows])
        # Of 55 estimates a few lie outside two of their own standard errors, none outside five.
        off = (drawn.mean(0) - want).abs() / (drawn.std(0) / 60**0.5 + 1e-12)
        assert off.max() < 5 and (off < 2).double().mean() > 0.85


def test_linear_regression_has_the_mean_square_of_its_inputs():
    torch.manual_seed(0)
    model = nn.Linear(4, 1, bias=False).double()
    x = torch.randn(30, 4).double()
    # mse_loss is the square itself: its second derivative is twice the mean of x².
    about = evidence(model, (x, torch.randn(30, 1).double()), lambda o, y: F.mse_loss(o, y) / 2)
    want = x.square().mean(0, keepdim=True)
    for found in (hessian_diagonal(about, None), gauss_newton_diagonal(about)):
        torch.testing.assert_close(found["weight"], want, rtol=1e-9, atol=1e-12)
    wanda = (model.weight.detach().abs() * x.square().mean(0).sqrt()).square()
    torch.testing.assert_close(obd(about, curvature="exact")["weight"], wanda / 2)


def test_gauss_newton_is_the_hessians_diagonal_where_outputs_are_linear_in_each_weight():
    for sizes in ((4, 3), (4, 6, 3)):  # ReLU: linear in any one weight, so nothing is left out
        about = evidence(mlp(*sizes), batch(12, 4))
        for name, want in hessian_diagonal(about, None).items():
            got = gauss_newton_diagonal(about)[name]
            torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)


def test_negative_curvature_does_not_make_a_weight_better_than_free():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    about = evidence(model, batch(20, 4))
    assert any((v < 0).any() for v in hessian_diagonal(about, None).values())
    assert all((v >= 0).all() for v in gauss_newton_diagonal(about).values())
    assert all((s >= 0).all() for s in weigh(partial(obd, curvature="exact"), about).values())


@pytest.mark.parametrize("norm", [False, True])
def test_gradients_of_single_examples_are_those_of_batches_of_one(norm):
    model, (x, y) = convnet(norm), batch(5, 2, 8, 8)
    rows = list(sample_gradients(evidence(model, (x, y))))
    got = torch.cat([r["0.weight"] for r in rows])
    model.eval()
    for i in range(5):
        loss = F.cross_entropy(model(x[i : i + 1]), y[i : i + 1])
        want = torch.autograd.grad(loss, model[0].weight)[0]
        torch.testing.assert_close(got[i], want, rtol=1e-9, atol=1e-12)
    mean = gradient(evidence(model, (x, y)))["0.weight"]
    torch.testing.assert_close(got.mean(0), mean, rtol=1e-9, atol=1e-12)
    moment = second_moment(evidence(model, (x, y)))["0.weight"]
    torch.testing.assert_close(moment, got.square().mean(0), rtol=1e-9, atol=1e-14)


def test_code_that_cannot_be_vectorised_gives_the_same_one_by_one():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = mlp(4, 5, 3)

        def forward(self, x):
            return self.inner(x) * (2.0 if x.sum().item() > 0 else 1.0)

    model, (x, y) = Branches(), batch(6, 4)
    got = torch.cat([r["inner.0.weight"] for r in sample_gradients(evidence(model, (x, y)))])
    loss = F.cross_entropy(model(x[2:3]), y[2:3])
    want = torch.autograd.grad(loss, model.inner[0].weight)[0]
    torch.testing.assert_close(got[2], want)


def test_what_has_no_examples_says_so():
    model = mlp(4, 3)
    data = {"input": torch.zeros(3, 4).double(), "other": torch.zeros(2, 3)}
    with pytest.raises(PruneError, match="cannot be taken apart"):
        list(sample_gradients(evidence(model, data, lambda out, b: out.sum())))
    with pytest.raises(PruneError, match="unknown curvature 'fishes'; closest: 'fisher'"):
        obd(evidence(model, batch(3, 4)), curvature="fishes")


def test_the_predictions_of_a_graph_are_its_examples():
    class Graph(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2, bias=False).double()

        def forward(self, x, edges):
            return self.layer(x.index_add(0, edges[1], x[edges[0]]))

    model, (x, _) = Graph(), batch(4, 3)
    edges, y = torch.tensor([[0, 1, 2], [1, 2, 3]]), torch.tensor([0, -100, 1, 1])
    model.requires_grad_(False)
    about = evidence(model, [((x, edges), y)])
    for _ in sample_gradients(about):
        assert not model.layer.weight.requires_grad and model.training
    rows = torch.cat([r["layer.weight"] for r in sample_gradients(about)])
    assert len(rows) == 3
    torch.testing.assert_close(rows.mean(0), gradient(about)["layer.weight"])
    model.requires_grad_(True)
    loss = F.cross_entropy(model(x, edges)[3:], y[3:])
    torch.testing.assert_close(rows[2], torch.autograd.grad(loss, model.layer.weight)[0])


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_adams_second_moment_is_kept_for_any_optimizer(optimizer):
    """Against a running mean of the gradients that each step saw."""
    from sentei.hooks import Hook, SecondMoment
    from sentei.recovery.train import Recipe, train

    class Watch(Hook):
        def start(self, *args):
            super().start(*args)
            self.mean = torch.zeros(5, 4, dtype=torch.float64)

        def before_step(self):
            grad = self.model[0].weight.grad
            self.mean = 0.999 * self.mean + 0.001 * grad.square()
            return True

    model, watch, hook = mlp(4, 5, 3), Watch(), SecondMoment(["0.weight"])
    recipe = Recipe(epochs=3, lr=0.01, batch_size=10, optimizer=optimizer)
    steps = train(model, batch(40, 4), recipe, hooks=[hook, watch]).steps
    torch.testing.assert_close(hook.moments["0.weight"], watch.mean / (1 - 0.999**steps))
