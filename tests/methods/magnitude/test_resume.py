"""A training that a kill cut off goes on to the same bits, whatever a hook has learned by then."""

import pytest
import torch

from sentei.allocation.weights import select
from sentei.hooks.clip_q import ClipQ
from sentei.hooks.hard_concrete import HardConcrete
from sentei.hooks.leap import RatioHook
from sentei.hooks.movement import ScoreHook
from sentei.hooks.surgery import SurgeryHook
from sentei.hooks.variational import VariationalDropout
from sentei.recovery.resumable import train_resumably
from sentei.recovery.train import Recipe, train
from tests.methods.magnitude.nets import mlp, toy

RECIPE = Recipe(epochs=4, lr=0.05, batch_size=16)
HOOKS = {
    "scores": lambda w: ScoreHook(w, lambda step, scores: select(scores, 0.3, "uniform")),
    "ratios": lambda w: RatioHook(w, 0.3, settle=20, start=2.0),
    "gates": lambda w: HardConcrete(w, strength=1.0),
    "noise": lambda w: VariationalDropout(w, lambda step: 1.0, 96),
    "surgery": lambda w: SurgeryHook(
        dict.fromkeys(w, (0.1, 0.15)), w, gamma=0.01, power=1.0, stop=18
    ),
    "codebook": lambda w: ClipQ({n: (p.numel() // 2, 3) for n, p in w.items()}),
}


class Kill(Exception):
    pass


def started(name):
    model = mlp()
    return model, HOOKS[name]({n: p for n, p in model.named_parameters() if p.dim() > 1})


@pytest.mark.parametrize("name", HOOKS)
def test_a_killed_training_goes_on_to_the_same_bits(name, tmp_path):
    whole, hook = started(name)
    train(whole, toy(), RECIPE, hooks=[hook])

    def kill(done, total, note):
        if done == 17:
            raise Kill

    cut, hook = started(name)
    with pytest.raises(Kill):
        train_resumably(tmp_path / "state", cut, toy(), RECIPE, hooks=[hook], every=0, tick=kill)
    rest, hook = started(name)
    train_resumably(tmp_path / "state", rest, toy(), RECIPE, hooks=[hook], every=0)
    for a, b in zip(whole.parameters(), rest.parameters(), strict=True):
        assert torch.equal(a, b)
