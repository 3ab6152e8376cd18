"""Every built-in task: its networks run, learn, and can be pruned."""

import pytest
import torch

import sentei
from sentei.graph.errors import PruneError
from sentei.recovery.train import Recipe, train
from sentei.tasks import TASKS, task

PAIRS = [
    ("karate", "gcn"), ("karate", "gat"), ("blocks", "gcn"), ("shapes", "dgcnn"),
    ("sources", "gpt"), ("sources", "lstm"),
]  # fmt: skip
SHORT = {"sources": Recipe(2, 2e-3, 32, optimizer="adam"), "shapes": Recipe(2, 0.05, 32)}


@pytest.mark.parametrize("name, model", PAIRS)
def test_a_network_learns_and_is_pruned(name, model):
    given = task(name)
    if name == "sources":
        given = sentei.tasks.text.source_text(train=24_000, test=6_000)
    network = given.build(model)
    log = train(network, given.train, SHORT.get(name, Recipe(30, 0.02, optimizer="adam")))
    assert log.losses[-1] < log.losses[0]
    assert 0 <= given.evaluate(network, given.test).accuracy <= 1
    result = sentei.prune(network, given.example, target=sentei.Target(params=0.7))
    assert result.after.params <= 0.7 * result.before.params
    given.evaluate(network, given.test)


def test_seeds_make_networks():
    one, two, other = (task("digits").build("mlp", seed) for seed in (0, 0, 1))
    same = [torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True)]
    assert all(same)
    assert not torch.equal(next(one.parameters()), next(other.parameters()))
    with pytest.raises(PruneError, match="no model 'mpl'"):
        task("digits").build("mpl")


def test_held_out_examples_leave_the_training_set():
    whole = task("digits")
    part = whole.hold_out(0.2, seed=1)
    assert len(part.train[0]) + len(part.validation[0]) == len(whole.train[0])
    assert part.test is whole.test


def test_every_task_is_built_alike_twice():
    for name in TASKS:
        one, two = task(name), task(name)
        a = one.train[0] if isinstance(one.train, tuple) else one.train[0][0][0]
        b = two.train[0] if isinstance(two.train, tuple) else two.train[0][0][0]
        assert torch.equal(a, b), name
