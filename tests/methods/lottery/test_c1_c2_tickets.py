"""C1 and C2: iterative magnitude pruning with rewinding, and its controls."""

from dataclasses import replace

import pytest
import torch

from sentei.diagnostics import distance
from sentei.graph.errors import PruneError
from sentei.hooks import Hook, MaskHook
from sentei.methods import METHODS, apply
from sentei.methods.lottery.controls import (
    one_shot_ticket,
    random_masks,
    reinit,
    retrain,
    shuffle,
    starts,
)  # fmt: skip
from sentei.methods.lottery.rounds import cut, path, search, step_of
from sentei.recovery.train import train
from sentei.structures import Masks


def shapes(setting):
    return {n: tuple(w.shape) for n, w in setting.weights.items()}


def test_rewinding_restores_every_value_and_nothing_else(make):  # T1
    given = make()
    step = 7
    ticket = search(given, path(shapes(given), 0.25), step=step)
    dense, rounds = given.began[0], given.began[1:]
    assert len(rounds) == len(ticket.history) == 7
    reference = make()
    reference.train(stop=step)
    at_step = reference.state()
    for name, values in ticket.start.items():
        assert torch.equal(values, at_step[name])
    assert any(not torch.equal(at_step[n], t) for n, t in dense[0].items() if "running" in n)
    for masks, (state, how) in zip(ticket.history, rounds, strict=True):
        assert how["start"] == step
        for name, values in state.items():
            want = at_step[name].clone()
            if name in masks:
                want[~masks[name]] = 0
            assert torch.equal(values, want)


def test_the_schedule_goes_on_at_the_step_with_a_fresh_optimiser(make):  # T1
    given, seen = make(), []

    def schedule(t):
        seen.append(t)
        return 1 - t

    class Fresh(Hook):
        def start(self, model, optimizer, steps):
            assert not optimizer.state

    given.recipe = replace(given.recipe, schedule=schedule)
    search(given, path(shapes(given), 0.5, rounds=1), step=7)
    assert seen == pytest.approx([i / 18 for i in [*range(18), *range(7, 18)]])
    given.train([Fresh()], start=7)


def test_masks_are_nested_and_densities_are_the_rates(make):  # T2, T3
    given = make()
    ticket = search(given, path(shapes(given), 0.25, rate=0.2, output_rate=0.1))
    before = Masks.full(given.weights)
    for r, masks in enumerate(ticket.history, 1):
        assert (masks & before).equal(masks)
        if r < len(ticket.history):
            for name, rate in (("0.weight", 0.2), ("3.weight", 0.2), ("6.weight", 0.1)):
                assert abs(int(masks[name].sum()) - (1 - rate) ** r * masks[name].numel()) <= 1
        before = masks
    assert ticket.masks.kept == round(0.25 * ticket.masks.total)


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_counts_are_exact_whatever_the_density(make, scope):
    for density in (0.003, 0.1, 0.4999, 0.77):
        given = make(density)
        masks = Masks.full(given.weights)
        densities = path(shapes(given), density, output_rate=0.05)
        for number, share in enumerate(densities, 1):
            scores = {n: torch.rand(m.shape) for n, m in masks.items()}
            asked = density if number == len(densities) else None
            after = cut(scores, masks, share, scope, asked)
            assert (after & masks).equal(after)
            masks = after
        assert masks.kept == round(density * masks.total)


def test_masked_weights_stay_zero_with_momentum_and_decay(make):  # T4
    given = make()
    given.recipe = replace(given.recipe, weight_decay=0.1, nesterov=True)
    masks = search(given, path(shapes(given), 0.25, rounds=1)).masks

    class Zero(Hook):
        def after_step(self):
            super().after_step()
            weights = dict(self.model.named_parameters())
            assert all(not weights[n].detach()[~m].count_nonzero() for n, m in masks.items())

    given.train([MaskHook(masks), Zero()])


def test_no_rounds_is_dense_training_bit_for_bit(make):
    given, plain = make(1.0), make(1.0)
    apply(METHODS["lth-rewind"], given)
    train(plain.model, plain.data, plain.recipe, seed=1000)
    for a, b in zip(given.state().values(), plain.state().values(), strict=True):
        assert torch.equal(a, b)


def test_rewinding_to_the_start_is_lth_imp(make):
    one, two = make(), make()
    a = apply(METHODS["lth-imp"], one, scope="global", output_rate=0.2)
    b = apply(METHODS["lth-rewind"], two, to=0)
    assert a.masks.equal(b.masks)
    assert all(torch.equal(s, two.state()[n]) for n, s in one.state().items())


@pytest.mark.parametrize("name", ["lth-rewind", "lr-rewind"])
def test_rewinding_to_the_end_is_pruning_without_training(make, name):
    given, plain = make(), make()
    masks = apply(METHODS[name], given, to=1.0, rounds=1).masks
    plain.train()
    masks.apply_(plain.model)
    assert all(torch.equal(s, plain.state()[n]) for n, s in given.state().items())


def test_learning_rate_rewinding_keeps_the_trained_weights(make):
    given = make()
    ticket = search(given, path(shapes(given), 0.5, rounds=1), step=5, rewind=False)
    state, how = given.began[1]
    assert how["start"] == 5
    for name, masks in ticket.masks.items():
        assert torch.equal(state[name], torch.where(masks, ticket.dense[name], 0.0))


def test_steps_are_counted_or_shares(make):
    given = make()
    assert step_of(given, 3) == 3 and step_of(given, 0.5) == 9
    with pytest.raises(PruneError, match="step 99: training has 18 steps"):
        step_of(given, 99)
    with pytest.raises(PruneError, match=r"must lie in \(0, 1\); got 1.5"):
        apply(METHODS["lth-imp"], given, rate=1.5)


def test_controls_keep_counts_and_change_one_thing(make):
    given = make()
    ticket = search(given, path(shapes(given), 0.25, rounds=1))
    assert shuffle(ticket.masks, 1).densities() == ticket.masks.densities()
    assert not shuffle(ticket.masks, 1).equal(ticket.masks)
    assert random_masks(ticket.masks, 1).kept == ticket.masks.kept
    other = reinit(ticket.start, ticket.masks, 1)
    for name, values in ticket.start.items():
        assert torch.equal(values, other[name]) != (name in ticket.masks)
        assert torch.equal(values.flatten().sort().values, other[name].flatten().sort().values)
    controls = starts(ticket, 1)
    before = given.state()
    for masks, start in controls.values():
        model = retrain(given, masks, start, stop=2)
        assert all(not dict(model.named_parameters())[n][~m].any() for n, m in masks.items())
    assert all(torch.equal(t, before[n]) for n, t in given.state().items())
    again = retrain(given, *controls["ticket"])
    assert all(torch.equal(t, before[n]) for n, t in again.state_dict().items())
    other_order = retrain(given, *controls["ticket"], seed=5)
    assert any(not torch.equal(t, before[n]) for n, t in other_order.state_dict().items())


def test_one_shot_is_one_round(make):
    one, two = make(), make()
    ticket = one_shot_ticket(one)
    assert len(ticket.history) == 1
    apply(METHODS["lth-imp"], two, rounds=1, output_rate=0.2)
    assert all(torch.equal(s, two.state()[n]) for n, s in one.state().items())


def test_distance_falls_to_zero_where_nothing_differs(make):
    given = make()
    ticket = search(given, path(shapes(given), 0.25, rounds=1))
    assert distance(ticket.dense, ticket.dense, ticket.masks) == 0
    moved = {n: t + 1.0 for n, t in ticket.dense.items()}
    found = distance(ticket.dense, moved, ticket.masks)
    assert found == pytest.approx(ticket.masks.kept**0.5)
