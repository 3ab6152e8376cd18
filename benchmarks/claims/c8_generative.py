import copy

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.claims import claim
from benchmarks.claims.h0 import data, mlp
from sentei.batches import loss_of
from sentei.methods import Setting
from sentei.methods.lottery.controls import retrain, starts
from sentei.methods.lottery.rounds import Ticket, path, search
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
