import torch

from benchmarks.claims import claim
from benchmarks.claims.h0 import accuracy, mlp, run, setting
from sentei.methods import METHODS, apply
from sentei.recovery.train import Recipe

NOTHING = Recipe(epochs=0)
LONG = Recipe(epochs=60, lr=0.05)
LONGER = Recipe(epochs=80, lr=0.05)


@claim(
    "A5",
    statement="What magnitude gains over random pruning grows with sparsity; a mask found by "
    "pruning and trained from new weights does not reach the network it was found in",
    paper="Gale et al. 2019: ResNet-50 magnitude against random 75.58 / 70.21 at 80 %, 73.91 / "
    "65.00 at 90 %, 70.59 / 58.08 at 95 %; masks trained anew fall short (section 6)",
    checks={
        "the gain grows from 90 to 95 to 98 %": lambda f: (
            f["magnitude 0.9"] - f["random 0.9"]
            < f["magnitude 0.95"] - f["random 0.95"]
            < f["magnitude 0.98"] - f["random 0.98"]
        ),
        "the mask from new weights is at least 0.8 points worse": lambda f: (
            f["pruned 0.976"] - f["same mask from new weights 0.976"] >= 0.8
        ),
    },
)
def a5(seed: int) -> dict[str, float]:
    figures = {}
    for sparsity in (0.9, 0.95, 0.98):
        pruned = run(
            "gale-gmp",
            seed,
            1 - sparsity,
            recipe=LONG,
            tuning=NOTHING,
            options={"scope": "uniform"},
        )
        figures[f"magnitude {sparsity}"] = accuracy(pruned.model)
        scratch = setting(seed, 1 - sparsity, starts="initial", tuning=LONG)
        figures[f"random {sparsity}"] = accuracy(apply(METHODS["random"], scratch).model)
    found = run(
        "gale-gmp", seed, 0.024, recipe=LONGER, tuning=NOTHING, options={"scope": "uniform"}
    )
    figures["pruned 0.976"] = accuracy(found.model)
    anew = setting(seed, 0.024, starts="initial")
    anew.model.load_state_dict(mlp(seed + 100).state_dict())
    anew.train(recipe=LONGER, masks=found.masks)
    with torch.no_grad():
        figures["same mask from new weights 0.976"] = accuracy(anew.model)
    return figures
