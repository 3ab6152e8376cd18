"""Methods in a loop that is not Sentei's: three calls a step, and the same network comes out."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from sentei.batches import forward
from sentei.hooks import Hooks, Stop
from sentei.methods import METHODS, apply
from sentei.recovery.train import Log
from tests.methods.test_methods import setting, toy

# Draws from PyTorch's own generator, which Sentei's loop seeds for every epoch.
NOISY = {"variational-dropout"}


def by_hand(model, data, recipe, *, loss, hooks, start=0, stop=None, **_):
    """A plain loop: constant learning rate, batches as they come."""
    optimizer = torch.optim.SGD(model.parameters(), lr=recipe.lr, momentum=recipe.momentum)
    hook, batches = Hooks(hooks), [b for _ in range(recipe.epochs) for b in data]
    steps = batches[start:stop]
    hook.start(model, optimizer, len(steps))
    model.train()
    try:
        for batch in steps:
            value = loss(forward(model, batch), batch[1]) + hook.penalty()
            optimizer.zero_grad()
            value.backward()
            if hook.before_step():
                optimizer.step()
            hook.after_step()
    except Stop:
        pass
    hook.finish()
    optimizer.zero_grad()
    return Log(len(steps), (), 0.0)


# All that add to the training itself, and one of each kind that holds masks (all 59 others than ugs
# give the same network; these are cheap).
CHOSEN = [n for n, m in METHODS.items() if m.timing == "during"] + [
    "han-magnitude", "lth-rewind", "lr-rewind", "rst", "snip", "taylor-abs", "channel-l1",
]  # fmt: skip


@pytest.mark.parametrize("name", CHOSEN)
def test_a_users_loop_gives_the_same_network(name):
    x, y = toy()
    data = [(x[i : i + 24], y[i : i + 24]) for i in range(0, 96, 24)]
    outcomes = []
    for trainer in (None, by_hand):
        given = setting(name)
        given.data, given.loss = data, F.cross_entropy
        short = replace(given.recipe, epochs=2, schedule="constant")
        given.recipe = given.tuning = short
        given.model.train()
        if trainer is not None:
            given.trainer = trainer
        outcomes.append(apply(METHODS[name], given))
    ours, theirs = outcomes
    assert ours.kept == theirs.kept and ours.params == theirs.params
    if name not in NOISY:
        for a, b in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
            assert torch.equal(a, b)
