from benchmarks.claims import claim
from benchmarks.claims.b1_curvature import NOTHING
from benchmarks.claims.h0 import accuracy, run


@claim(
    "B11-2",
    statement="One shot of block Fisher beats magnitude at moderate sparsity, and not at high",
    paper="Singh and Alistarh 2020 (arXiv 2004.14340), figure 2: ResNet-20 and 50, one shot",
    checks={
        "above magnitude at 25 %": lambda f: f["blocks 25 %"] > f["magnitude 25 %"],
        "not above the diagonal at 10 %": lambda f: f["blocks 10 %"] <= f["diagonal 10 %"],
    },
)
def b11_one_shot(seed: int) -> dict[str, float]:
    ways = {
        "magnitude": ("han-magnitude", {}),
        "blocks": ("woodfisher", {"block": 100}),
        "blocks without update": ("woodfisher", {"block": 100, "update": False}),
        "diagonal": ("woodfisher", {"block": 1, "update": False}),
    }
    return {
        f"{label} {round(100 * d)} %": accuracy(
            run(method, seed, d, options=options, tuning=NOTHING, calibration=800).model
        )
        for d in (0.25, 0.10)
        for label, (method, options) in ways.items()
    }
