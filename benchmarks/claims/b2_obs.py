from benchmarks.claims import claim
from benchmarks.claims.surgery import pruned

WAYS = {
    "magnitude": ("han-magnitude", {}),
    "OBD": ("obd", {"curvature": "gauss-newton"}),
    "OBS": ("obs", {}),
}
SPARSITIES = (50, 70, 80, 90)


def table(seed: int, ways: dict) -> dict[str, float]:
    figures = {}
    for percent in SPARSITIES:
        for name, (method, options) in ways.items():
            loss, points = pruned(method, seed, 1 - percent / 100, **options)
            figures[f"{name} {percent} % loss"] = loss
            figures[f"{name} {percent} % accuracy"] = points
    return figures


@claim(
    "B2",
    statement="The surgeon removes far more for the same error than magnitude or the diagonal",
    paper="Hassibi and Stork 1992, table 1: MONK's problems, 76 to 90 % of the weights",
    checks={
        "loss at 70 % at most a quarter of magnitude's": lambda f: (
            f["OBS 70 % loss"] <= f["magnitude 70 % loss"] / 4
        ),
        "accuracy at 70 % at least 4 points above magnitude's": lambda f: (
            f["OBS 70 % accuracy"] - f["magnitude 70 % accuracy"] >= 4
        ),
    },
)
def b2(seed: int) -> dict[str, float]:
    return table(seed, WAYS)


@claim(
    "B11",
    statement="The full Fisher, computed anew every 100 removals, loses far less than magnitude",
    paper="Singh and Alistarh 2020 (arXiv 2004.14340), figures 3-4: gradual, with recomputation",
    checks={
        "loss at 70 % at most a quarter of magnitude's": lambda f: (
            f["Fisher 70 % loss"] <= f["magnitude 70 % loss"] / 4
        ),
        "loss at 80 % at most a quarter of magnitude's": lambda f: (
            f["Fisher 80 % loss"] <= f["magnitude 80 % loss"] / 4
        ),
    },
)
def b11(seed: int) -> dict[str, float]:
    ways = {
        "magnitude": WAYS["magnitude"],
        "Fisher": ("obs", {"curvature": "fisher", "every": 100}),
    }
    return table(seed, ways)
