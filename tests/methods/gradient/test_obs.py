"""Card B2."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sentei.criteria.derivatives import hessian_diagonal, hessian_matrix, hessian_times
from sentei.graph.errors import PruneError
from sentei.methods import METHODS, Setting, apply
from sentei.recovery.surgeon import (
    costs,
    inverse_of_products,
    remove,
    remove_cheapest,
    remove_set,
)
from tests.methods.gradient.nets import batch, evidence, mlp


def quadratic(n=8, seed=0):
    """(θ, H) with H symmetric and positive."""
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(n, 2 * n, generator=generator, dtype=torch.float64)
    theta = torch.randn(n, generator=generator, dtype=torch.float64)
    return theta, root @ root.T / n


def constrained(theta, hessian, drop):
    """Minimise δ'Hδ / 2 with δ_Q = -θ_Q, by solving for the free entries."""
    free = torch.tensor([i for i in range(len(theta)) if i not in drop])
    drop = torch.tensor(drop)
    delta = torch.zeros_like(theta)
    delta[drop] = -theta[drop]
    if len(free):
        delta[free] = torch.linalg.solve(
            hessian[free][:, free], -hessian[free][:, drop] @ delta[drop]
        )
    return theta + delta, (0.5 * delta @ hessian @ delta).item()


def test_each_removal_is_the_constrained_minimum():
    theta, hessian = quadratic()
    inverse = torch.linalg.inv(hessian)
    for q in range(8):
        new, _ = remove(theta, inverse, q)
        want, cost = constrained(theta, hessian, [q])
        torch.testing.assert_close(new, want, rtol=1e-10, atol=1e-10)
        assert costs(theta, inverse)[q].item() == pytest.approx(cost, rel=1e-10)


def test_a_set_at_once_is_the_constrained_minimum_and_not_the_sum_of_single_updates():
    theta, hessian = quadratic()
    inverse, drop = torch.linalg.inv(hessian), [1, 4, 6]
    new, cost = remove_set(theta, inverse, torch.tensor(drop))
    want, true = constrained(theta, hessian, drop)
    torch.testing.assert_close(new, want, rtol=1e-10, atol=1e-10)
    assert cost == pytest.approx(true, rel=1e-10)
    one_by_one, way = theta, inverse
    for q in drop:
        one_by_one, way = remove(one_by_one, way, q)
    torch.testing.assert_close(one_by_one, want, rtol=1e-10, atol=1e-10)
    summed = theta + sum(remove(theta, inverse, q)[0] - theta for q in drop)
    assert not torch.allclose(summed, want, atol=1e-3)


def test_the_downdate_is_the_inverse_without_the_row_and_column():
    theta, hessian = quadratic()
    inverse = torch.linalg.inv(hessian)
    left = torch.arange(8)
    for q in (3, 0, 6):
        theta, inverse = remove(theta, inverse, q)
        left = left[left != q]
        want = torch.zeros(8, 8, dtype=torch.float64)
        want[left[:, None], left] = torch.linalg.inv(hessian[left][:, left])
        torch.testing.assert_close(inverse, want, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("block", [1, 3, 64])
def test_many_removals_are_as_many_single_ones(block):
    theta, hessian = quadratic(30)
    removable = torch.arange(30) % 5 != 0
    want, inverse, gone = theta, torch.linalg.inv(hessian), []
    given = inverse.clone()
    for _ in range(20):
        cost = costs(want, inverse)
        cost[~removable | torch.isin(torch.arange(30), torch.tensor(gone or [-1]))] = torch.inf
        gone.append(int(cost.argmin()))
        want, inverse = remove(want, inverse, gone[-1])
    got, removed = remove_cheapest(theta, given, removable, 20, block)
    assert sorted(gone) == removed.nonzero().flatten().tolist()
    assert not got[removed].any()
    torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-10)
    assert torch.equal(given, torch.linalg.inv(hessian))


def test_with_a_diagonal_hessian_it_is_optimal_brain_damage():
    theta, hessian = quadratic()
    h = hessian.diagonal()
    torch.testing.assert_close(costs(theta, torch.diag(1 / h)), 0.5 * h * theta.square())
    new, _ = remove(theta, torch.diag(1 / h), 2)
    assert new[2] == 0 and torch.equal(new[3:], theta[3:])
    orders = [
        (costs(t, torch.linalg.inv(m)).argsort(), (m.diagonal() * t.square()).argsort())
        for t, m in (quadratic(seed=seed) for seed in range(5))
    ]
    assert any(not torch.equal(a, b) for a, b in orders)  # otherwise it need not be


def test_the_recursion_is_the_inverse():
    rows = torch.randn(20, 6, dtype=torch.float64)
    want = torch.linalg.inv(0.01 * torch.eye(6).double() + rows.T @ rows / 20)
    torch.testing.assert_close(inverse_of_products(rows, 20, 0.01), want, rtol=1e-10, atol=1e-10)


def test_the_matrix_agrees_with_products_and_diagonal():
    about = evidence(mlp(3, 4, 2), batch(9, 3, classes=2))
    names = list(about.tensors)
    matrix = hessian_matrix(about, names, at_once=7)
    torch.testing.assert_close(matrix, matrix.T)
    vectors = {n: torch.randn_like(t) for n, t in about.tensors.items()}
    flat = torch.cat([vectors[n].flatten() for n in names])
    product = torch.cat([p.flatten() for p in hessian_times(about, vectors).values()])
    torch.testing.assert_close(matrix @ flat, product, rtol=1e-9, atol=1e-12)
    weights = {n: about.weights[n].numel() for n in about.weights}
    exact = hessian_diagonal(about, None)["0.weight"].flatten()
    torch.testing.assert_close(matrix.diagonal()[: weights["0.weight"]], exact)


@pytest.mark.parametrize("every", [0, 3])
def test_on_a_linear_regression_what_stays_is_the_least_squares_fit(every):
    """The loss is quadratic and at its minimum, so the updates are exact however many."""
    torch.manual_seed(0)
    x = torch.randn(40, 6) @ torch.randn(6, 6)
    y = x @ torch.randn(6, 2) + 0.3 * torch.randn(40, 2)
    model = nn.Linear(6, 2, bias=False)
    model.weight.data = torch.linalg.lstsq(x.double(), y.double()).solution.T.float()
    given = Setting(model, (x, y), F.mse_loss, density=0.5)
    masks = apply(METHODS["obs"], given, every=every, damping=1e-9).masks
    assert model.weight.dtype == torch.float32
    for row, keep in enumerate(masks["weight"]):
        want = torch.linalg.lstsq(x[:, keep], y[:, row : row + 1]).solution[:, 0]
        torch.testing.assert_close(model.weight[row, keep], want, rtol=1e-3, atol=1e-4)


def test_too_many_parameters_are_refused():
    given = Setting(mlp(8, 40, 3), batch(20, 8), density=0.5)
    with pytest.raises(PruneError, match="a matrix of 483 x 483; its limit is 100"):
        apply(METHODS["obs"], given, limit=100)
    with pytest.raises(PruneError, match="unknown curvature 'hesian'; closest: 'hessian'"):
        apply(METHODS["obs"], given, curvature="hesian")
