"""Card B10."""

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call, jacrev

from sentei.criteria.weights.ntk_sap import kernel_change, ntk_sap
from tests.methods.gradient.nets import batch, evidence, mlp


def test_the_mean_change_is_the_jacobians_squared_norm():
    torch.manual_seed(0)
    model = mlp(3, 4, 2, bias=False)
    weights = dict(model.named_parameters())
    gates = {n: torch.ones_like(w) for n, w in weights.items()}
    x, generator = batch(5, 3)[0], torch.Generator().manual_seed(0)
    epsilon, draws = 0.01, 2000
    with torch.no_grad():
        total = sum(
            kernel_change(model, weights, gates, ((x,), {}), epsilon, generator).item()
            for _ in range(draws)
        )
    detached = {n: w.detach() for n, w in weights.items()}
    jacobian = jacrev(lambda v: functional_call(model, v, (x,)))(detached)
    want = sum(j.square().sum().item() for j in jacobian.values())
    assert total / draws / epsilon**2 == pytest.approx(want, rel=0.03)


def test_neither_weights_nor_data_have_a_say():
    model = mlp(3, 6, 2)
    other = copy.deepcopy(model)
    for p in other.parameters():
        p.data.normal_()
    one = ntk_sap(evidence(model, batch(9, 3, classes=2), example=torch.zeros(1, 3).double()))
    two = ntk_sap(evidence(other, batch(4, 3, seed=7), example=torch.ones(2, 3).double()))
    assert all(torch.equal(one[n], two[n]) for n in one)


def test_in_a_linear_model_the_expected_score_is_the_inputs_square():
    """2 ε² sum over inputs of x_j², for every row alike; x is one here for every draw."""
    model = nn.Linear(3, 2, bias=False).double()
    weights = dict(model.named_parameters())
    x, generator, epsilon = batch(4, 3)[0], torch.Generator().manual_seed(0), 0.1
    rows = []
    for _ in range(1500):
        gates = {"weight": torch.ones(2, 3).double().requires_grad_()}
        change = kernel_change(model, weights, gates, ((x,), {}), epsilon, generator)
        rows.append(torch.autograd.grad(change, gates["weight"])[0])
    drawn = torch.stack(rows)
    want = 2 * epsilon**2 * x.square().sum(0).expand(2, 3)
    off = (drawn.mean(0) - want).abs() / (drawn.std(0) / len(rows) ** 0.5)
    assert off.max() < 4 and (drawn.std(0) / len(rows) ** 0.5 < 0.1 * want).all()


def test_masked_weights_score_nothing_and_batch_norm_is_left_alone():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)).double()
    masks = {"0.weight": torch.rand(4, 3) < 0.5, "3.weight": torch.ones(2, 4).bool()}
    before = {n: t.clone() for n, t in model.state_dict().items()}
    scores = ntk_sap(evidence(model, example=torch.zeros(1, 3).double()), masks)
    assert not scores["0.weight"][~masks["0.weight"]].any()
    assert scores["0.weight"][masks["0.weight"]].all()
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
