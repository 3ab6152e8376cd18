"""Layer densities from shapes alone: card A7's exact tests of ERK."""

from math import prod

import pytest

from sentei.allocation.weights import counts, erk

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
