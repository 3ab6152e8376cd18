"""Cards B6 and B7."""

import itertools

import pytest
import torch

from sentei.graph.errors import PruneError
from sentei.methods import METHODS, Setting, apply
from sentei.methods.gradient import progressive as loop
from sentei.recovery.train import Recipe
from tests.methods.gradient.nets import batch, mlp


def masks(method, density=0.1, **options):
    given = Setting(
        mlp(8, 20, 12, 3), batch(60, 8), density=density, recipe=Recipe(epochs=0),
        example=torch.zeros(1, 8),
    )  # fmt: skip
    return apply(METHODS[method], given, **options).masks


def trail(monkeypatch, method, steps):
    """The masks after every round."""
    seen = []

    def select(scores, density, *rest):
        seen.append(true_select(scores, density, *rest))
        return seen[-1]

    true_select = loop.select
    monkeypatch.setattr(loop, "select", select)
    masks(method, steps=steps)
    return seen


def test_one_step_is_snip():
    snip = masks("snip", samples=60)
    for method in ("iter-snip", "force"):
        assert masks(method, steps=1, samples=60).equal(snip)


def test_what_iter_snip_removed_stays_removed_and_force_takes_some_back(monkeypatch):
    for method, returning in (("iter-snip", False), ("force", True)):
        seen = trail(monkeypatch, method, 20)
        back = sum(
            int((later[n] & ~earlier[n]).sum())
            for earlier, later in itertools.pairwise(seen)
            for n in later
        )
        assert (back > 0) is returning


def test_densities_fall_along_the_curve(monkeypatch):
    total = 8 * 20 + 20 * 12 + 12 * 3
    kept = [m.kept for m in trail(monkeypatch, "force", 4)]
    assert kept == [round(total * 0.1 ** (t / 4)) for t in (1, 2, 3, 4)]
    assert masks("force", curve="linear", steps=3).kept == round(total * 0.1)


def test_mistakes_speak():
    with pytest.raises(PruneError, match="steps: how many rounds"):
        masks("force", steps=0)
    with pytest.raises(PruneError, match="unknown curve 'expo'"):
        masks("force", curve="expo")
