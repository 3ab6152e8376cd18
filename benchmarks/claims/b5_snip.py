from functools import partial

from benchmarks.claims import claim
from benchmarks.claims.before import masks_of, scored, shuffled, trained
from benchmarks.claims.h0 import mlp


@claim(
    "B5",
    statement="One shot before training comes close to dense accuracy at 90 to 95 %",
    paper="Lee et al. 2019 (arXiv 1810.02340), table 1: LeNet-300-100 at 95 %, 1.6 -> 2.3 % error",
    checks={
        "at least 30 points above random at 2 %": lambda f: f["SNIP 2 %"] - f["random 2 %"] >= 30
    },
)
def b5(seed: int) -> dict[str, float]:
    figures = {"dense": trained(None, seed)}
    for d in (0.05, 0.02, 0.01):
        label = f"{round(100 * d)} %"
        figures[f"SNIP {label}"] = trained(masks_of("snip", seed, d), seed)
        figures[f"random {label}"] = trained(scored("random-weights", seed, d), seed)
        figures[f"magnitude {label}"] = trained(scored("magnitude", seed, d), seed)
    return figures


@claim(
    "B5-2",
    statement="Only the layers' densities matter: shuffling or new weights keep the accuracy",
    paper="Frankle et al. 2021 (arXiv 2009.08576), figures 4-5, ResNets and VGG",
    checks={
        "shuffled within 1 point at 10 %": lambda f: f["10 %"] - f["shuffled 10 %"] <= 1,
        **{
            f"new weights within 6 points at {d}": (
                lambda f, d=d: f[d] - f[f"new weights {d}"] <= 6
            )
            for d in ("10 %", "5 %", "2 %", "1 %")
        },
        "but shuffling loses at least 10 points at 2 %": lambda f: (
            f["2 %"] - f["shuffled 2 %"] >= 10
        ),
    },
    why="With 502 weights in all, at 1 %, new weights lose two or three points more than in "
    "the card's calibration (6.0), with a spread over seeds as large as the loss.",
)
def b5_shuffled(seed: int) -> dict[str, float]:
    figures = {}
    for d in (0.10, 0.05, 0.02, 0.01):
        label, masks = f"{round(100 * d)} %", masks_of("snip", seed, d)
        figures[label] = trained(masks, seed)
        figures[f"shuffled {label}"] = trained(shuffled(masks, seed), seed)
        figures[f"new weights {label}"] = trained(masks, seed, start=partial(mlp, 100 + seed))
    return figures
