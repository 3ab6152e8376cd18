import copy

import torch
from torch import nn

from benchmarks.claims import claim
from benchmarks.claims.h0 import DENSE, accuracy, data
from sentei import Target
from sentei.hooks import EarlyBird, Hook
from sentei.methods import Setting
from sentei.methods.lottery.early_bird import prune_by_scale

EPOCH = 22  # steps


def network(seed: int) -> nn.Module:
    """H0's widths with batch-norm."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(64, 300), nn.BatchNorm1d(300), nn.ReLU(),
            nn.Linear(300, 100), nn.BatchNorm1d(100), nn.ReLU(), nn.Linear(100, 10),
        )  # fmt: skip


class RandomScales(Hook):
    def after_step(self) -> None:
        super().after_step()
        generator = torch.Generator().manual_seed(self.step)
        for norm in self.model.modules():
            if isinstance(norm, nn.BatchNorm1d):
                norm.weight.data.copy_(torch.rand(norm.weight.shape, generator=generator))


@claim(
    "C4",
    statement="The channels to keep are known after a small part of training, and do as well as "
    "those of the trained network",
    paper="You et al. 2020: tickets drawn at 6-20 % of training match those of full training "
    "(figure 2, table 2)",
    checks={
        "it fires within a quarter of training": lambda f: f["fired at, % of training"] <= 25,
        "retrained within 1 point of the ticket of the final weights": lambda f: (
            abs(f["early-bird ticket"] - f["late ticket"]) <= 1
        ),
        "with random scales it never fires": lambda f: f["fired with random scales"] == 0,
    },
)
def c4(seed: int) -> dict[str, float]:
    def setting() -> Setting:
        return Setting(
            network(seed), data().train, target=Target(units=0.5), example=data().train[0][:2],
            recipe=DENSE, seed=seed,
        )  # fmt: skip

    early = setting()
    hook = EarlyBird(0.5, EPOCH)
    early.train([hook])
    found = hook.found or DENSE.epochs * EPOCH
    figures = {
        "fired at, % of training": 100 * found / (DENSE.epochs * EPOCH),
        "largest distance when it fired": hook.distances[-1],
    }
    late = copy.deepcopy(early)
    late.train([EarlyBird(0.5, EPOCH, tolerance=-1.0)], start=found)
    figures["dense"] = accuracy(late.model)
    for name, one in (("early-bird ticket", early), ("late ticket", late)):
        prune_by_scale(one)
        one.train(start=found)
        figures[name] = accuracy(one.model)
    control = setting()
    never = EarlyBird(0.5, EPOCH)
    control.train([RandomScales(), never])
    figures["fired with random scales"] = float(never.found is not None)
    return figures
