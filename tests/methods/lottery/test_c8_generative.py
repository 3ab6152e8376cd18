"""C8: tickets of autoencoders and of adversarial pairs."""

import copy
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from sentei.graph.errors import PruneError
from sentei.hooks import Hook
from sentei.methods import METHODS, apply
from sentei.recovery.adversarial import Adversarial
from sentei.recovery.train import Recipe
from sentei.structures import Masks

GAME = Adversarial(latent=4)
RECIPE = Recipe(epochs=3, lr=1e-2, batch_size=32)


class Pair(nn.Module):
    """A generator with batch-norm, a discriminator with a spectral norm, averaged weights."""

    def __init__(self):
        super().__init__()
        self.generator = nn.Sequential(
            nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2)
        )
        self.discriminator = nn.Sequential(
            nn.Linear(2, 16), nn.ReLU(), spectral_norm(nn.Linear(16, 16)), nn.ReLU(),
            nn.Linear(16, 1),
        )  # fmt: skip
        self.average = copy.deepcopy(self.generator)


def ring(n=96):
    g = torch.Generator().manual_seed(0)
    angle = torch.randint(8, (n,), generator=g) * (torch.pi / 4)
    x = torch.stack([angle.cos(), angle.sin()], 1) + 0.05 * torch.randn(n, 2, generator=g)
    return x, torch.zeros(n)


class Record(Adversarial):
    """Writes down what each training began with."""

    def train(self, model, data, recipe, **how):
        began.append(({n: t.clone() for n, t in model.state_dict().items()}, how))
        return super().train(model, data, recipe, **how)


began: list = []


@pytest.fixture
def pair(make):
    began.clear()
    return make(0.25, model=Pair(), data=ring(), recipe=RECIPE)


def test_both_networks_are_rewound_with_all_their_buffers(pair):
    masks = apply(
        METHODS["lth-generative"], pair, game=Record(4), to=4,
        parts=("generator", "discriminator"), rounds=3,
    ).masks  # fmt: skip
    reference = Pair()
    reference.load_state_dict(pair.initial)
    stop = Recipe(epochs=3, lr=1e-2, batch_size=32)

    class Until(Hook):
        def after_step(self):
            super().after_step()
            if self.step == 4:
                self.state = {n: t.clone() for n, t in self.model.state_dict().items()}

    until = Until()
    GAME.train(reference, ring(), stop, hooks=[until], seed=1000)
    assert len(began) == 4
    vectors = [n for n in until.state if n.endswith(("_u", "_v"))]
    assert vectors and any("running" in n for n in until.state)
    for state, how in began[1:]:
        assert how["start"] == 4
        for name, values in state.items():
            want = until.state[name].clone()
            if name in how["masks"]:
                want[~how["masks"][name]] = 0
            assert torch.equal(values, want)
    assert any(not torch.equal(until.state[n], pair.initial[n]) for n in vectors)
    rounds = [how["masks"] for _, how in began[1:]]
    for one, two in pairwise(rounds):
        assert (one & two).equal(two)
    assert rounds[-1].equal(masks)


def test_each_network_has_a_threshold_of_its_own(pair):
    with torch.no_grad():
        for weight in pair.model.discriminator.parameters():
            weight.mul_(1e-3)  # a ranking over both would leave nothing of it
    masks = apply(
        METHODS["lth-generative"], pair, game=GAME, parts=("generator", "discriminator"),
        rounds=1,
    ).masks  # fmt: skip
    for part in ("generator", "discriminator"):
        own = masks.only([n for n in masks if n.startswith(part)])
        assert abs(own.kept - 0.25 * own.total) <= 1
    assert not any(n.startswith("average") for n in masks)


def test_pruning_the_generator_alone_leaves_the_discriminator(pair):
    masks = apply(
        METHODS["lth-generative"], pair, game=Record(4), parts=("generator",), rounds=2
    ).masks
    assert all(n.startswith("generator.") for n in masks)
    for state, _ in began:
        for name, values in state.items():
            if name.startswith("discriminator"):
                assert torch.equal(values, pair.initial[name])
    assert torch.equal(pair.state()["average.0.weight"], pair.initial["average.0.weight"])


def test_masked_weights_are_zero_whenever_they_are_used(pair):
    model = pair.model
    names = ("generator.0.weight", "discriminator.0.weight")
    masks = Masks({n: torch.rand_like(dict(model.named_parameters())[n]) < 0.5 for n in names})
    masks.apply_(model)

    def check(module, args):
        weights = dict(model.named_parameters())
        assert all(not weights[n].detach()[~m].any() for n, m in masks.items())

    for part in (model.generator, model.discriminator):
        part.register_forward_pre_hook(check)
    log = GAME.train(model, ring(), RECIPE, masks=masks)
    assert log.steps == 9 and len(log.losses) == 3


def test_an_autoencoder_is_one_network(make):
    x = make().data[0]
    net = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 8))
    given = make(0.25, model=net, data=(x, x), loss=F.mse_loss)
    other = copy.deepcopy(given)
    one = apply(METHODS["lth-generative"], given)
    two = apply(METHODS["lth-rewind"], other, to=0)
    assert one.masks.equal(two.masks) and one.kept == round(0.25 * one.weights)


def test_mistakes_speak(pair):
    with pytest.raises(PruneError, match="no weights in a part 'generater'; closest: 'generator'"):
        apply(METHODS["lth-generative"], pair, parts=("generater",), game=GAME)
