from benchmarks.claims import claim
from benchmarks.claims.transfer import accuracy, setting
from sentei.methods import METHODS, apply
from sentei.recovery.train import Recipe

RECIPE = Recipe(epochs=30, lr=0.02)  # how H0 fine-tunes
KINDS = {
    "layerwise magnitude": {"score": "magnitude", "scope": "uniform"},
    "global magnitude": {"score": "magnitude", "scope": "global"},
    "global normalised": {"score": "normalised", "scope": "global"},
    "gradient": {"score": "gradient", "scope": "global"},
    "random": {"score": "random", "scope": "uniform"},
}


@claim(
    "A11",
    statement="Magnitudes of a pre-trained network say before fine-tuning which weights to keep, "
    "within layers",
    paper="Kohama et al. 2023, abstract: more accurate than earlier methods on CIFAR and ImageNet",
    checks={
        "layerwise magnitude is at least 2 points above random at 5 %": lambda f: (
            f["layerwise magnitude 0.05"] - f["random 0.05"] >= 2
        ),
        "layerwise magnitude is at least 8 points above random at 2 %": lambda f: (
            f["layerwise magnitude 0.02"] - f["random 0.02"] >= 8
        ),
        "global magnitude collapses at 2 %, 30 points below layerwise or more": lambda f: (
            f["layerwise magnitude 0.02"] - f["global magnitude 0.02"] >= 30
        ),
    },
    why="Random masks transfer better here than in the card's calibration (94.9 at 5 %, 82.7 "
    "at 2 %), which leaves less to gain; magnitude within layers is where the card has "
    "it.",
)
def a11(seed: int) -> dict[str, float]:
    figures = {}
    for density in (0.05, 0.02):
        for label, options in KINDS.items():
            given = setting(seed, density, RECIPE)
            done = apply(METHODS["single-shot-pretrained"], given, **options)
            figures[f"{label} {density}"] = accuracy(done.model)
    return figures
