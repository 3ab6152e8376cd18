"""Trainings with the family's hooks go on after a kill to the same bits."""

import copy

import pytest
import torch

from sentei.hooks import (
    BernoulliMask,
    DynamicSparse,
    EarlyBird,
    EdgePopup,
    Extrusion,
    FreezeHook,
    GraphMasks,
    Hook,
    Snapshot,
)
from sentei.methods.lottery.rounds import cut
from sentei.recovery.resumable import train_resumably
from sentei.recovery.train import Recipe, train
from sentei.structures import Masks
from sentei.structures.edges import weighted_edges
from sentei.tasks.graphs import block_graph

RECIPE = Recipe(epochs=7, lr=0.05, batch_size=16)  # six steps an epoch


class Cut(Exception):
    pass


class CutAt(Hook):
    def after_step(self):
        super().after_step()
        if self.step == 27:
            raise Cut


def half(model):
    weights = {n: p for n, p in model.named_parameters() if p.dim() > 1}
    full = Masks.full(weights)
    g = torch.Generator().manual_seed(0)
    scores = {n: torch.rand(m.shape, generator=g) for n, m in full.items()}
    return cut(scores, full, dict.fromkeys(full, 0.5))


HOOKS = {
    "snapshot": lambda m: Snapshot(9),
    "edge-popup": lambda m: EdgePopup(half(m), 0.5),
    "bernoulli": lambda m: BernoulliMask(half(m)),
    "rigl": lambda m: DynamicSparse(half(m), interval=4),
    "set": lambda m: DynamicSparse(half(m), "random", interval=4),
    "early-bird": lambda m: EarlyBird(0.5, every=6, tolerance=1.0),
    "extrusion": lambda m: Extrusion(half(m)),
    "freeze": lambda m: FreezeHook(half(m), {n: torch.ones(k.shape) for n, k in half(m).items()}),
}


@pytest.mark.parametrize("name", HOOKS)
def test_a_training_goes_on_to_the_same_bits(tmp_path, make, name):
    given = make()
    whole, parts, again = (copy.deepcopy(given.model) for _ in range(3))
    hook = HOOKS[name](whole)
    log = train(whole, given.data, RECIPE, hooks=[hook])
    cut_off = [HOOKS[name](parts), CutAt()]
    with pytest.raises(Cut):
        train_resumably(tmp_path / "s", parts, given.data, RECIPE, hooks=cut_off, every=0)
    resumed = HOOKS[name](again)
    second = train_resumably(
        tmp_path / "s", again, given.data, RECIPE, hooks=[resumed, Hook()], every=0
    )
    assert second.losses == log.losses and second.stopped == log.stopped
    for a, b in zip(whole.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    if name == "early-bird":
        assert hook.found == resumed.found == 30
    if name == "snapshot":
        assert all(torch.equal(t, resumed.state[n]) for n, t in hook.state.items())
    # A training that was done is put in place with what its hook found.
    third = HOOKS[name](again)
    train_resumably(tmp_path / "s", copy.deepcopy(given.model), given.data, RECIPE,
                    hooks=[third, Hook()], every=0)  # fmt: skip
    if name in ("rigl", "set"):
        assert third.masks.equal(hook.masks) and third.updates == hook.updates
    if name == "early-bird":
        assert third.found == 30


def test_masks_of_a_graph_go_on_to_the_same_bits(tmp_path):
    task = block_graph(nodes=40, features=8, inside=0.2)
    _, edges = task.example
    recipe = Recipe(epochs=30, lr=8e-3, optimizer="adam")
    models = [task.build("gcn", 0) for _ in range(3)]

    def hook(model):
        alive = torch.ones(edges.shape[1], dtype=torch.bool)
        return GraphMasks(half(model), edges, alive)

    one = hook(models[0])
    with weighted_edges(models[0], edges, one.edges_now):
        train(models[0], task.train, recipe, hooks=[one])
    two = hook(models[1])
    with weighted_edges(models[1], edges, two.edges_now), pytest.raises(Cut):
        train_resumably(tmp_path / "s", models[1], task.train, recipe, hooks=[two, CutAt()],
                        every=0)  # fmt: skip
    three = hook(models[2])
    with weighted_edges(models[2], edges, three.edges_now):
        train_resumably(tmp_path / "s", models[2], task.train, recipe, hooks=[three, Hook()],
                        every=0)  # fmt: skip
    assert torch.equal(one.edge_masks, three.edge_masks)
    for a, b in zip(models[0].parameters(), models[2].parameters(), strict=True):
        assert torch.equal(a, b)
