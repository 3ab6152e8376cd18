import copy

import torch
from torch import Tensor, nn

from benchmarks.claims import claim
from benchmarks.claims.h0 import data
from sentei.allocation.weights import select
from sentei.methods import METHODS, Setting, apply
from sentei.recovery.finetune import evaluate
from sentei.recovery.train import Recipe

RECIPE = Recipe(epochs=60, lr=2e-3, optimizer="adam")


class Rows(nn.Module):
    """A tanh network over the eight rows of an image, 128 wide."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(8, 128, batch_first=True)
        self.head = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x.squeeze(1))[0][:, -1])


def setting(seed: int, density: float | None = None) -> Setting:
    torch.manual_seed(seed)
    return Setting(
        Rows(),
        data().train,
        density=density,
        recipe=RECIPE,
        tuning=Recipe(epochs=0),
        protect=("head",),
        seed=seed,
    )


def accuracy(model: nn.Module) -> float:
    return 100 * evaluate(model, data().test).accuracy


@claim(
    "A3",
    statement="Pruning gradually while a recurrent network trains is no worse than pruning it at "
    "once to the same densities",
    paper="Narang et al. 2017, section 4.2: gradual 7 to 9 % better than hard pruning",
    checks={
        f"{what} at the {p}th percentile": check
        for p in (90, 95)
        for what, check in (
            (
                "gradual is at least hard - 0.5",
                lambda f, p=p: f[f"gradual {p}"] >= f[f"hard {p}"] - 0.5,
            ),
            (
                "the sparsity is within 6 points of the percentile",
                lambda f, p=p: abs(f[f"sparsity {p}"] - p) <= 6,
            ),
        )
    },
)
def a3(seed: int) -> dict[str, float]:
    dense = setting(seed)
    dense.train()
    figures = {"dense": accuracy(dense.model)}
    steps = RECIPE.steps(data().train)
    for percentile in (90, 95):
        given = setting(seed, 1 - percentile / 100)
        done = apply(METHODS["narang-gradual-rnn"], given)
        figures[f"gradual {percentile}"] = accuracy(done.model)
        figures[f"sparsity {percentile}"] = 100 * (1 - done.density)
        hard = setting(seed)
        cut = round(0.25 * steps)
        hard.train(stop=cut)
        sizes = {n: w.detach().abs() for n, w in hard.weights.items()}
        masks = select(sizes, done.density, copy.copy(done.masks.densities()))
        hard.train(masks=masks, start=cut)
        figures[f"hard {percentile}"] = accuracy(hard.model)
    return figures
