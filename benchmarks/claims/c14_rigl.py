from benchmarks.claims import claim
from benchmarks.claims.h0 import accuracy, run
from sentei.recovery.train import Recipe

LONG = Recipe(epochs=60, lr=0.05)


@claim(
    "C14",
    statement="Growing by gradients beats growing at random, which beats not moving, the more so "
    "the sparser",
    paper="Evci et al. 2020, figure 2: ResNet-50 at 80 %: static 70.6, SET 72.9, RigL 74.6",
    checks={
        "at 2 % RigL is at least 1 point above SET": lambda f: f["rigl 0.02"] >= f["set 0.02"] + 1,
        "at 2 % RigL is at least 8 points above static": lambda f: (
            f["rigl 0.02"] >= f["static 0.02"] + 8
        ),
        "at 1 % RigL is at least 20 points above SET": lambda f: (
            f["rigl 0.01"] >= f["set 0.01"] + 20
        ),
        "at 1 % RigL is at least 40 points above static": lambda f: (
            f["rigl 0.01"] >= f["static 0.01"] + 40
        ),
    },
)
def c14(seed: int) -> dict[str, float]:
    kinds = {
        "rigl": ("rigl", {"interval": 20}),
        "set": ("set", {"interval": 20}),
        "static": ("set", {"fraction": 0.0}),
    }
    return {
        f"{name} {density}": accuracy(
            run(method, seed, density, recipe=LONG, options=options).model
        )
        for density in (0.05, 0.02, 0.01)
        for name, (method, options) in kinds.items()
    }
