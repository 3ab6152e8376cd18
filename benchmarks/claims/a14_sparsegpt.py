from benchmarks.claims import claim
from benchmarks.claims.h0 import accuracy, run
from sentei.recovery.train import Recipe

NOTHING = Recipe(epochs=0)


@claim(
    "A14",
    statement="Correcting what stays prunes in one shot where magnitude fails",
    paper="Frantar and Alistarh 2023, table 1: OPT-175B at 50 %: perplexity 8.21, dense 8.35, "
    "magnitude 1.7e4",
    checks={
        "at least 5 points above magnitude at 80 %": lambda f: (
            f["sparsegpt 0.8"] - f["magnitude 0.8"] >= 5
        ),
        "at least 10 points above magnitude at 90 %": lambda f: (
            f["sparsegpt 0.9"] - f["magnitude 0.9"] >= 10
        ),
    },
)
def a14(seed: int) -> dict[str, float]:
    figures = {}
    for label, density, ours, rows, theirs in (
        ("0.8", 0.2, "uniform", "rows", "uniform"),
        ("0.9", 0.1, "uniform", "rows", "uniform"),
        ("2:4", 0.5, "2:4", "2:4", "2:4"),
    ):
        figures[f"sparsegpt {label}"] = accuracy(
            run("sparsegpt", seed, density, options={"scope": ours}).model
        )
        figures[f"wanda {label}"] = accuracy(
            run("wanda", seed, density, options={"scope": rows}).model
        )
        done = run("han-magnitude", seed, density, tuning=NOTHING, options={"scope": theirs})
        figures[f"magnitude {label}"] = accuracy(done.model)
    return figures
