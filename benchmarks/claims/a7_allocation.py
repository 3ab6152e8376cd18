from benchmarks.claims import claim
from benchmarks.claims.h0 import accuracy, setting
from sentei.methods import METHODS, apply
from sentei.recovery.train import Recipe


@claim(
    "A7",
    statement="How a density is spread over layers matters even for random masks from scratch",
    paper="Evci et al. 2020, figure 2: ERK above uniform at equal sparsity",
    checks={
        "ERK is at least 15 points above uniform at 2 %": lambda f: (
            f["erk 0.02"] - f["uniform 0.02"] >= 15
        ),
    },
)
def a7(seed: int) -> dict[str, float]:
    figures = {}
    for density in (0.02, 0.05, 0.1):
        for scope in ("erk", "uniform"):
            given = setting(seed, density, starts="initial", tuning=Recipe(epochs=30, lr=0.05))
            done = apply(METHODS["random"], given, scope=scope)
            figures[f"{scope} {density}"] = accuracy(done.model)
    return figures
