"""C7: random sparse network transformation."""

from dataclasses import replace

import pytest
import torch

from sentei.graph.errors import PruneError
from sentei.hooks import Extrusion, Hook
from sentei.methods import METHODS, apply
from sentei.methods.lottery.rounds import cut
from sentei.recovery.train import Recipe
from sentei.structures import Masks


def half(given):
    full = Masks.full(given.weights)
    return cut({n: torch.rand(m.shape) for n, m in full.items()}, full, dict.fromkeys(full, 0.5))


def test_the_mask_does_not_depend_on_the_data(make):
    one = apply(METHODS["rst"], make())
    x, y = make().data
    two = apply(METHODS["rst"], make(data=(x.flip(0) * 2, y)))
    assert one.masks.equal(two.masks)
    assert len({round(d, 6) for d in one.masks.densities().values()}) == 1


def test_the_gradients_term_is_lambda_times_what_goes(make):
    given = make()
    masks = half(given)
    seen = []

    class Before(Hook):
        def before_step(self):
            self.grads = {n: p.grad.clone() for n, p in self.model.named_parameters()}
            return True

    class After(Hook):
        def before_step(self):
            for name, p in self.model.named_parameters():
                added = p.grad - before.grads[name]
                term = torch.zeros_like(p)
                if name in masks:
                    term = hook.strength * torch.where(masks[name], 0.0, p.detach())
                torch.testing.assert_close(added, term, atol=1e-6, rtol=1e-5)
            seen.append(hook.strength)
            return True

    before, hook = Before(), Extrusion(masks, peak=0.8, ramp=8, interval=2)
    given.train([before, hook, After()])
    assert seen[:10] == pytest.approx([0, 0, 0.2, 0.2, 0.4, 0.4, 0.6, 0.6, 0.8, 0.8])
    assert seen[10:] == [0.8] * 8


def test_what_is_removed_has_been_emptied(make):
    given = make()
    given.recipe = Recipe(epochs=200, lr=0.05, batch_size=96)  # gradients without noise
    stds = {n: w.std().item() for n, w in given.weights.items()}
    masks = half(given)
    # |w| settles near |gradient| / λ, so that a short training needs a strong one.
    given.train([Extrusion(masks, peak=20.0)])
    before = given.model.eval()(given.data[0])
    for name, weight in given.weights.items():
        assert weight[~masks[name]].abs().max() <= 1e-2 * stds[name]
    masks.apply_(given.model)
    after = given.model(given.data[0])
    assert (before - after).abs().max() <= 1e-2 * before.std()


def test_without_a_penalty_it_is_dense_training_and_random_pruning(make):
    given, plain = make(), make()
    masks = apply(METHODS["rst"], given, peak=0.0).masks
    plain.train(recipe=replace(plain.recipe, epochs=1))
    plain.train(masks=masks, recipe=replace(plain.recipe, epochs=2))
    assert all(torch.equal(t, plain.state()[n]) for n, t in given.state().items())


def test_cycles_drop_more_and_more(make):
    given = make()
    outcome = apply(METHODS["rst"], given, cycles=3)
    assert outcome.kept == round(0.25 * outcome.weights) and len(outcome.logs) == 4
    with pytest.raises(PruneError, match="leaves none for one of the two"):
        apply(METHODS["rst"], make(), share=0.01)
