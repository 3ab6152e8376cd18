from benchmarks.claims import claim
from benchmarks.claims.h0 import accuracy, setting
from sentei.methods import METHODS, apply
from sentei.recovery.train import Recipe


@claim(
    "A2",
    statement="Weights that may come back keep a network alive that pruning alone kills",
    paper="Guo et al. 2016: LeNet-5 108x, AlexNet 17.7x without loss of accuracy (abstract)",
    checks={
        "with splicing at least 95 at c = 3": lambda f: f["splicing, c = 3"] >= 95,
        "without at most 90 at c = 3": lambda f: f["no splicing, c = 3"] <= 90,
        "weights were spliced back": lambda f: f["weights spliced, c = 3"] > 0,
    },
)
def a2(seed: int) -> dict[str, float]:
    figures = {}
    for c in (2.0, 3.0, 4.0):
        for label, splice in (("splicing", True), ("no splicing", False)):
            given = setting(
                seed, recipe=Recipe(epochs=20, lr=0.05), tuning=Recipe(epochs=60, lr=0.05)
            )
            hooks, train = [], given.train
            given.train = lambda hook, train=train, hooks=hooks, **o: (
                hooks.extend(hook) or train(hook, **o)
            )
            done = apply(
                METHODS["dynamic-network-surgery"], given, c_rate=c, gamma=1e-3, splice=splice
            )
            figures[f"{label}, c = {c:g}"] = accuracy(done.model)
            figures[f"{label}, density in %, c = {c:g}"] = 100 * done.density
            if splice:
                figures[f"weights spliced, c = {c:g}"] = float(hooks[0].spliced)
    return figures
