from benchmarks.claims import claim
from benchmarks.claims.before import DEEP, DEEP_RECIPE, masks_of, trained
from benchmarks.claims.h0 import setting
from sentei.allocation.weights import select
from sentei.criteria.weights import weigh
from sentei.methods.gradient.samples import scoring_batches


def lowest(seed: int, density: float):
    """The mask with GraSP's sign turned round."""
    given = setting(seed, starts="initial")
    scores = weigh("grasp", given.evidence(scoring_batches(given, 100)))
    return select({n: -s for n, s in scores.items()}, density)


@claim(
    "B9",
    statement="Better than SNIP at extreme sparsity of a deep network, equal on a shallow one",
    paper="Wang et al. 2020 (arXiv 2002.07376), tables 2-3: VGG-19 and ResNet-32 at 98 %",
    checks={
        "at least 15 points above SNIP, deep network at 1 %": lambda f: (
            f["deep GraSP 1 %"] - f["deep SNIP 1 %"] >= 15
        ),
        "within 3 points of SNIP, H0 at 2 %": lambda f: abs(f["GraSP 2 %"] - f["SNIP 2 %"]) <= 3,
        "the other sign loses at least 50 points at 5 %": lambda f: (
            f["GraSP 5 %"] - f["other sign 5 %"] >= 50
        ),
    },
)
def b9(seed: int) -> dict[str, float]:
    figures = {}
    for d in (0.05, 0.02, 0.01):
        label = f"{round(100 * d)} %"
        for name, method in (("GraSP", "grasp"), ("SNIP", "snip")):
            masks = masks_of(method, seed, d, DEEP)
            figures[f"deep {name} {label}"] = trained(masks, seed, DEEP, DEEP_RECIPE)
    for d in (0.10, 0.05, 0.02):
        label = f"{round(100 * d)} %"
        figures[f"GraSP {label}"] = trained(masks_of("grasp", seed, d), seed)
    figures["SNIP 2 %"] = trained(masks_of("snip", seed, 0.02), seed)
    for d in (0.05, 0.02):
        figures[f"other sign {round(100 * d)} %"] = trained(lowest(seed, d), seed)
    return figures
