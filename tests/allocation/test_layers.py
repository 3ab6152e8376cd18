"""Card A7 (and the allocation of A5): densities by shapes. ERK's counts are in test_erk.py."""

from math import prod

import pytest
import torch
from hypothesis import given, strategies

from sentei.allocation.layers import er, erk, first_dense, uniform, uniform_plus
from sentei.allocation.weights import DENSITIES, counts, select
from sentei.graph.errors import PruneError

MLP = {"a": (300, 64), "b": (100, 300), "c": (10, 100)}
CONV = {"stem": (16, 3, 3, 3), "mid": (32, 16, 3, 3), "deep": (64, 32, 3, 3), "head": (10, 64)}


@given(
    strategies.lists(
        strategies.lists(strategies.integers(1, 40), min_size=2, max_size=4), min_size=1, max_size=6
    ),
    strategies.floats(0.005, 1.0),
)
def test_erk_spends_the_budget_and_never_exceeds_a_layer(shapes, density):
    named = {str(i): tuple(s) for i, s in enumerate(shapes)}
    total = sum(prod(s) for s in named.values())
    for solve, dims in ((erk, None), (er, 2)):
        found = solve(named, density)
        spent = sum(found[n] * prod(s) for n, s in named.items())
        assert spent == pytest.approx(density * total, rel=1e-9)
        assert all(0 < d <= 1 for d in found.values())
        ratio = {n: sum(s[:dims]) / prod(s[:dims]) for n, s in named.items()}
        for a in named:
            for b in named:
                if ratio[a] < ratio[b]:
                    assert found[a] <= found[b] + 1e-12


def test_er_leaves_kernels_out():
    assert er(MLP, 0.1) == pytest.approx(erk(MLP, 0.1))
    assert er(CONV, 0.1) != pytest.approx(erk(CONV, 0.1))


@pytest.mark.parametrize("density", [0.05, 0.3, 0.5, 0.9, 1.0])
def test_first_dense_by_the_formula(density):
    sizes = {n: prod(s) for n, s in CONV.items()}
    total, sparsity = sum(sizes.values()), 1 - density
    last = min(sparsity, 0.8)
    mid = (sparsity * total - last * sizes["head"]) / (total - sizes["stem"] - sizes["head"])
    found = first_dense(CONV, density)
    assert found["stem"] == 1
    assert found["head"] == pytest.approx(1 - last)
    assert found["mid"] == found["deep"] == pytest.approx(1 - mid)
    pruned = total - sum(counts(CONV, found).values())
    assert abs(pruned - round(sparsity * total)) <= len(CONV)
    assert uniform_plus(CONV, density) == found


def test_a_budget_that_cannot_be_met_speaks():
    with pytest.raises(PruneError, match="would have to lose"):
        first_dense(MLP, 0.1)  # the first layer alone is 38 % of the weights
    # An MLP has no first convolution to spare.
    assert uniform_plus(MLP, 0.1)["a"] < 0.1 and uniform_plus(MLP, 0.1)["c"] == 0.2


def test_uniform_is_uniform():
    assert set(uniform(CONV, 0.3).values()) == {0.3}


@pytest.mark.parametrize("scope", ["global", *DENSITIES])
def test_counts_are_exact_and_monotone(scope):
    torch.manual_seed(0)
    scores = {n: torch.randn(s).abs() for n, s in CONV.items()}
    total, before = sum(s.numel() for s in scores.values()), None
    for density in (0.05, 0.1, 0.37, 0.8, 1.0):
        masks = select(scores, density, scope)
        assert masks.kept == round(density * total)
        if before is not None and scope in ("global", "uniform"):
            assert all(not (before[n] & ~masks[n]).any() for n in scores)
        before = masks
    assert before.kept == total
