from benchmarks.claims import claim
from benchmarks.claims.transfer import accuracy, setting
from sentei.methods import METHODS, apply
from sentei.recovery.train import Recipe

RECIPE = Recipe(epochs=20, lr=0.05)
NOTHING = Recipe(epochs=0)


@claim(
    "A12",
    statement="In transfer to a new task at high sparsity, movement beats magnitude",
    paper="Sanh et al. 2020, figure 2: SQuAD at 3 % of the weights, far above magnitude",
    checks={
        "at least 1 point above magnitude at 3 %": lambda f: (
            f["movement 0.03"] - f["magnitude 0.03"] >= 1
        ),
        "at least 2 points above magnitude at 1 %": lambda f: (
            f["movement 0.01"] - f["magnitude 0.01"] >= 2
        ),
    },
)
def a12(seed: int) -> dict[str, float]:
    figures = {}
    for density in (0.15, 0.05, 0.03, 0.01):
        moved = apply(METHODS["movement-pruning"], setting(seed, density, RECIPE))
        figures[f"movement {density}"] = accuracy(moved.model)
        soft = apply(METHODS["soft-movement"], setting(seed, density, RECIPE))
        figures[f"soft movement {density}"] = accuracy(soft.model)
        given = setting(seed, density, RECIPE)
        given.tuning = NOTHING
        # Magnitude with the same schedule of densities.
        small = apply(METHODS["agp"], given, begin=0.1, end=0.7, every=1)
        figures[f"magnitude {density}"] = accuracy(small.model)
    return figures
