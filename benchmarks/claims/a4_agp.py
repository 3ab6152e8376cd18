from benchmarks.claims import claim
from benchmarks.claims.h0 import accuracy, data, mlp, run, setting
from sentei.methods import METHODS, apply
from sentei.recovery.train import Recipe, train

NOTHING = Recipe(epochs=0)
LONG = Recipe(epochs=60, lr=0.05)
# The widths of dense networks with as many weights.
SMALL = {4160: (64, 50, 16, 10), 1880: (64, 25, 8, 10), 856: (64, 12, 4, 10), 416: (64, 6, 2, 10)}


@claim(
    "A4",
    statement="A large sparse network beats a small dense one of as many non-zero weights",
    paper="Zhu and Gupta 2018, tables 1 to 4: large-sparse above small-dense throughout",
    checks={
        "at least 1 point at 1,880 weights": lambda f: f["sparse 1880"] - f["dense 1880"] >= 1,
        "at least 15 points at 856 weights": lambda f: f["sparse 856"] - f["dense 856"] >= 15,
    },
)
def a4(seed: int) -> dict[str, float]:
    figures = {}
    for weights, sizes in SMALL.items():
        small = mlp(seed, sizes)
        train(small, data().train, LONG, seed=1000 + seed)
        figures[f"dense {weights}"] = accuracy(small)
        sparse = run(
            "agp", seed, weights / 50200, recipe=LONG, tuning=NOTHING, options={"scope": "global"}
        )
        figures[f"sparse {weights}"] = accuracy(sparse.model)
    return figures


@claim(
    "A4-2",
    statement="Gradual pruning along a cubic beats a straight line, one shot and random masks",
    paper="Zhu and Gupta 2018, section 3",
    checks={
        "cubic beats one-shot by at least 10 points at 98 % sparsity": lambda f: (
            f["cubic 0.98"] - f["one-shot 0.98"] >= 10
        ),
    },
)
def a4_2(seed: int) -> dict[str, float]:
    figures = {}
    half = Recipe(epochs=30, lr=0.05)
    for sparsity in (0.9, 0.95, 0.98, 0.99):
        density = 1 - sparsity
        for curve in ("cubic", "linear"):
            model = run(
                "agp", seed, density, recipe=LONG, tuning=NOTHING, options={"curve": curve}
            ).model
            figures[f"{curve} {sparsity}"] = accuracy(model)
        one_shot = run(
            "han-magnitude",
            seed,
            density,
            recipe=half,
            tuning=Recipe(epochs=30, lr=0.02),
            options={"scope": "uniform"},
        )
        figures[f"one-shot {sparsity}"] = accuracy(one_shot.model)
        scratch = setting(seed, density, starts="initial", tuning=LONG)
        figures[f"random {sparsity}"] = accuracy(apply(METHODS["random"], scratch).model)
    return figures
