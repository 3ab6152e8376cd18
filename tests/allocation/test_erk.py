"""Counts of weights: card A7's exact tests of ERK, and the choice of the best k."""

from math import prod

import pytest
import torch

from sentei.allocation.weights import counts, erk, top

MLP = {"1": (300, 64), "3": (100, 300), "5": (10, 100)}


@pytest.mark.parametrize(
    "density, kept",
    [(0.05, (1045, 1149, 316)), (0.01, (209, 230, 63)), (0.1, (2091, 2297, 632))],
)
def test_counts_of_the_mlp(density, kept):
    assert tuple(counts(MLP, erk(MLP, density)).values()) == kept


@pytest.mark.parametrize("density", [0.001, 0.1, 0.5, 0.9, 1.0])
def test_the_budget_is_met_and_no_layer_exceeds_one(density):
    shapes = {**MLP, "conv": (8, 4, 3, 3), "tiny": (2, 3)}
    found = erk(shapes, density)
    size = sum(prod(s) for s in shapes.values())
    assert sum(d * prod(shapes[n]) for n, d in found.items()) == pytest.approx(density * size)
    assert all(0 < d <= 1 + 1e-12 for d in found.values())
    assert found["3"] <= found["1"] <= found["5"]  # larger layers are sparser


def test_the_best_k_are_those_of_a_stable_sort():
    torch.manual_seed(0)
    for _ in range(200):
        scores = torch.randint(5, (6, 7)).float()  # many are equal
        scores[torch.rand(6, 7) < 0.1] = -torch.inf
        k = int(torch.randint(43, ()))
        want = torch.ones(42, dtype=torch.bool)
        want[scores.flatten().argsort(stable=True)[: 42 - k]] = False
        assert torch.equal(top(scores, k), want.view(6, 7))
