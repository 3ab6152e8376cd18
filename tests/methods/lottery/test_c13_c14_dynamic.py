"""C13 and C14: dynamic sparse training."""

from dataclasses import replace

import pytest
import torch

from sentei.allocation.weights import select
from sentei.criteria.weights import weigh
from sentei.graph.errors import PruneError
from sentei.hooks import DynamicSparse, Hook
from sentei.hooks.dynamic_sparse import rewire
from sentei.methods import METHODS, apply
from sentei.recovery.train import Recipe

LONGER = Recipe(epochs=5, lr=0.05, batch_size=16, weight_decay=1e-2)  # 30 steps


def start_masks(given):
    return select(weigh("random-weights", given.evidence()), given.keep, "erk")


class Look(Hook):
    """What is before and after every step; goes before the hook it watches."""

    def __init__(self, watched):
        self.watched, self.masks, self.grads, self.weights = watched, [], [], []

    def before_step(self):
        self.masks.append(self.watched.masks)
        named = dict(self.model.named_parameters())
        self.grads.append({n: named[n].grad.clone() for n in self.watched.masks})
        self.weights.append({n: named[n].detach().clone() for n in self.watched.masks})
        return True


def watched(make, grow, **how):
    given = make(0.25, recipe=LONGER)
    hook = DynamicSparse(start_masks(given), grow, interval=5, **how)
    look = Look(hook)
    given.train([look, hook])
    look.masks.append(hook.masks)
    return given, hook, look


@pytest.mark.parametrize("grow", ["gradient", "random"])
def test_counts_stay_and_masked_weights_are_zero(make, grow):
    _, hook, look = watched(make, grow)
    counts = {n: int(m.sum()) for n, m in look.masks[0].items()}
    for masks in look.masks:
        assert {n: int(m.sum()) for n, m in masks.items()} == counts
    for masks, weights in zip(look.masks, look.weights, strict=False):
        assert all(not weights[n][~masks[n]].any() for n in masks)
    # Steps 5, 10, 15 and 20 are below 0.75 * 30; nothing moves afterwards, nor at any other
    # step; at 20 the share is so small that it is no whole weight.
    moved = [i for i in range(30) if not look.masks[i].equal(look.masks[i + 1])]
    assert moved == [5, 10, 15] and hook.updates == 4


def test_grown_weights_start_at_zero_so_that_nothing_is_computed_otherwise(make):
    _, _, look = watched(make, "gradient")
    for step in (5, 10, 15):
        before, after = look.masks[step], look.masks[step + 1]
        for name in before:
            new = after[name] & ~before[name]
            assert new.any() or name == "6.weight"
            # The step that grows them does not move anything: the optimiser's step is left out.
            kept = before[name] & after[name]
            now, then = look.weights[step + 1][name], look.weights[step][name]
            assert not now[new].any()
            assert torch.equal(now[kept], then[kept])


def test_growth_is_the_largest_gradient_by_brute_force(make):
    _, _, look = watched(make, "gradient")
    grown_any = False
    for step in (5, 10, 15, 20):
        for name, mask in look.masks[step].items():
            after = look.masks[step + 1][name].flatten()
            flat, was = look.weights[step][name].flatten().abs(), mask.flatten()
            share = 0.15 * (1 + torch.cos(torch.tensor(torch.pi * step / 22.5)).item())
            k = int(share * int(was.sum()))
            active = sorted(was.nonzero().flatten().tolist(), key=lambda i: flat[i].item())
            dropped = set(active[:k])
            left = set(active[k:])
            grads = look.grads[step][name].flatten().abs()
            rest = [i for i in range(len(flat)) if i not in left]
            grown = set(sorted(rest, key=lambda i: -grads[i].item())[:k])
            assert set(after.nonzero().flatten().tolist()) == left | grown
            assert not dropped & left
            grown_any |= bool(grown - dropped)
    assert grown_any


def test_what_is_dropped_and_grown_at_once_keeps_its_value():
    weight = torch.tensor([3.0, 0.1, 2.0, 0.0])
    growth = torch.tensor([0.0, 9.0, 0.0, 1.0])
    assert rewire(weight, weight != 0, growth, 1).tolist() == [True, True, True, False]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_optimisers_memory_of_grown_weights_is_empty(make, optimizer):
    given = make(0.25, recipe=replace(LONGER, optimizer=optimizer))
    hook = DynamicSparse(start_masks(given), interval=5)
    found = []

    class Memory(Hook):
        def after_step(self):
            super().after_step()
            if self.step != 6:
                return
            new = hook.masks["0.weight"] & ~first["0.weight"]
            state = self.optimizer.state[dict(self.model.named_parameters())["0.weight"]]
            for value in state.values():
                if value.shape == new.shape:
                    found.append((value[new], value[hook.masks["0.weight"] & ~new]))

    first = hook.masks
    given.train([hook, Memory()])
    assert found
    for new, old in found:
        assert len(new) and not new.any() and old.any()


def test_fraction_zero_is_static_training(make):
    one, two = make(0.25, recipe=LONGER), make(0.25, recipe=LONGER)
    masks = start_masks(two)
    assert apply(METHODS["rigl"], one, fraction=0.0).masks.equal(masks)
    two.train(masks=masks)
    assert all(torch.equal(t, two.state()[n]) for n, t in one.state().items())


def test_set_and_rigl_grow_different_weights(make):
    one, two = (apply(METHODS[n], make(0.25, recipe=LONGER), interval=5) for n in ("set", "rigl"))
    assert one.masks.densities() == two.masks.densities()
    assert not one.masks.equal(two.masks)


def test_a_dense_layer_stays_dense(make):
    given = make(0.9, recipe=LONGER)
    outcome = apply(METHODS["rigl"], given, interval=5)
    assert outcome.masks["6.weight"].all()
    assert outcome.kept == round(0.9 * outcome.weights)


def test_mistakes_speak(make):
    given = make()
    with pytest.raises(PruneError, match="unknown growth 'gradients'; closest: 'gradient'"):
        DynamicSparse(start_masks(given), "gradients")
    with pytest.raises(PruneError, match="number of steps is not known"):
        DynamicSparse(start_masks(given)).start(given.model, None, 0)
