"""Card B3, on matrices; every fact against an independent least-squares solution."""

import pytest
import torch

from sentei.graph.errors import PruneError
from sentei.recovery.layer_obs import cheapest, damped_inverse, greedy, least_squares, one_pass


def layer(rows=5, columns=8, seed=0, n=40):
    """(W, H, X): correlated inputs X (columns, n) and H = 2/n X Xᵀ."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(columns, columns, generator=generator, dtype=torch.float64)
    x = mix @ torch.randn(columns, n, generator=generator, dtype=torch.float64)
    w = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    return w, 2 / n * x @ x.T, x


def loss(change, hessian):
    return 0.5 * ((change @ hessian) * change).sum(-1)


def fitted(w, x, mask):
    """Row by row: the weights on the support that reproduce w x best, by a solver of its own."""
    out = torch.zeros_like(w)
    for r in range(len(w)):
        keep = mask[r]
        if keep.any():
            target = (w[r] @ x)[:, None]
            out[r, keep] = torch.linalg.lstsq(x[keep].T, target).solution[:, 0]
    return out


@pytest.mark.parametrize("width", [1, 2, 4])
def test_each_step_costs_what_it_says_and_leads_to_the_least_squares_weights(width):
    w, hessian, x = layer()
    inverse, _ = damped_inverse(hessian)
    trace = greedy(w, inverse, width=width)
    for steps in range(8 // width + 1):
        mask = trace.mask(torch.full((5,), steps), 8)
        got = least_squares(w, inverse, mask)
        torch.testing.assert_close(got, fitted(w, x, mask), rtol=1e-8, atol=1e-9)
        spent = trace.loss[:, :steps].sum(1)
        torch.testing.assert_close(spent, loss(got - w, hessian), rtol=1e-8, atol=1e-9)
        assert (mask.sum(1) == 8 - steps * width).all()


def test_each_step_is_the_cheapest_there_is():
    """Against trying every column: the loss of the least-squares fit without it."""
    w, hessian, x = layer()
    trace = greedy(w, damped_inverse(hessian)[0])
    for row in range(5):
        keep = torch.ones(8, dtype=torch.bool)
        for step in range(8):
            costs = {}
            for column in keep.nonzero().flatten().tolist():
                mask = keep.clone()
                mask[column] = False
                new = fitted(w[row : row + 1], x, mask[None])
                costs[column] = loss(new - w[row : row + 1], hessian).item()
            best = min(costs, key=costs.get)
            assert trace.order[row, step].item() == best
            keep[best] = False


def test_the_cheapest_steps_of_all_rows_are_taken():
    w, hessian, _ = layer()
    w[0] *= 0.01  # a row that hardly matters loses everything first
    trace = greedy(w, damped_inverse(hessian)[0])
    counts = cheapest(trace, 12)
    assert counts.sum() == 12 and counts[0] == 8
    assert trace.mask(counts, 8).sum() == 40 - 12


def test_patterns_hold_in_every_group():
    w, hessian, _ = layer()
    inverse, _ = damped_inverse(hessian)
    trace = greedy(w, inverse, pattern=(1, 4))
    mask = trace.mask(cheapest(trace, trace.loss.numel()), 8)
    assert (mask.view(5, 2, 4).sum(2) == 1).all()
    with pytest.raises(PruneError, match="rows of 8 weights cannot be cut into parts of 3"):
        greedy(w, inverse, pattern=(1, 3))


def test_a_column_that_others_make_up_for_costs_nothing():
    w, _, x = layer()
    x[3] = 2 * x[0] - x[5]
    hessian = 2 / 40 * x @ x.T
    inverse, _ = damped_inverse(hessian, damping=1e-9)
    trace = greedy(w, inverse)
    assert trace.loss[:, 0].max() < 1e-6 * trace.loss[:, -1].min()


def test_l_obs_with_an_inverse_that_never_changes_is_not_the_least_squares_solution():
    w, hessian, x = layer()
    inverse, _ = damped_inverse(hessian)
    new, mask = one_pass(w, inverse, 20)
    assert (~mask).sum() == 20 and not new[~mask].any()
    exact = fitted(w, x, mask)
    assert not torch.allclose(new, exact, atol=1e-3)
    assert (loss(new - w, hessian) >= loss(exact - w, hessian) - 1e-9).all()
    # One removal is exact: nothing has changed yet.
    new, mask = one_pass(w, inverse, 1)
    torch.testing.assert_close(new, fitted(w, x, mask), rtol=1e-8, atol=1e-9)
    score = w.square() / inverse.diagonal()
    assert not mask.flatten()[score.argmin()]


def test_a_bias_is_corrected_and_never_removed():
    w, hessian, _ = layer()
    _, mask = one_pass(w, damped_inverse(hessian)[0], 35, fixed=1)
    assert mask[:, -1].all() and not mask[:, :-1].any()


def test_uncorrelated_inputs_give_the_order_of_magnitude_times_norm():
    w, _, _ = layer()
    scale = torch.rand(8, dtype=torch.float64) + 0.1
    trace = greedy(w, damped_inverse(torch.diag(scale))[0])
    torch.testing.assert_close(trace.order, (w.square() * scale).argsort(1))


def test_inputs_that_depend_on_one_another_need_damping():
    _, _, x = layer(n=4)
    with pytest.raises(PruneError, match="fewer inputs than columns"):
        damped_inverse(2 / 4 * x @ x.T - 1e-9 * torch.eye(8))
    assert damped_inverse(2 / 4 * x @ x.T, 1e-2)[0].isfinite().all()
