from collections.abc import Callable
from itertools import pairwise

from benchmarks.claims import claim
from benchmarks.claims.before import DEEP, masks_of, scored, trained
from sentei.structures import Masks

LAYERS = len(DEEP) - 1
WEIGHTS = sum(a * b for a, b in pairwise(DEEP))
MOST = WEIGHTS / LAYERS


def critical(masks: Callable[[float], Masks]) -> float:
    """The largest compression, of 10^(j/8) and N/L, that leaves a weight in every layer."""
    reached = 1.0
    for c in [*(10 ** (j / 8) for j in range(1, 32)), MOST]:
        if all(m.any() for m in masks(1 / c).values()):
            reached = c
    return reached


@claim(
    "B8",
    statement="Only synaptic flow in many steps reaches maximal critical compression, N/L",
    paper="Tanaka et al. 2020 (arXiv 2006.05467), figure 1: VGG-16, others collapse at 10^2-10^3",
    checks={
        "100 steps reach N/L": lambda f: f["SynFlow, 100 steps"] == MOST,
        "all others stay below N/4L": lambda f: (
            max(v for n, v in f.items() if n not in ("SynFlow, 100 steps", "SynFlow, 10 steps"))
            < MOST / 4
        ),
    },
)
def b8(seed: int) -> dict[str, float]:
    return {
        **{
            f"SynFlow, {n} step{'s' if n > 1 else ''}": critical(
                lambda d, n=n: masks_of("synflow", seed, d, DEEP, steps=n)
            )
            for n in (100, 10, 1)
        },
        "random": critical(lambda d: scored("random-weights", seed, d, DEEP)),
        "magnitude": critical(lambda d: scored("magnitude", seed, d, DEEP)),
        "SNIP": critical(lambda d: masks_of("snip", seed, d, DEEP)),
        "GraSP": critical(lambda d: masks_of("grasp", seed, d, DEEP)),
    }


@claim(
    "B8-2",
    statement="Synaptic flow in many steps keeps accuracy at extreme sparsity",
    paper="Tanaka et al. 2020, figure 6: VGG and ResNet beyond 10^2",
    checks={
        "100 steps at least 50 points above one at 2 %": lambda f: (
            f["SynFlow-100 2 %"] - f["SynFlow-1 2 %"] >= 50
        ),
        "100 steps at least 5 points above SNIP at 1 %": lambda f: (
            f["SynFlow-100 1 %"] - f["SNIP 1 %"] >= 5
        ),
    },
)
def b8_accuracy(seed: int) -> dict[str, float]:
    figures = {}
    for d in (0.02, 0.01):
        label = f"{round(100 * d)} %"
        for steps in (100, 1):
            masks = masks_of("synflow", seed, d, steps=steps)
            figures[f"SynFlow-{steps} {label}"] = trained(masks, seed)
        figures[f"SNIP {label}"] = trained(masks_of("snip", seed, d), seed)
    return figures
