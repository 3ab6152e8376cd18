from benchmarks.claims import claim
from benchmarks.claims.h0 import accuracy, run
from sentei.recovery.train import Recipe


@claim(
    "A9",
    statement="One target ratio is enough: the network finds ratios of its own for each layer",
    paper="Yao et al. 2021, table 1: no hyper-parameter but the target, on par with tuned methods",
    checks={
        "the last layer stays more than 1.5 times as dense as the first": lambda f: (
            f["ratio of layer 3"] > 1.5 * f["ratio of layer 1"]
        ),
        "accuracy at least 97": lambda f: f["accuracy"] >= 97,
    },
)
def a9(seed: int) -> dict[str, float]:
    done = run("leap", seed, 0.2, tuning=Recipe(epochs=80, lr=0.02))
    assert done.masks is not None
    kept = list(done.masks.densities().values())
    return {
        "accuracy": accuracy(done.model),
        "density in %": 100 * done.density,
        **{f"ratio of layer {i}": k for i, k in enumerate(kept, 1)},
    }
