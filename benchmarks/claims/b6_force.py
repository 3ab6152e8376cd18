from benchmarks.claims import claim
from benchmarks.claims.before import DEEP, DEEP_RECIPE, masks_of, trained

METHODS = {
    "SNIP": ("snip", {}),
    "FORCE": ("force", {"steps": 60}),
    "iter-SNIP": ("iter-snip", {"steps": 60}),
}


@claim(
    "B6",
    statement="On a deep network many shots beat a single one beyond 95 %, and not before",
    paper="de Jorge et al. 2021 (arXiv 2006.09081), figure 2: trainable up to 99.5 %",
    checks={
        f"{name} at least 8 points above SNIP at {d}": (
            lambda f, name=name, d=d: f[f"{name} {d}"] - f[f"SNIP {d}"] >= 8
        )
        for name in ("FORCE", "iter-SNIP")
        for d in ("1 %", "0.5 %")
    }
    | {
        "the single shot wins at 5 %": lambda f: (
            f["SNIP 5 %"] > max(f["FORCE 5 %"], f["iter-SNIP 5 %"])
        )
    },
)
def b6(seed: int) -> dict[str, float]:
    return {
        f"{label} {100 * d:g} %": trained(
            masks_of(method, seed, d, DEEP, samples=256, **options), seed, DEEP, DEEP_RECIPE
        )
        for d in (0.05, 0.01, 0.005)
        for label, (method, options) in METHODS.items()
    }


@claim(
    "B7",
    statement="On the shallow H0 network the same comparison shows no such gap",
    paper="the card's own calibration; no claim of the paper",
    checks={
        "FORCE within 15 points of SNIP at 1 %": lambda f: abs(f["FORCE 1 %"] - f["SNIP 1 %"]) <= 15
    },
)
def b7(seed: int) -> dict[str, float]:
    return {
        f"{label} {100 * d:g} %": trained(masks_of(method, seed, d, **options), seed)
        for d in (0.02, 0.01)
        for label, (method, options) in METHODS.items()
    }
