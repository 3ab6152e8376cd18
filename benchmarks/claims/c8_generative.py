import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.claims import claim
from benchmarks.claims.h0 import data, dense, mlp
from sentei.batches import loss_of
from sentei.methods import Setting
from sentei.methods.lottery.controls import retrain, starts
from sentei.methods.lottery.rounds import Ticket, path, search
from sentei.recovery.adversarial import Adversarial
from sentei.recovery.train import Recipe

SIZES = (64, 128, 16, 128, 64)
ROUNDS = {0.26: 6, 0.13: 9, 0.07: 12, 0.035: 15}


def flat(pair) -> tuple[torch.Tensor, torch.Tensor]:
    return pair[0].flatten(1), pair[0].flatten(1)


def error(model: nn.Module) -> float:
    with torch.no_grad():
        return loss_of(model.eval(), flat(data().test), F.mse_loss).item()


@claim(
    "C8",
    statement="An autoencoder has winning tickets, too",
    paper="Kalibhat et al. 2021: winning tickets of autoencoders up to 99 % sparsity, CIFAR and "
    "CelebA (abstract)",
    checks={
        "at 7 % the ticket's test error is at most 0.7 times reinit's": lambda f: (
            f["ticket 0.07"] <= 0.7 * f["reinit 0.07"]
        ),
    },
)
def c8(seed: int) -> dict[str, float]:
    given = Setting(
        mlp(seed, SIZES), flat(data().train), loss=F.mse_loss, seed=seed,
        recipe=Recipe(epochs=30, lr=1e-3, optimizer="adam", schedule="constant"),
    )  # fmt: skip
    shapes = {n: tuple(w.shape) for n, w in given.weights.items()}
    found = search(given, path(shapes, 0.8 ** max(ROUNDS.values())), scope="global")
    dense = copy.deepcopy(given.model)
    dense.load_state_dict(found.dense)
    figures = {"dense": error(dense)}
    for density, rounds in ROUNDS.items():
        at = Ticket(found.history[rounds - 1], found.start, 0, found.dense, found.history[:rounds])
        for name, (masks, start) in starts(at, seed, mlp(seed + 100, SIZES).state_dict()).items():
            if name != "random":
                figures[f"{name} {density}"] = error(retrain(given, masks, start))
    return figures


GAME = Adversarial(latent=16)
GAN_ROUNDS = {0.41: 4, 0.11: 10}


class Pair(nn.Module):
    """A generator of digits and its judge, as small as they come."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.generator = mlp(seed, (GAME.latent, 128, 128, 64))
        self.discriminator = mlp(seed + 1000, (64, 128, 64, 1))


def frechet(model: nn.Module, seed: int) -> float:
    """|μ - μ'|² + tr(Σ + Σ' - 2 (Σ Σ')^½) of 2,000 drawn digits and the test images.

    In the features before the last layer of a classifier of H0 (Heusel et al. 2017 take Inception).
    """
    features = dense(0).eval().requires_grad_(False)[:-1]
    z = torch.randn(2000, GAME.latent, generator=torch.Generator().manual_seed(seed))
    real, drawn = (
        features(x.detach()).double()
        for x in (data().test[0], model.eval().generator(z).view(-1, 1, 8, 8))
    )
    gap = (real.mean(0) - drawn.mean(0)).square().sum()
    one, two = (root(x.T.cov()) for x in (real, drawn))
    # tr (Σ Σ')^½ is the sum of the singular values of Σ^½ Σ'^½.
    shared = torch.linalg.svdvals(one @ two).sum()
    return float(gap + one.square().sum() + two.square().sum() - 2 * shared)


def root(matrix: Tensor) -> Tensor:
    """The symmetric square root of a covariance."""
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * values.clamp(min=0).sqrt() @ vectors.T


@claim(
    "C8-2",
    statement="A pair of generator and discriminator has winning tickets, too",
    paper="Kalibhat et al. 2021: winning tickets of GANs up to 89 % sparsity, CIFAR and CelebA "
    "(abstract)",
    checks={
        "at 11 % the ticket's distance is at most 1.2 times the dense pair's": lambda f: (
            f["ticket 0.11"] <= 1.2 * f["dense"]
        ),
        "at 11 % the ticket's distance is below reinit's": lambda f: (
            f["ticket 0.11"] < f["reinit 0.11"]
        ),
        "at 11 % the ticket's distance is below shuffle's": lambda f: (
            f["ticket 0.11"] < f["shuffle 0.11"]
        ),
    },
    seeds=5,
    why="At 41 % the ticket is better than the dense pair. At 11 % two of five seeds lose "
    "their way, which the mean does not forgive: three are within 1.2 of theirs or near. "
    "Both controls are more than twice as bad.",
)
def c8_2(seed: int) -> dict[str, float]:
    x = data().train[0].flatten(1)
    recipe = Recipe(epochs=40, lr=1e-3, optimizer="adam", schedule="constant")
    given = Setting(Pair(seed), (x, torch.zeros(len(x))), recipe=recipe, seed=seed)
    shapes = {n: tuple(w.shape) for n, w in given.weights.items()}

    def play(own: Setting, hooks, masks, start) -> None:
        GAME.train(own.model, own.data, own.recipe, hooks=hooks, masks=masks,
                   seed=1000 + own.seed, start=start)  # fmt: skip

    found = search(
        given, path(shapes, 0.8 ** max(GAN_ROUNDS.values())),
        scope={n: n.partition(".")[0] for n in shapes}, trainer=play,
    )  # fmt: skip
    given.rewind(found.dense)
    figures = {"dense": frechet(given.model, seed)}
    for density, rounds in GAN_ROUNDS.items():
        at = Ticket(found.history[rounds - 1], found.start, 0, found.dense, found.history[:rounds])
        for name, (masks, start) in starts(at, seed, Pair(seed + 100).state_dict()).items():
            if name != "random":
                given.rewind(start, masks)
                play(given, [], masks, 0)
                figures[f"{name} {density}"] = frechet(given.model, seed)
    return figures
