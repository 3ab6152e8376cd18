import copy

import pytest
import torch
from torch import nn

from sentei.allocation.weights import top
from sentei.graph.errors import PruneError
from sentei.methods import METHODS, apply
from sentei.recovery.sparse_obs import inverse_factor, solve
from sentei.structures import nm
from tests.methods.magnitude.nets import setting
from tests.methods.magnitude.test_a13_wanda import convolutional

SPARSEGPT = METHODS["sparsegpt"]


def problem(rows=5, columns=8, seed=0, correlated=True):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    x = torch.randn(40, columns, generator=generator, dtype=torch.float64)
    if correlated:
        x = x @ torch.randn(columns, columns, generator=generator, dtype=torch.float64)
    return weight, 2 / len(x) * x.T @ x


def cost(change, hessian):
    return torch.trace(change @ hessian @ change.T).item()


def least_squares(weight, hessian, mask):
    """Row by row, the optimum when the masked entries must be zero."""
    inverse, out = torch.linalg.inv(hessian), weight.clone()
    for i, row in enumerate(mask):
        gone = (~row).nonzero().flatten()
        if len(gone):
            block = inverse[gone][:, gone]
            out[i] -= weight[i, gone] @ torch.linalg.inv(block) @ inverse[gone]
            out[i, gone] = 0
    return out


def test_the_diagonal_of_the_factor_is_the_inverse_diagonal_of_what_is_left():
    _, hessian = problem()
    upper = inverse_factor(hessian, damping=0.0)
    for i in range(8):
        left = torch.linalg.inv(hessian[i:, i:])[0, 0]
        torch.testing.assert_close(upper[i, i] ** 2, left, rtol=1e-10, atol=0)


def test_a_prefix_gives_the_least_squares_optimum():
    weight, hessian = problem()
    mask = torch.arange(8) >= torch.tensor([0, 1, 3, 5, 7])[:, None]
    done = solve(weight, hessian, mask=mask, damping=0.0)
    torch.testing.assert_close(done.weight, least_squares(weight, hessian, mask))


def one_by_one(weight, hessian, mask):
    """The optimal brain surgeon, removing masked entries from left to right."""
    out = weight.clone()
    for r, i in (~mask).nonzero().tolist():
        inverse = torch.linalg.inv(hessian[i:, i:])
        out[r, i:] -= out[r, i] / inverse[0, 0] * inverse[0]
        out[r, i] = 0
    return out


def test_it_is_the_surgeon_one_weight_after_the_other():
    ours = zeroing = 0.0
    for seed in range(20):
        weight, hessian = problem(seed=seed, correlated=False)
        mask = torch.rand(5, 8, generator=torch.Generator().manual_seed(seed)) > 0.5
        done = solve(weight, hessian, mask=mask, damping=0.0).weight
        torch.testing.assert_close(done, one_by_one(weight, hessian, mask))
        best = cost(least_squares(weight, hessian, mask) - weight, hessian)
        assert best <= cost(done - weight, hessian) * (1 + 1e-9)
        # Each step is best for the columns still there, some of which go later: better than
        # zeroing in sum, though not for every mask.
        ours += cost(done - weight, hessian)
        zeroing += cost(weight * mask - weight, hessian)
    assert ours < zeroing


def test_uncorrelated_inputs_are_magnitude_without_update():
    weight, _ = problem()
    done = solve(weight, 3 * torch.eye(8, dtype=torch.float64), drop=20)
    assert torch.equal(done.mask, top(weight.abs(), 20))
    torch.testing.assert_close(done.weight, weight * done.mask)


@pytest.mark.parametrize("block", [1, 3, 4, 128])
def test_the_block_size_does_not_change_a_given_mask(block):
    weight, hessian = problem()
    mask = torch.rand(5, 8) > 0.4
    done = solve(weight, hessian, mask=mask, block=block)
    torch.testing.assert_close(done.weight, solve(weight, hessian, mask=mask).weight)
    assert not done.weight[~mask].count_nonzero()


@pytest.mark.parametrize("block,drop", [(3, 17), (8, 20), (1, 39), (128, 0)])
def test_the_count_is_exact(block, drop):
    weight, hessian = problem()
    done = solve(weight, hessian, drop=drop, block=block)
    assert int((~done.mask).sum()) == drop and not done.weight[~done.mask].count_nonzero()


@pytest.mark.parametrize("pattern,block", [((2, 4), 128), ((1, 4), 3), ((3, 4), 6)])
def test_patterns_hold_in_every_row_and_group(pattern, block):
    done = solve(*problem(), pattern=pattern, block=block)
    assert nm.holds(done.weight, *pattern)
    assert (done.mask.reshape(-1, pattern[1]).sum(1) == pattern[0]).all()
    with pytest.raises(PruneError, match="multiple of 3"):
        solve(*problem(), pattern=(1, 3))


def test_the_predicted_loss_is_what_it_costs():
    weight, hessian = problem()
    done = solve(weight, hessian, drop=20, damping=0.0)
    assert done.loss == pytest.approx(cost(done.weight - weight, hessian) / 2, rel=1e-9)


def test_inputs_that_are_always_zero_lose_their_weights():
    weight, hessian = problem()
    hessian[2] = hessian[:, 2] = 0
    done = solve(weight, hessian, drop=10)
    assert not done.weight[:, 2].count_nonzero() and done.weight.isfinite().all()


def test_a_singular_matrix_is_damped_more_until_it_works():
    x = torch.ones(10, 6)
    upper = inverse_factor(x.T @ x, damping=1e-12)
    assert upper.isfinite().all()
    with pytest.raises(PruneError, match="NaN or infinity"):
        inverse_factor(torch.full((3, 3), float("nan")))


@pytest.mark.parametrize("scope", ["uniform", "erk"])
def test_a_convolutional_network_end_to_end(scope):
    given = setting(0.3, model=convolutional())
    dense = copy.deepcopy(given.model)
    outcome = apply(SPARSEGPT, given, scope=scope)
    assert outcome.kept == round(0.3 * outcome.weights)
    zeroed = copy.deepcopy(dense)
    outcome.masks.apply_(zeroed)
    x, dense = given.data[0], dense(given.data[0])
    # On what it was calibrated with, the same mask with corrections is closer.
    assert (given.model(x) - dense).square().sum() < (zeroed(x) - dense).square().sum()


def test_layers_are_walked_through_on_pruned_inputs():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4))
    given = setting(0.5, model=model)
    outcome = apply(SPARSEGPT, given)
    x = given.examples(64)[0][0] @ model[0].weight.detach().T + model[0].bias.detach()
    hessian = 2 / len(x) * x.T @ x
    expected = solve(given.initial["1.weight"], hessian, drop=16)
    assert torch.equal(outcome.masks["1.weight"], expected.mask)
    torch.testing.assert_close(model[1].weight.detach(), expected.weight, rtol=1e-3, atol=1e-4)


def test_mistakes_speak():
    with pytest.raises(PruneError, match="unknown scope 'global'"):
        apply(SPARSEGPT, setting(0.5), scope="global")
    with pytest.raises(PruneError, match=r"2:4 keeps 0\.5"):
        apply(SPARSEGPT, setting(0.25), scope="2:4")


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_rounding_in_the_same_pass(bits):
    weight, hessian = problem()
    done = solve(weight, hessian, drop=20, bits=bits)
    step = weight.abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1)
    levels = done.weight / step
    torch.testing.assert_close(levels, levels.round())
    assert levels.abs().max() <= 2 ** (bits - 1) - 1 + 1e-9
    assert not done.weight[~done.mask].count_nonzero() and int((~done.mask).sum()) == 20
    outcome = apply(SPARSEGPT, setting(0.3), bits=bits)
    assert outcome.kept == 192
    with pytest.raises(PruneError, match="2 bits at least"):
        solve(weight, hessian, drop=20, bits=1)


@pytest.mark.parametrize("block", [4, 8, 128])
def test_a_pattern_is_chosen_when_it_is_reached_with_the_corrections_made_so_far(block):
    weight, hessian = problem(rows=6, columns=12, seed=3)
    upper, work = inverse_factor(hessian, 0.0), weight.clone()
    kept, early = torch.ones_like(weight, dtype=torch.bool), torch.ones_like(weight).bool()
    for i in range(12):
        if i % 4 == 0:
            for mask, values in ((kept, work), (early, weight)):
                price = (values[:, i : i + 4] / upper.diagonal()[i : i + 4]).square()
                for row, lowest in enumerate(price.argsort(dim=1)[:, :2]):
                    mask[row, i + lowest] = False
        error = work[:, i].masked_fill(kept[:, i], 0.0) / upper[i, i]
        work[:, i:] -= error[:, None] * upper[i, i:]
        work[:, i].masked_fill_(~kept[:, i], 0.0)
    done = solve(weight, hessian, pattern=(2, 4), damping=0.0, block=block)
    assert torch.equal(done.mask, kept) and not torch.equal(kept, early)
    torch.testing.assert_close(done.weight, work)
