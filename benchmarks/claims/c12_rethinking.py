import math

import torch
from torch import nn

from benchmarks.claims import claim
from benchmarks.claims.h0 import accuracy, setting
from sentei import Target
from sentei.methods import METHODS, apply

SIZES = (64, 100, 100, 10)


def drawn(seed: int):
    """Weights from N(0, 2 / fan in) and zero biases, as H0 has them, at any width."""

    def init(model: nn.Module) -> None:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for layer in model:
                if isinstance(layer, nn.Linear):
                    std = math.sqrt(2 / layer.in_features)
                    layer.weight.normal_(0, std, generator=generator)
                    layer.bias.zero_()

    return init


@claim(
    "C12",
    statement="With predefined widths training from scratch for the same compute does as well as "
    "fine-tuning inherited weights; at extreme pruning inheriting wins",
    paper="Liu et al. 2019: ResNet-34-A on ImageNet: fine-tuned 72.56, scratch-E 72.77, scratch-B "
    "73.08 (table 1)",
    checks={
        "scratch-B is within 1 point of fine-tuning at 50 and 25 %": lambda f: all(
            abs(f[f"compute {w}"] - f[f"inherit {w}"]) <= 1 for w in (0.5, 0.25)
        ),
        "inheriting wins at 10 %": lambda f: f["inherit 0.1"] > f["compute 0.1"],
    },
)
def c12(seed: int) -> dict[str, float]:
    figures = {}
    for width in (0.5, 0.25, 0.1):  # at 5 % equal compute is 1,762 epochs: left out
        for budget in ("inherit", "epochs", "compute"):
            given = setting(seed, None, sizes=SIZES, target=Target(width=width))
            options = {"init": drawn(seed + 100)} if budget != "inherit" else {}
            apply(METHODS["rethinking-value"], given, budget=budget, **options)
            figures[f"{budget} {width}"] = accuracy(given.model)
    return figures
