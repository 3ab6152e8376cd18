from benchmarks.claims import claim
from benchmarks.claims.h0 import accuracy, run
from sentei.recovery.train import Recipe

NOTHING = Recipe(epochs=0)
EVERYTHING = 1347


def kept(method: str, seed: int, density: float, **options) -> float:
    """Accuracy straight after pruning the trained network; scores from all training examples."""
    done = run(method, seed, density, options=options, tuning=NOTHING, calibration=EVERYTHING)
    return accuracy(done.model)


@claim(
    "B1",
    statement="Deleting by curvature costs less than deleting by magnitude, without retraining",
    paper="LeCun et al. 1989, figures 1-2: OBD deletes about twice as many for the same error",
    checks={
        "Fisher-OBD at least 10 points above magnitude at 10 %": lambda f: (
            f["Fisher 10 %"] - f["magnitude 10 %"] >= 10
        )
    },
)
def b1(seed: int) -> dict[str, float]:
    return {
        f"{label} {round(100 * d)} %": kept(method, seed, d, **options)
        for d in (0.10, 0.05)
        for label, method, options in (
            ("magnitude", "han-magnitude", {}),
            ("Fisher", "fisher-diag", {}),
            ("Hutchinson", "obd", {"batch_size": EVERYTHING}),
            ("Gauss-Newton", "obd", {"curvature": "gauss-newton"}),
        )
    }


@claim(
    "B4",
    statement="Order without retraining at 10 %: |w mean g| < magnitude < mean |w g| < Fisher",
    paper="Molchanov et al. 2019 (arXiv 1906.10771) average squares over batches of training",
    checks={
        "|w mean g| below magnitude": lambda f: f["|w mean g|"] < f["magnitude"],
        "magnitude below the mean of |w g|": lambda f: f["magnitude"] < f["mean |w g|"],
        "mean of |w g| below Fisher": lambda f: f["mean |w g|"] < f["Fisher"],
    },
    why="The mean gradient still ranks well here, above magnitude, where the card's "
    "calibration found noise (53.6): probably this training stops further from the "
    "minimum. The rest of the order holds.",
)
def b4(seed: int) -> dict[str, float]:
    return {
        "|w mean g|": kept("taylor-abs", seed, 0.1, examples=False),
        "magnitude": kept("han-magnitude", seed, 0.1),
        "mean |w g|": kept("taylor-abs", seed, 0.1),
        "mean (w g)²": kept("taylor-sq", seed, 0.1),
        "second order": kept("taylor-second", seed, 0.1),
        "Fisher": kept("fisher-diag", seed, 0.1),
    }
