from benchmarks.claims import claim
from benchmarks.claims.h0 import accuracy, run
from sentei.recovery.train import Recipe

NOTHING = Recipe(epochs=0)


@claim(
    "A1",
    statement="Training on after magnitude pruning recovers the accuracy, and beats random pruning",
    paper="Han et al. 2015: AlexNet 9x, VGG-16 13x without loss of accuracy (abstract)",
    checks={
        "fine-tuning recovers at least 15 points at 8x": lambda f: (
            f["magnitude + fine-tune 8x"] - f["magnitude 8x"] >= 15
        ),
        "magnitude beats random by at least 15 points at 16x": lambda f: (
            f["magnitude + fine-tune 16x"] - f["random + fine-tune 16x"] >= 15
        ),
    },
)
def a1(seed: int) -> dict[str, float]:
    return {
        "magnitude 8x": accuracy(run("han-magnitude", seed, 1 / 8, tuning=NOTHING).model),
        **{
            f"{label} + fine-tune {c}x": accuracy(run(method, seed, 1 / c).model)
            for c in (8, 16)
            for label, method in (("magnitude", "han-magnitude"), ("random", "random"))
        },
    }
