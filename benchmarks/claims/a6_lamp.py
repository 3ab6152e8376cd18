from benchmarks.claims import claim
from benchmarks.claims.h0 import accuracy, run


@claim(
    "A6",
    statement="LAMP beats uniform and global magnitude pruning and needs no tuning",
    paper="Lee et al. 2021, figure 1 and table 2: best of the magnitude methods on VGG-16, ResNet, "
    "DenseNet, EfficientNet",
    checks={
        "LAMP is at least 2 points above uniform at 32x": lambda f: (
            f["lamp 32x"] - f["uniform 32x"] >= 2
        ),
        "LAMP is at least 10 points above global at 32x": lambda f: (
            f["lamp 32x"] - f["global 32x"] >= 10
        ),
    },
)
def a6(seed: int) -> dict[str, float]:
    figures = {}
    for c in (32, 64):
        figures[f"lamp {c}x"] = accuracy(run("lamp", seed, 1 / c).model)
        for scope in ("erk", "uniform", "global"):
            model = run("han-magnitude", seed, 1 / c, options={"scope": scope}).model
            figures[f"{scope} {c}x"] = accuracy(model)
    return figures
