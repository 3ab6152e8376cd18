"""Card B4, scores of weights."""

import torch
from torch import nn

from sentei.criteria.weights.taylor import taylor_abs, taylor_second, taylor_sq
from tests.methods.gradient.nets import batch, evidence, mlp


def test_in_a_linear_model_with_a_linear_loss_it_is_the_true_change():
    torch.manual_seed(0)
    model, (x, _) = nn.Linear(4, 2).double(), batch(7, 4)
    about = evidence(model, (x, torch.zeros(7)), lambda out, y: out.mean())
    scores = taylor_abs(about)["weight"]
    whole = model(x).mean().item()
    for place in range(8):
        value = model.weight.data.view(-1)[place].item()
        model.weight.data.view(-1)[place] = 0.0
        change = abs(model(x).mean().item() - whole)
        model.weight.data.view(-1)[place] = value
        torch.testing.assert_close(scores.view(-1)[place].item(), change, rtol=1e-9, atol=1e-12)


def test_for_one_example_the_absolute_value_is_the_root_of_the_square():
    about = evidence(mlp(4, 5, 3), batch(1, 4))
    for name, scores in taylor_sq(about).items():
        torch.testing.assert_close(scores.sqrt(), taylor_abs(about)[name])


def test_the_absolute_value_is_inside_the_mean():
    model, data = mlp(4, 5, 3), batch(20, 4)
    about = evidence(model, data)
    singles = evidence(model, [(data[0][i : i + 1], data[1][i : i + 1]) for i in range(20)])
    for name, scores in taylor_abs(about, examples=True).items():
        torch.testing.assert_close(scores, taylor_abs(singles)[name])
        assert (scores >= taylor_abs(about)[name] - 1e-12).all()


def test_the_second_order_score_is_exact_on_a_parabola():
    """L = (w x - y)² / 2 for one example: g w - w² h / 2 is the loss lost with w."""
    torch.manual_seed(0)
    model = nn.Linear(1, 1, bias=False).double()
    x, y = torch.tensor([[1.5]]).double(), torch.tensor([[0.4]]).double()
    about = evidence(model, (x, y), lambda out, y: 0.5 * (out - y).square().mean())
    got = taylor_second(about, curvature="hessian")["weight"].item()
    change = 0.5 * (model(x) - y).square().item() - 0.5 * y.square().item()
    torch.testing.assert_close(got, change**2, rtol=1e-9, atol=1e-14)
